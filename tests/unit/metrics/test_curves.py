"""Curves over all thresholds against points computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hpc_deepfake import metrics
from hpc_deepfake.metrics import curves

# three tampered rows and five authentic ones; 0.4 comes in both classes
LABELS = np.array([1, 0, 0, 1, 0, 0, 1, 0], np.uint8)
SCORES = np.array([0.9, 0.1, 0.8, 0.5, 0.2, 0.3, 0.4, 0.4])


def test_roc_by_hand():
    """A point per distinct probability, ties together, from nothing predicted tampered to all."""
    false, true, thresholds = curves.roc(SCORES, LABELS)
    assert thresholds.tolist() == [np.inf, 0.9, 0.8, 0.5, 0.4, 0.3, 0.2, 0.1]
    assert false == pytest.approx(np.array([0, 0, 1, 1, 2, 3, 4, 5]) / 5)
    assert true == pytest.approx(np.array([0, 1, 1, 2, 3, 3, 3, 3]) / 3)


def test_precision_recall_by_hand():
    recall, precision, thresholds = curves.precision_recall(SCORES, LABELS)
    assert thresholds.tolist() == [0.9, 0.8, 0.5, 0.4, 0.3, 0.2, 0.1]
    assert recall == pytest.approx(np.array([1, 1, 2, 3, 3, 3, 3]) / 3)
    assert precision == pytest.approx([1, 1 / 2, 2 / 3, 3 / 5, 3 / 6, 3 / 7, 3 / 8])


@pytest.mark.parametrize("values", [2, 7, 1000])
def test_curves_agree_with_the_figures_at_every_threshold(values):
    """Each point agrees with metrics.evaluate at that threshold; the area below is the AUC."""
    random = np.random.default_rng(values)
    labels = random.integers(0, 2, 200)
    scores = random.integers(0, values, 200) / values
    false, true, thresholds = curves.roc(scores, labels)
    recall, precision, same = curves.precision_recall(scores, labels)
    assert same.tolist() == thresholds[1:].tolist()
    assert np.trapezoid(true, false) == pytest.approx(metrics.auc(scores, labels), rel=1e-12)
    for place in range(0, len(thresholds), max(1, len(thresholds) // 20)):
        figures = metrics.evaluate(scores, labels, thresholds[place])
        assert figures["recall"] == pytest.approx(true[place])
        assert figures["fp"] / (figures["fp"] + figures["tn"]) == pytest.approx(false[place])
        if place:
            assert figures["precision"] == pytest.approx(precision[place - 1])
            assert figures["recall"] == pytest.approx(recall[place - 1])


def test_youden_by_hand():
    """J is largest at 0.4 (1 - 2/5): the threshold is midway to the next lower one, 0.3."""
    assert curves.youden(SCORES, LABELS) == pytest.approx(0.35)


def test_youden_is_the_best_balanced_accuracy():
    random = np.random.default_rng(5)
    labels = random.integers(0, 2, 300)
    scores = (random.random(300) + 0.3 * labels) / 1.3
    best = metrics.evaluate(scores, labels, curves.youden(scores, labels))["balanced_accuracy"]
    assert best == pytest.approx(
        max(metrics.evaluate(scores, labels, score)["balanced_accuracy"] for score in scores),
        abs=1e-12)
    assert best > metrics.evaluate(scores, labels)["balanced_accuracy"]


def test_youden_takes_the_threshold_nearest_to_one_half():
    """0.75 and 0.3 are equally good."""
    assert curves.youden([0.9, 0.6, 0.5, 0.1], [1, 0, 1, 0]) == pytest.approx(0.3)
    assert curves.youden([0.2, 0.1], [0, 1]) == pytest.approx(0.6), "nothing is predicted tampered"


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only(label):
    """The rates of the other class are NaN, and no threshold is best."""
    false, true, _ = curves.roc(np.array([0.2, 0.7]), np.full(2, label))
    present, missing = (true, false) if label else (false, true)
    assert present.tolist() == [0, 0.5, 1] and np.isnan(missing).all()
    assert curves.youden(np.array([0.2, 0.7]), np.full(2, label)) is None


def test_no_rows():
    none = np.empty(0)
    assert [len(values) for values in curves.roc(none, none)] == [1, 1, 1]
    assert [len(values) for values in curves.precision_recall(none, none)] == [0, 0, 0]
    assert curves.youden(none, none) is None


def test_a_probability_that_is_not_finite_has_no_best_threshold():
    assert curves.youden([0.1, np.nan, 0.7], [0, 0, 1]) is None


@pytest.mark.parametrize(("rate", "threshold"), [
    (0, 0.9), (0.19, 0.9), (0.2, 0.6), (0.4, 0.35), (0.6, 0.25), (1, 0.05)])
def test_threshold_for_false_positives_by_hand(rate, threshold):
    """The lowest one that accuses at most this share of the five authentic pictures, midway to the
    next picture below."""
    authentic = SCORES[LABELS == 0]
    assert curves.for_false_positives(authentic, rate) == pytest.approx(threshold)


@pytest.mark.parametrize(("rate", "threshold"), [
    (0, 0.2), (0.33, 0.2), (0.34, 0.45), (0.67, 0.7), (1, 0.95)])
def test_threshold_for_false_negatives_by_hand(rate, threshold):
    tampered = SCORES[LABELS == 1]
    assert curves.for_false_negatives(tampered, rate) == pytest.approx(threshold)


def test_rates_hold_with_ties_and_at_the_ends():
    random = np.random.default_rng(7)
    scores = (random.integers(0, 12, 300) + 0.5) / 12
    for rate in (0.05, 0.1, 0.5, 0.9):
        threshold = curves.for_false_positives(scores, rate)
        assert np.mean(scores >= threshold) <= rate
        lower = scores[scores < threshold].max(initial=0)
        assert np.mean(scores >= lower) > rate, "a lower threshold accuses too many"
        assert np.mean(scores < curves.for_false_negatives(scores, rate)) <= rate
    assert curves.for_false_positives(np.ones(3), 0.5) is None, "all have probability 1"
    assert curves.for_false_negatives(np.zeros(3), 0.5) == 0
    for choose in (curves.for_false_positives, curves.for_false_negatives):
        assert choose(np.empty(0), 0.1) is choose(np.array([0.2, np.nan]), 0.1) is None
