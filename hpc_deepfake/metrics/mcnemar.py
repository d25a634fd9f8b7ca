"""McNemar's test: whether two models differ in accuracy by more than chance."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np


@dataclass(frozen=True)
class Paired:
    """Correct predictions of two models on the same pictures.

    Attributes:
        both: pictures that both models classified correctly.
        first: pictures that only the first model classified correctly.
        second: pictures that only the second model classified correctly.
        neither: pictures that neither model classified correctly.
        p: two-sided probability of a difference between ``first`` and ``second`` at least this
            large by chance.
    """

    both: int
    first: int
    second: int
    neither: int
    p: float


def paired(first: np.ndarray, second: np.ndarray) -> Paired:
    """McNemar's test (1947) in its exact form: under the null hypothesis, a picture that only one
    model classified correctly is either model's with probability one half.

    Args:
        first: bool (n), whether the first model classified each picture correctly.
        second: bool (n), the same of the second model.
    """
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    only_first, only_second = int((a & ~b).sum()), int((~a & b).sum())
    return Paired(int((a & b).sum()), only_first, only_second, int((~a & ~b).sum()),
                  exact(only_first, only_second))


def exact(first: int, second: int) -> float:
    """Two-sided binomial probability of two counts at least as uneven as these; 1 if both are 0."""
    n, fewer = first + second, min(first, second)
    return min(1.0, 2 * sum(comb(n, k) for k in range(fewer + 1)) / 2**n)
