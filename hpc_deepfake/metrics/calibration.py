"""Whether a probability of 0.8 means that 80 of 100 such pictures were tampered with."""

from __future__ import annotations

import numpy as np


def reliability(probabilities: np.ndarray, labels: np.ndarray,
                bins: int = 10) -> list[tuple[float, float, int]]:
    """Points of the reliability diagram (Niculescu-Mizil & Caruana 2005), without empty bins.

    Args:
        probabilities: of tampered, float (n). labels: 0 or 1 (n). bins: of equal width over
            0…1; each holds its lower edge, the last one both.

    Returns:
        (mean probability, share tampered, number of pictures) of each bin, by rising probability.
        Rows whose probability is not a number are left out.
    """
    p = np.asarray(probabilities, np.float64)
    y = np.asarray(labels, np.float64)[np.isfinite(p)]
    p = p[np.isfinite(p)]
    which = np.minimum((p * bins).astype(int), bins - 1)
    counts = np.bincount(which, minlength=bins)
    sums, tampered = (np.bincount(which, values, bins) for values in (p, y))
    return [(float(sums[one] / counts[one]), float(tampered[one] / counts[one]), int(counts[one]))
            for one in np.flatnonzero(counts)]


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray,
                               bins: int = 10) -> float | None:
    """Mean distance of the reliability diagram from its diagonal, weighted by pictures.

    (Naeini et al. 2015, of the probability of "tampered".) 0 is perfect; few pictures per bin
    make it too large. None without rows.
    """
    points = reliability(probabilities, labels, bins)
    rows = sum(count for _, _, count in points)
    return sum(count * abs(said - found) for said, found, count in points) / rows if rows else None


def brier(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """Mean squared distance of probability and truth (Brier 1950): 0 perfect, 0.25 for always
    saying one half. None without rows."""
    p = np.asarray(probabilities, np.float64)
    return float(np.mean((p - np.asarray(labels, np.float64)) ** 2)) if len(p) else None
