"""An error map as luminance, with its high bits and its low bits.

Each step is a function: `grayscale`, the bit computation (`high_bits`, `low_bits`), and
the extraction of pixel values (`pixel_values`). No information is lost: ``gray = 16 · high + low``.
"""

from __future__ import annotations

import cv2
import numpy as np

_TO_255 = 17  # 255 / 15: spreads four bits evenly over the range of eight


def grayscale(pixels: np.ndarray) -> np.ndarray:
    """Luminance *Y* = 0.299 *R* + 0.587 *G* + 0.114 *B*, rounded (ITU-R BT.601-7, 2.5.1).

    Args:
        pixels: uint8 (height, width, 3), blue-green-red.

    Returns:
        uint8 (height, width).
    """
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)


def high_bits(gray: np.ndarray) -> np.ndarray:
    """The four high bits, ⌊*Y* / 16⌋: the size of an error; uint8 0…15, same shape."""
    return gray >> 4


def low_bits(gray: np.ndarray) -> np.ndarray:
    """The four low bits, *Y* mod 16: errors below 16, and the fine part of larger ones; uint8 0…15,
    same shape."""
    return gray & 15


def pixel_values(bits: np.ndarray) -> np.ndarray:
    """Four bits as pixel values: 17 · bits, so that 0…15 become 0…255; uint8, same shape."""
    return bits * np.uint8(_TO_255)


def planes(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Luminance, high bits and low bits of every pixel, each uint8 (height, width) in 0…255.

    Args:
        pixels: uint8 (height, width, 3), blue-green-red; usually an error map.
    """
    gray = grayscale(pixels)
    return gray, pixel_values(high_bits(gray)), pixel_values(low_bits(gray))
