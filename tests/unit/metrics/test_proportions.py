"""Intervals of shares, and precision at other class balances, against published figures."""

from __future__ import annotations

import numpy as np
import pytest

from hpc_deepfake.metrics import prevalence, proportions


@pytest.mark.parametrize(("hits", "number", "low", "high"), [
    (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611),
    (1, 29, 0.0061, 0.1718)])
def test_wilson_as_published(hits, number, low, high):
    """The four cases of Newcombe (1998), "Two-sided confidence intervals for the single
    proportion", method 3."""
    assert proportions.wilson(hits / number, number) == pytest.approx((low, high), abs=5e-5)
    values = np.arange(number) < hits
    assert proportions.interval(values, np.arange(number)) == pytest.approx((low, high), abs=5e-5)


def test_pictures_of_one_source_count_for_fewer():
    """Ten groups of ten: alike within each they are ten pictures, mixed at random a hundred."""
    groups = np.repeat(np.arange(10), 10)
    alike = groups < 4
    assert proportions.effective(alike, groups) == pytest.approx(9, abs=0.1)  # m - 1 = 9 of 10
    random = np.random.default_rng(3).random(100) < 0.4
    assert proportions.effective(random, groups) > 60
    assert proportions.effective(random, np.arange(100)) == 100
    narrow, wide = proportions.interval(random, groups), proportions.interval(alike, groups)
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])
    assert proportions.effective(np.zeros(100, bool), groups) == 10, "no variance to see"


def test_the_interval_covers():
    """Of 400 samples with groups that are alike, about 95% of the intervals hold the truth; taken
    as independent pictures far fewer do."""
    random = np.random.default_rng(1)
    groups = np.repeat(np.arange(60), 8)
    covered = naive = 0
    for _ in range(400):
        rates = random.beta(0.4, 1.6, 60)  # mean 0.2
        hits = random.random(480) < rates[groups]
        low, high = proportions.interval(hits, groups)
        covered += low <= 0.2 <= high
        low, high = proportions.wilson(hits.mean(), 480)
        naive += low <= 0.2 <= high
    assert 0.91 < covered / 400 < 0.985
    assert naive / 400 < 0.8


def test_one_group_and_none():
    assert proportions.interval(np.array([True, False]), np.zeros(2, int)) is None
    assert proportions.interval(np.empty(0, bool), np.empty(0, int)) is None


def test_precision_by_bayes():
    """90% recall and 10% false positives: 90% where half is tampered, 8.3% where 1 of 100 is."""
    assert prevalence.precision(0.9, 0.1, 0.5) == pytest.approx(0.9)
    assert prevalence.precision(0.9, 0.1, 0.01) == pytest.approx(0.009 / (0.009 + 0.099))
    assert prevalence.precision(0, 0, 0.5) is None
    assert prevalence.precision(0.9, 0, 0.01) == 1


def test_no_false_positive_of_20_is_not_a_precision_of_1():
    """The interval says so, and holds the value; with many pictures it closes in on it."""
    low, high = prevalence.interval(0.9, 20, 0.0, 20, 0.01)
    assert low < 0.05 and high == 1
    low, high = prevalence.interval(0.9, 1e6, 0.1, 1e6, 0.01)
    assert low == pytest.approx(0.0833, abs=1e-3) == high
    assert prevalence.interval(0.9, 1, 0.1, 50, 0.01) is None
    few = prevalence.interval(0.5, 10, 0.1, 1e9, 0.5)  # ends of the recall alone: 0.2 and 0.8
    assert few == pytest.approx((0.2 / 0.3, 0.8 / 0.9), abs=0.02)


def test_the_interval_of_the_precision_covers():
    random = np.random.default_rng(2)
    truth = prevalence.precision(0.8, 0.1, 0.05)
    covered = 0
    for hits, false in zip(random.binomial(40, 0.8, 500), random.binomial(60, 0.1, 500),
                           strict=True):
        low, high = prevalence.interval(hits / 40, 40, false / 60, 60, 0.05)
        covered += low <= truth <= high
    assert covered / 500 > 0.95
