"""Temperature scaling: probabilities that are as sure as they may be (Guo et al. 2017)."""

from __future__ import annotations

import numpy as np

LIMITS = (0.25, 20.0)  # of a fitted temperature: log-odds grow fourfold at most
_STEPS = 100  # bisections: to the last bit of a float64
_LEAST = 2.0**-53  # nearest probability to 0 or 1: the next one below 1 as a float64


def fit(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that fits probabilities to labels: the one with the smallest cross-entropy
    of ``apply(probabilities, temperature)`` (Guo et al. 2017, "On calibration of modern neural
    networks").

    Where the model separates the classes it would be zero, and the lower limit is taken.

    Args:
        probabilities: of tampered, float (n).
        labels: 0 authentic, 1 tampered (n).

    Returns:
        Above 1 for a network that is too sure, below 1 for one that is too cautious; within
        ``LIMITS``, whose upper end stands for a network that knows nothing about these pictures.
        1 if a class has no pictures or a probability is not finite.
    """
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels).astype(bool)
    if not y.any() or y.all() or not np.isfinite(p).all():
        return 1.0
    odds = log_odds(p)
    # the cross-entropy is convex in 1 / temperature: its slope changes its sign once
    low, high = 1 / LIMITS[1], 1 / LIMITS[0]
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if float(np.mean((_sigmoid(odds * middle) - y) * odds)) < 0:
            low = middle
        else:
            high = middle
    return float(np.clip(2 / (low + high), *LIMITS))


def apply(probabilities: np.ndarray | float, temperature: float) -> np.ndarray:
    """Probabilities whose log-odds are divided by ``temperature``: 0.5 stays 0.5, and the order of
    pictures stays the same. ``1 / temperature`` undoes it, except within 1e-16 of 0 or 1.

    Args:
        probabilities: of tampered, float of any shape.
        temperature: above 0; 1 changes nothing.

    Returns:
        float64, of the same shape.
    """
    p = np.asarray(probabilities, np.float64)
    return p if temperature == 1 else of_odds(log_odds(p), temperature)


def of_odds(odds: np.ndarray, temperature: float) -> np.ndarray:
    """``apply`` to log-odds, float of any shape, which have no ends: a float64 gets to 1 only at
    37, and divided by the temperature such odds still tell pictures apart."""
    with np.errstate(over="ignore"):  # of impossible temperatures, which become 0, ½ and 1
        return _sigmoid(odds / temperature)


def log_odds(p: np.ndarray) -> np.ndarray:
    """Of probabilities, float64 of any shape; finite for 0 and 1, too."""
    inside = np.clip(np.asarray(p, np.float64), _LEAST, 1 - _LEAST)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def _sigmoid(odds: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-odds)))
