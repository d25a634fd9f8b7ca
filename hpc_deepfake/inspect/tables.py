"""Quantisation tables of JPEG files, and the quality that they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# ITU T.81 tables K.1 and K.2, which the software of the Independent JPEG Group scales
LUMINANCE = np.array([
    [16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56], [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99]])
CHROMINANCE = np.full((8, 8), 99)
CHROMINANCE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]


@lru_cache(maxsize=256)
def ijg(quality: int, *, chroma: bool = False) -> np.ndarray:
    """The IJG's table for a quality from 1 to 100 (``jpeg_quality_scaling`` of its jcparam.c).

    Returns:
        int (8, 8): steps by vertical and horizontal frequency.
    """
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    base = CHROMINANCE if chroma else LUMINANCE
    return ((base * scale + 50) // 100).clip(1, 255)


@dataclass(frozen=True)
class Quality:
    """What a table stands for.

    Attributes:
        quality: of the nearest table of the IJG, 1 to 100.
        exact: whether the table is that one.
        away: mean difference of the steps from the nearest table's.
    """

    quality: int
    exact: bool
    away: float


def quality_of(table: np.ndarray, *, chroma: bool = False) -> Quality:
    """The quality of the IJG's nearest table.

    Args:
        table: int (8, 8), by vertical and horizontal frequency.
        chroma: compare with the tables for chrominance.
    """
    distances = [float(np.abs(ijg(quality, chroma=chroma) - table).mean())
                 for quality in range(1, 101)]
    nearest = int(np.argmin(distances))
    return Quality(nearest + 1, distances[nearest] == 0, distances[nearest])
