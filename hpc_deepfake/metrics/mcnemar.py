"""Do two models err on different pictures more often than chance would have it?"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np


@dataclass(frozen=True)
class Paired:
    """Two models' answers on the same pictures.

    Attributes:
        both, first, second, neither: pictures that both got right, only one of them, or none.
        p: two-sided, that the discordant ones would divide so unevenly by chance.
    """

    both: int
    first: int
    second: int
    neither: int
    p: float


def paired(first: np.ndarray, second: np.ndarray) -> Paired:
    """McNemar's test (1947) of two boolean arrays (n), whether each picture was judged rightly, in
    its exact form: under the null hypothesis each discordant picture falls to either side with
    probability one half."""
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    one, other = int((a & ~b).sum()), int((~a & b).sum())
    return Paired(int((a & b).sum()), one, other, int((~a & ~b).sum()), exact(one, other))


def exact(one: int, other: int) -> float:
    """Two-sided binomial probability of counts at least as uneven as these; 1 without any."""
    n, fewer = one + other, min(one, other)
    return min(1.0, 2 * sum(comb(n, k) for k in range(fewer + 1)) / 2**n)
