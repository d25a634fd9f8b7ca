"""A map laid over a picture: grey, tinted where the map is high, with a line around what counts."""

from __future__ import annotations

import cv2
import numpy as np

RED = (178, 34, 34)  # red-green-blue
_STRONGEST = 0.85  # share of the colour where the map is at its highest
_LIGHT, _DARK = (255, 255, 255), (20, 20, 120)  # of the line, blue-green-red
_THIN = 700  # pixels of the longer side for each pixel of the line's width


def enlarged(levels: np.ndarray, height: int, width: int) -> np.ndarray:
    """A map at another size, uint8 (height, width).

    Sides that grow are interpolated by cubics, which leave no steps; sides that shrink are averaged
    over areas, as pictures are before a network sees them.

    Args:
        levels: uint8 (rows, columns).
        height: pixels.
        width: pixels.
    """
    rows, columns = levels.shape
    smaller = min(width, columns), min(height, rows)
    levels = cv2.resize(levels, smaller, interpolation=cv2.INTER_AREA)
    return cv2.resize(levels, (width, height), interpolation=cv2.INTER_CUBIC)


def tinted(pixels: np.ndarray, levels: np.ndarray, threshold: int) -> np.ndarray:
    """The picture in pale grey, the redder the higher the map is, with a line around what reaches
    the threshold; uint8 (height, width, 3), blue-green-red.

    Args:
        pixels: of the picture, uint8 (height, width, 3), blue-green-red.
        levels: the map, uint8 (height, width).
        threshold: level from which a pixel counts.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY).astype(np.float32)[..., None] * 0.6 + 90
    strength = levels.astype(np.float32)[..., None] * (_STRONGEST / 255)
    drawn = np.rint(grey + (np.array(RED[::-1], np.float32) - grey) * strength).astype(np.uint8)
    lines, _ = cv2.findContours((levels >= threshold).astype(np.uint8), cv2.RETR_CCOMP,
                                cv2.CHAIN_APPROX_NONE)
    thickness = 1 + max(levels.shape) // _THIN
    cv2.drawContours(drawn, lines, -1, _LIGHT, thickness + 2, cv2.LINE_AA)
    cv2.drawContours(drawn, lines, -1, _DARK, thickness, cv2.LINE_AA)
    return drawn
