"""Noise of a picture from place to place.

The level of noise is estimated in the finest diagonal subband of a wavelet transform (Daubechies, 8
taps) as median(|HH|) / 0.6745 of each block (B. Mahdian and S. Saic, "Using noise inconsistencies
for blind image forensics", Image and Vision Computing 27, 2009; the estimate is that of D. L.
Donoho and I. M. Johnstone, Biometrika 81, 1994).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

# high-pass filter of the Daubechies wavelet with 4 vanishing moments (I. Daubechies, Ten Lectures
# on Wavelets, 1992, table 6.1)
_HIGH = np.array([-0.010597401784997, -0.032883011666983, 0.030841381835987, 0.187034811718881,
                  -0.027983769416984, -0.630880767929590, 0.714846570552542, -0.230377813308855])
_MEDIAN = 0.6745  # of the absolute value of a standard normal variable
LEAST = 64  # pixels: shorter side of a picture with a map


@dataclass(frozen=True)
class Noise:
    """The noise of a picture.

    Attributes:
        levels: float32 (rows, columns): standard deviation in levels, of each block.
        typical: their median.
        spread: ratio of the 95th to the 5th percentile, of blocks with any noise.
        residual: uint8, the residual after a median filter of 3×3 pixels, amplified; as large as
            the picture.
        gain: how much it is amplified.
    """

    levels: np.ndarray
    typical: float
    spread: float
    residual: np.ndarray
    gain: float


def levels(luma: np.ndarray, block: int) -> np.ndarray:
    """Standard deviation of the noise in blocks of pixels, float32 (rows, columns).

    Args:
        luma: uint8 (height, width), each at least ``block``.
        block: side of a block in pixels, even.
    """
    half = block // 2
    rows, columns = luma.shape[0] // block, luma.shape[1] // block
    estimates = np.empty((rows, columns), np.float32)
    margin = len(_HIGH)
    for row in range(rows):  # a strip at a time, to need little memory
        top, bottom = row * block, (row + 1) * block
        first = max(top - margin, 0)
        strip = luma[first:bottom + margin].astype(np.float32)
        band = cv2.sepFilter2D(strip, cv2.CV_32F, _HIGH, _HIGH, borderType=cv2.BORDER_REFLECT_101)
        band = np.abs(band[top - first:bottom - first:2, :columns * block:2])
        cells = band.reshape(half, columns, half).transpose(1, 0, 2).reshape(columns, -1)
        estimates[row] = np.median(cells, axis=1)
    return estimates / _MEDIAN


def analyse(luma: np.ndarray) -> Noise:
    """Noise levels in blocks, and the residual of a median filter.

    Args:
        luma: uint8 (height, width), both at least ``LEAST``.
    """
    block = 32 if min(luma.shape) >= 512 else 16
    estimates = levels(luma, block)
    noisy = estimates[estimates > 0.05]
    low, high = np.percentile(noisy, (5, 95)) if noisy.size else (1, 1)
    difference = cv2.absdiff(luma, cv2.medianBlur(luma, 3))
    gain = 255 / max(float(np.percentile(difference[::4, ::4], 99)), 4)
    return Noise(estimates, float(np.median(estimates)), float(high / low),
                 cv2.convertScaleAbs(difference, alpha=gain), gain)
