"""Least squares of relative errors with coefficients that can't be negative."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def two(u: Sequence[float], v: Sequence[float], y: Sequence[float],
        ) -> tuple[float, float, np.ndarray, np.ndarray]:
    """a, b ≥ 0 of y = a u + b v, where all y > 0.

    Where u and v don't tell the two apart, the smallest such a and b.

    Returns:
        a, b, the relative errors float (n), and the design matrix (n, 2) of the relative problem.
    """
    values = np.asarray(y, float)
    design = np.stack([np.asarray(u, float), np.asarray(v, float)], 1) / values[:, None]
    (a, b), *_ = np.linalg.lstsq(design, np.ones_like(values), rcond=None)
    if a < 0 or b < 0:  # the best within the bounds lies on one of them
        alone = [scale(design[:, which]) for which in (0, 1)]
        errors = [float(((design[:, which] * alone[which] - 1) ** 2).sum()) for which in (0, 1)]
        a, b = (alone[0], 0.0) if errors[0] < errors[1] else (0.0, alone[1])
    return float(a), float(b), design @ np.array([a, b]) - 1, design


def scale(ratios: Sequence[float]) -> float:
    """c ≥ 0 that brings c · ratios closest to 1."""
    values = np.asarray(ratios, float)
    square = float((values**2).sum())
    return max(float(values.sum()) / square, 0.0) if square else 0.0
