"""Calibration against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hpc_deepfake.metrics import calibration

P = np.array([0.05, 0.15, 0.15, 0.55, 0.55, 0.55, 0.55, 0.95])
Y = np.array([0, 0, 1, 1, 1, 1, 0, 1], np.uint8)


def test_reliability_by_hand():
    """Four of ten bins have pictures."""
    points = calibration.reliability(P, Y)
    assert [count for *_, count in points] == [1, 2, 4, 1]
    assert [predicted for predicted, *_ in points] == pytest.approx([0.05, 0.15, 0.55, 0.95])
    assert [share for _, share, _ in points] == [0, 0.5, 0.75, 1]


def test_expected_calibration_error_by_hand():
    expected = (1 * 0.05 + 2 * 0.35 + 4 * 0.2 + 1 * 0.05) / 8
    assert calibration.expected_calibration_error(P, Y) == pytest.approx(expected)
    # one bin: only the means count
    assert calibration.expected_calibration_error(P, Y, 1) == pytest.approx(
        abs(P.mean() - Y.mean()))


def test_brier_by_hand():
    assert calibration.brier([0.8, 0.4], [1, 0]) == pytest.approx((0.04 + 0.16) / 2)
    assert calibration.brier(np.full(6, 0.5), [0, 1, 0, 1, 1, 1]) == 0.25


def test_ends_of_the_bins():
    """0 and 1 belong to the first and the last of ten bins; an inner edge to the bin above it."""
    points = calibration.reliability([0.0, 1.0, 0.5, 0.49], [0, 1, 1, 0])
    assert [count for *_, count in points] == [1, 1, 1, 1]
    assert [predicted for predicted, *_ in points] == [0, 0.49, 0.5, 1]


def test_the_error_is_small_for_a_calibrated_model_and_large_for_an_overconfident_one():
    """Labels drawn by the probabilities; then the same with probabilities pushed to the ends."""
    random = np.random.default_rng(0)
    p = random.random(20_000)
    y = random.random(20_000) < p
    assert calibration.expected_calibration_error(p, y) < 0.02
    assert calibration.expected_calibration_error((p > 0.5).astype(float), y) > 0.2
    assert calibration.brier(p, y) == pytest.approx(1 / 6, abs=0.01)  # mean of p (1 - p)


def test_no_rows_and_no_numbers():
    """None without rows, and for a diverged model, whose NaN only the diagram leaves out."""
    assert calibration.reliability([], []) == []
    assert calibration.expected_calibration_error([], []) is calibration.brier([], []) is None
    assert calibration.reliability([np.nan, 0.2], [1, 0]) == [(0.2, 0.0, 1)]
    assert calibration.brier([np.nan, 0.2], [1, 0]) is None
    assert calibration.expected_calibration_error([np.nan, 0.2], [1, 0]) is None
