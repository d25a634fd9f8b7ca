"""Speed-up, efficiency, serial fractions, and the laws of Amdahl and Gustafson fitted to them.

- Speed-up S = rate(n) / rate(n₀), efficiency S · n₀ / n, where n₀ is the smallest number of ranks
  measured.
- Strong scaling (the same work on more ranks): Amdahl (1967), T(n) = T₁ (s + (1 − s) / n); the
  serial fraction of a single size, Karp & Flatt (1990), e = (1/S − 1/p) / (1 − 1/p) at p = n / n₀.
- Weak scaling (work proportional to the ranks): Gustafson (1988), S = p + (1 − p) s, and of a
  single size s = (p − S) / (p − 1).

Both laws are straight lines with two coefficients (T over 1/n, rate over n), fitted by linear least
squares of the relative errors; T₁ or the rate of one rank is fitted too, so the fluctuation of the
base counts like that of any other size. The bands come from the fit's covariance by Student's t at
95%, that of s by the delta method; with two points there is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Student's t, two-sided 95%, for 1, 2, … degrees of freedom
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
      2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
      2.052, 2.048, 2.045, 2.042)


def efficiency(speedup: float, ranks: float, base: float = 1) -> float:
    """Parallel efficiency of a speed-up over ``base`` ranks."""
    return speedup * base / ranks


def karp_flatt(speedup: float, ranks: float, base: float = 1) -> float | None:
    """Serial fraction from a strong speed-up over ``base`` ranks; None at the base itself."""
    p = ranks / base
    return (1 / speedup - 1 / p) / (1 - 1 / p) if p > 1 and speedup > 0 else None


def gustafson_fraction(speedup: float, ranks: float, base: float = 1) -> float | None:
    """Serial fraction from a weak speed-up over ``base`` ranks; None at the base itself."""
    p = ranks / base
    return (p - speedup) / (p - 1) if p > 1 else None


@dataclass(frozen=True)
class Fit:
    """A fitted law.

    Attributes:
        law: ``Amdahl`` or ``Gustafson``.
        serial: the serial fraction s, from 0 to 1.
        low: lower end of its 95% band; None with too few points.
        high: upper end of its 95% band; None with too few points.
        single_rate: images/s of one rank.
        points: number of measurements.
        error: largest relative deviation of a measurement.
    """

    law: str
    serial: float
    low: float | None
    high: float | None
    single_rate: float
    points: int
    error: float

    def speedup(self, ranks: float, serial: float | None = None) -> float:
        """Speed-up over one rank; ``serial`` replaces the serial fraction, for the band."""
        s = self.serial if serial is None else serial
        if self.law == "Amdahl":
            return 1 / (s + (1 - s) / ranks)
        return ranks + (1 - ranks) * s

    def rate(self, ranks: float) -> float:
        """Images/s of all ranks."""
        return self.single_rate * self.speedup(ranks)

    def band(self, ranks: float) -> tuple[float, float] | None:
        """95% band of the speed-up over one rank; None with too few points."""
        if self.low is None or self.high is None:
            return None
        return self.speedup(ranks, self.high), self.speedup(ranks, self.low)


def amdahl(ranks: Sequence[float], rates: Sequence[float]) -> Fit | None:
    """Fit to strong runs.

    Args:
        ranks: number of ranks of each run.
        rates: images/s of each run.

    Returns:
        None with fewer than two numbers of ranks.
    """
    times = [1 / rate for rate in rates]
    line = _line([1 / n for n in ranks], times)  # T₁ s, T₁ (1 − s)
    if line is None:
        return None
    (serial, parallel), covariance, error = line
    return _fit("Amdahl", serial, parallel, 1 / (serial + parallel), covariance, len(times), error)


def gustafson(ranks: Sequence[float], rates: Sequence[float]) -> Fit | None:
    """Fit to weak runs; arguments and result as of ``amdahl``."""
    line = _line(list(ranks), list(rates))  # r₁ s, r₁ (1 − s)
    if line is None:
        return None
    (serial, parallel), covariance, error = line
    return _fit("Gustafson", serial, parallel, serial + parallel, covariance, len(ranks), error)


def _fit(law: str, serial: float, parallel: float, single_rate: float,
         covariance: np.ndarray | None, points: int, error: float) -> Fit:
    total = serial + parallel
    fraction, low, high = serial / total, None, None
    if covariance is not None:
        slope = np.array([parallel, -serial]) / total**2  # of s by the two coefficients
        half = _t(points - 2) * math.sqrt(max(float(slope @ covariance @ slope), 0.0))
        low, high = max(fraction - half, 0.0), min(fraction + half, 1.0)
    return Fit(law, fraction, low, high, single_rate, points, error)


def _line(x: Sequence[float], y: Sequence[float],
          ) -> tuple[tuple[float, float], np.ndarray | None, float] | None:
    """a, b ≥ 0 of y = a + b x with the least relative errors, the covariance of a and b (None
    without degrees of freedom), and the largest relative error. None with fewer than two x."""
    if len(set(x)) < 2:
        return None
    a, b, errors, design = fit_two([1.0] * len(x), x, y)
    covariance = None
    if len(y) > 2:
        covariance = np.linalg.inv(design.T @ design) * float(errors @ errors) / (len(y) - 2)
    return (a, b), covariance, float(np.abs(errors).max())


def _t(freedom: int) -> float:
    return _T[freedom - 1] if freedom <= len(_T) else 1.96 + 2.5 / freedom


def fit_two(u: Sequence[float], v: Sequence[float], y: Sequence[float],
            ) -> tuple[float, float, np.ndarray, np.ndarray]:
    """a, b ≥ 0 of y = a u + b v with the least squares of the relative errors, where all y > 0.

    Where u and v are proportional, so that a and b are undetermined, the smallest such a and b.

    Returns:
        a, b, the relative errors float (n), and the design matrix (n, 2) of the relative problem.
    """
    values = np.asarray(y, float)
    design = np.stack([np.asarray(u, float), np.asarray(v, float)], 1) / values[:, None]
    (a, b), *_ = np.linalg.lstsq(design, np.ones_like(values), rcond=None)
    if a < 0 or b < 0:  # the best within the bounds lies on one of them
        alone = [fit_scale(design[:, column].tolist()) for column in (0, 1)]
        errors = [float(((design[:, column] * alone[column] - 1) ** 2).sum()) for column in (0, 1)]
        a, b = (alone[0], 0.0) if errors[0] < errors[1] else (0.0, alone[1])
    return float(a), float(b), design @ np.array([a, b]) - 1, design


def fit_scale(ratios: Sequence[float]) -> float:
    """The factor c ≥ 0 that brings c · ratios closest to 1."""
    values = np.asarray(ratios, float)
    square = float((values**2).sum())
    return max(float(values.sum()) / square, 0.0) if square else 0.0
