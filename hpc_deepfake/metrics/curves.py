"""Curves over all thresholds; "positive" means tampered."""

from __future__ import annotations

import numpy as np


def roc(probabilities: np.ndarray,
        labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The receiver operating characteristic (Fawcett 2006): one point per distinct probability.

    Args:
        probabilities: of tampered, float (n).
        labels: 0 authentic, 1 tampered (n).

    Returns:
        False positive rate, true positive rate and threshold, each float64 (k + 1) for k distinct
        probabilities: from (0, 0) at infinity to (1, 1) at the lowest probability. The rate of a
        class without rows is NaN.
    """
    thresholds, tp, fp = _counts(probabilities, labels)
    with np.errstate(invalid="ignore"):
        return fp / fp[-1], tp / tp[-1], thresholds


def precision_recall(probabilities: np.ndarray,
                     labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision over recall (Davis & Goadrich 2006): one point per distinct probability.

    Args:
        probabilities: of tampered, float (n).
        labels: 0 authentic, 1 tampered (n).

    Returns:
        Recall, precision and threshold, each float64 (k) for k distinct probabilities, by rising
        recall. Without tampered rows, recall is NaN.
    """
    thresholds, tp, fp = (values[1:] for values in _counts(probabilities, labels))
    with np.errstate(invalid="ignore"):
        return tp / tp[-1:], tp / (tp + fp), thresholds


def youden(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """Threshold with the largest J = true positive rate - false positive rate (Youden 1950).

    It also has the best balanced accuracy, (J + 1) / 2. It is midway between the lowest probability
    predicted tampered and the next lower one, so that rounding moves no picture across it. Of
    several equally good thresholds the one nearest to 0.5 is returned.

    Returns:
        The threshold; None if a class has no rows, or if a probability is not finite.
    """
    if not np.isfinite(probabilities).all():
        return None
    false, true, thresholds = roc(probabilities, labels)
    gain = true - false
    if not np.isfinite(gain).all():
        return None
    below = np.append(thresholds[1:], 0.0)
    middles = (np.minimum(thresholds, 1.0) + below) / 2  # the first: nothing is predicted tampered
    best = middles[np.isclose(gain, gain.max(), rtol=0, atol=1e-12)]
    return float(best[np.argmin(np.abs(best - 0.5))])


def for_false_positives(authentic: np.ndarray, rate: float,
                        highest: float = 1.0) -> float | None:
    """The lowest threshold at which at most this share of authentic pictures is predicted tampered.

    It is midway between two probabilities, as that of ``youden``.

    Args:
        authentic: probabilities of authentic pictures, float (n).
        rate: the share, 0 to 1.
        highest: probability that there can be.

    Returns:
        The threshold; None without pictures, if a probability is not finite, or if more pictures
        than that have the highest probability.
    """
    if not len(authentic) or not np.isfinite(authentic).all():
        return None
    thresholds, _, accused = _counts(authentic, np.zeros(len(authentic)))
    last = int(np.flatnonzero(accused <= rate * len(authentic) * (1 + 1e-12))[-1])
    if last == 0 and thresholds[1] >= highest:
        return None
    below = float(thresholds[last + 1]) if last + 1 < len(thresholds) else 0.0
    return (min(float(thresholds[last]), highest) + below) / 2


def for_false_negatives(tampered: np.ndarray, rate: float) -> float | None:
    """The highest threshold at which at most this share of tampered pictures is predicted
    authentic; 0 if more than that have probability 0.

    Args:
        tampered: probabilities of tampered pictures, float (n).
        rate: the share, 0 to 1.

    Returns:
        The threshold; None without pictures, or if a probability is not finite.
    """
    p = np.asarray(tampered, np.float64)
    if not len(p) or not np.isfinite(p).all():
        return None
    mirrored = for_false_positives(1 - p, rate)
    return 0.0 if mirrored is None else 1 - mirrored


def _counts(probabilities: np.ndarray,
            labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct probabilities in falling order after infinity, and the numbers of tampered and of
    authentic rows at or above each, float64."""
    p = np.asarray(probabilities, np.float64)
    y = np.asarray(labels).astype(np.float64)
    order = np.argsort(-p, kind="stable")
    p, y = p[order], y[order]
    last = np.flatnonzero(np.append(p[1:] != p[:-1], True)) if len(p) else np.empty(0, int)
    return (np.append(np.inf, p[last]), np.append(0.0, np.cumsum(y)[last]),
            np.append(0.0, np.cumsum(1 - y)[last]))
