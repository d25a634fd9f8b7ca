"""Calibration: whether of pictures with probability 0.8, 80 of 100 were tampered with."""

from __future__ import annotations

import numpy as np


def reliability(probabilities: np.ndarray, labels: np.ndarray,
                bins: int = 10) -> list[tuple[float, float, int]]:
    """Points of the reliability diagram (Niculescu-Mizil & Caruana 2005), without empty bins.

    Args:
        probabilities: of tampered, float (n).
        labels: 0 authentic, 1 tampered (n).
        bins: number of bins of equal width over 0…1; each includes its lower edge, the last one
            both edges.

    Returns:
        (mean probability, share tampered, number of pictures) of each bin, by rising probability.
        Rows whose probability is not finite are left out.
    """
    p = np.asarray(probabilities, np.float64)
    y = np.asarray(labels, np.float64)[np.isfinite(p)]
    p = p[np.isfinite(p)]
    which = np.minimum((p * bins).astype(int), bins - 1)
    counts = np.bincount(which, minlength=bins)
    sums, tampered = (np.bincount(which, values, bins) for values in (p, y))
    return [(float(sums[i] / counts[i]), float(tampered[i] / counts[i]), int(counts[i]))
            for i in np.flatnonzero(counts)]


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray,
                               bins: int = 10) -> float | None:
    """Mean distance of the reliability diagram from its diagonal, weighted by pictures (Naeini et
    al. 2015), of the probability of tampered.

    0 is perfect; with few pictures per bin it is overestimated. None without rows, or if a
    probability is not finite.
    """
    if not np.isfinite(probabilities).all():
        return None
    points = reliability(probabilities, labels, bins)
    rows = sum(count for _, _, count in points)
    error = sum(count * abs(predicted - share) for predicted, share, count in points)
    return error / rows if rows else None


def brier(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """Mean squared difference of probability and label (Brier 1950): 0 is perfect, 0.25 comes from
    always predicting one half. None without rows, or if a probability is not finite."""
    p = np.asarray(probabilities, np.float64)
    defined = len(p) and np.isfinite(p).all()
    return float(np.mean((p - np.asarray(labels, np.float64)) ** 2)) if defined else None
