"""Confidence intervals of metrics, by bootstrap over groups of pictures."""

from __future__ import annotations

import numpy as np

RESAMPLES = 1000


def bootstrap(probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray,
              threshold: float = 0.5, resamples: int = RESAMPLES,
              seed: int = 0, lower: float | None = None) -> dict[str, tuple[float, float] | None]:
    """95% percentile intervals of accuracy, balanced accuracy and AUC (Efron 1979).

    Whole groups are drawn with replacement, as many as there are: pictures of one source are not
    independent, and drawing single pictures would make the intervals too narrow.

    Args:
        probabilities: of tampered, float (n).
        labels: 0 authentic, 1 tampered (n).
        groups: group of each row, int (n).
        threshold: lowest probability at which a picture is predicted tampered.
        resamples: number of bootstrap samples.
        seed: of the samples.
        lower: as in ``metrics.evaluate``.

    Returns:
        Lower and upper end for ``accuracy``, ``balanced_accuracy`` and ``auc``; None with fewer
        than two groups or if a probability is not finite, and for each if it is not defined in more
        than half of the samples, which have one class only, or no decided picture.
    """
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels).astype(bool)
    _, group = np.unique(groups, return_inverse=True)
    count = int(group.max()) + 1 if len(group) else 0
    if count < 2 or not np.isfinite(p).all():
        return {"accuracy": None, "balanced_accuracy": None, "auc": None}
    # by class (authentic, tampered) and group
    decided = (p >= threshold) | (p < (threshold if lower is None else lower))
    right = np.stack([np.bincount(group, ((p >= threshold) == y) & (y == label) & decided, count)
                      for label in (False, True)])
    size = np.stack([np.bincount(group, (y == label) & decided, count)
                     for label in (False, True)])
    order = np.argsort(p, kind="stable")
    rows = [order[y[order] == label] for label in (False, True)]
    (negative, positive), (of_negative, of_positive) = ([values[own] for own in rows]
                                                        for values in (p, group))
    # authentic pictures below each tampered one: ties half, as in metrics.auc
    fewer, more = (np.searchsorted(negative, positive, side) for side in ("left", "right"))
    below = np.zeros(len(negative) + 1)  # weights of those before each
    random, chances = np.random.default_rng(seed), np.full(count, 1 / count)
    accuracy, balanced, auc = np.empty((3, resamples))
    for number in range(resamples):  # one at a time: all fit no memory
        drawn = random.multinomial(count, chances).astype(np.float64)
        rights, sizes = right @ drawn, size @ drawn
        np.cumsum(drawn[of_negative], out=below[1:])
        weights = drawn[of_positive]
        with np.errstate(invalid="ignore"):
            accuracy[number] = rights.sum() / sizes.sum()
            balanced[number] = (rights / sizes).mean()
            auc[number] = weights @ (below[fewer] + below[more]) / 2 / (weights.sum() * below[-1])
    return {"accuracy": ends(accuracy), "balanced_accuracy": ends(balanced), "auc": ends(auc)}


def ends(values: np.ndarray) -> tuple[float, float] | None:
    """The 2.5 and 97.5 percentiles of a figure's bootstrap samples, float (resamples), without
    those where it isn't defined (NaN); None if these are more than half."""
    finite = values[np.isfinite(values)]
    if 2 * len(finite) < len(values):
        return None
    low, high = np.percentile(finite, (2.5, 97.5))
    return float(low), float(high)
