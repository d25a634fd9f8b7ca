"""Confidence intervals of proportions, such as the share of authentic pictures that are accused."""

from __future__ import annotations

import math

import numpy as np

Z = 1.959964  # quantile of the normal distribution for 95%, two-sided
Z_BOTH = 2.241403  # for 97.5%, so that two intervals hold together with 95%


def interval(hits: np.ndarray, groups: np.ndarray) -> tuple[float, float] | None:
    """95% interval of a share: Wilson's (1927), which holds for few pictures and for none that hit.

    Pictures of one group of common source tend to be alike, so that they count for fewer: their
    number is divided by the design effect (Rao & Scott 1992).

    Args:
        hits: bool (n), whether each picture counts.
        groups: group of each picture, int (n).

    Returns:
        Lower and upper end, 0 to 1; None with fewer than two groups.
    """
    number = effective(hits, groups)
    return wilson(float(np.mean(hits)), number) if number > 1 else None


def wilson(share: float, number: float, z: float = Z) -> tuple[float, float]:
    """Interval of ``share``, observed in ``number`` independent pictures (Wilson 1927): 95%, or as
    the quantile ``z`` says."""
    scale, middle = 1 + z**2 / number, share + z**2 / (2 * number)
    half = z * math.sqrt(share * (1 - share) / number + z**2 / (4 * number**2))
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def effective(hits: np.ndarray, groups: np.ndarray) -> float:
    """How many independent pictures would show the share of hits as exactly: n divided by the
    design effect, the variance between groups over that of independent pictures (Rao & Scott 1992).

    Where all pictures or none hit there is no variance to see, and each group counts as one
    picture, which is cautious. 1 for a single group, 0 without pictures.
    """
    values, (_, group) = np.asarray(hits, np.float64), np.unique(groups, return_inverse=True)
    n = len(values)
    if not n:
        return 0.0
    sizes = np.bincount(group)
    share, count = values.mean(), len(sizes)
    if count == n or not 0 < share < 1:
        return float(count)
    if count == 1:
        return 1.0
    errors = np.bincount(group, values) - sizes * share
    between = count / (count - 1) * float((errors**2).sum()) / n**2
    return float(n / max(1.0, between / (share * (1 - share) / n)))
