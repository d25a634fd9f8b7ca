"""The thumbnail that a camera stores in a picture file, against the picture: programs that change
the picture often leave the old one (E. Kee and H. Farid, "Digital Image Authentication from
Thumbnails", SPIE Media Forensics and Security II, 2010)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from preprocessing.picture import Rejected, decode

_EDGE = 3  # pixels of the thumbnail's edge that are left out, so that it can be moved about
SAME, OTHER = 0.9, 0.8  # correlation: from here the same; below, another picture
_CELL = 12  # pixels
_LOCAL = 40  # levels by which a cell differs that was changed


@dataclass(frozen=True)
class Comparison:
    """A thumbnail beside the picture.

    Attributes:
        thumbnail: uint8 (height, width, 3), blue-green-red, without black bars.
        picture: reduced to its size.
        alike: correlation of their luminance, at most 1.
        local: largest mean difference of a small area, in levels.
        share: ratio of the proportions of both, at most 1; 1: the same.
        turned: quarter turns, clockwise, that the thumbnail needs.
    """

    thumbnail: np.ndarray
    picture: np.ndarray
    alike: float
    local: float
    share: float
    turned: int

    @property
    def verdict(self) -> str:
        """``same``, ``changed`` or ``unclear``."""
        if self.alike < OTHER or self.share < 0.85:
            return "changed"
        return "unclear" if self.alike < SAME or self.local > _LOCAL else "same"


def compare(data: bytes, pixels: np.ndarray) -> Comparison | str:
    """Compare an embedded thumbnail with the picture; or why it can't be.

    Args:
        data: contents of the thumbnail.
        pixels: of the picture as stored, uint8 (height, width, 3), blue-green-red.
    """
    try:
        small = decode(data)
    except Rejected as error:
        return str(error)
    if min(small.shape[:2]) < 24:
        return "it is too small"
    results = [_compare(np.ascontiguousarray(np.rot90(small, -turns)), pixels, turns)
               for turns in range(4)]
    best = max(results, key=lambda result: result.alike)
    return best if best.alike > results[0].alike + 0.15 else results[0]


def _compare(small: np.ndarray, pixels: np.ndarray, turns: int) -> Comparison:
    """The better comparison: with the whole picture, or with its middle in the thumbnail's
    proportions, as some cameras cut it."""
    small = _without_bars(small)
    (rows, columns), (height, width) = small.shape[:2], pixels.shape[:2]
    down = min(height, round(width * rows / columns))
    across = min(width, round(height * columns / rows))
    top, left = (height - down) // 2, (width - across) // 2
    share = min(down / height, across / width)
    whole = _beside(small, pixels, share, turns)
    if share > 0.97 or share < 0.5:
        return whole
    middle = _beside(small, pixels[top:top + down, left:left + across], 1.0, turns)
    return middle if middle.alike > whole.alike else whole


def _beside(small: np.ndarray, pixels: np.ndarray, share: float, turns: int) -> Comparison:
    rows, columns = small.shape[:2]
    reduced = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_AREA)
    left, right = (cv2.GaussianBlur(cv2.cvtColor(one, cv2.COLOR_BGR2GRAY), (0, 0), 1)
                   for one in (small, reduced))
    inner = left[_EDGE:-_EDGE, _EDGE:-_EDGE]
    if inner.std() < 1:
        return Comparison(small, reduced, 1.0 if right.std() < 4 else 0.0, 0.0, share, turns)
    places = cv2.matchTemplate(right, inner, cv2.TM_CCOEFF_NORMED)
    _, alike, _, (across, down) = cv2.minMaxLoc(places)
    there = right[down:down + inner.shape[0], across:across + inner.shape[1]].astype(np.float32)
    gain, offset = np.polyfit(there.ravel(), inner.ravel().astype(np.float32), 1)
    difference = cv2.blur(np.abs(there * gain + offset - inner), (_CELL, _CELL))
    return Comparison(small, reduced, float(alike), float(difference.max()), share, turns)


def _without_bars(small: np.ndarray) -> np.ndarray:
    """Without the black bars with which cameras fill up a thumbnail."""
    dark = small.max(2) < 24
    inside = [np.flatnonzero(dark.mean(1 - axis) < 0.98) for axis in (0, 1)]
    if min(map(len, inside)) < 24:
        return small
    return small[inside[0][0]:inside[0][-1] + 1, inside[1][0]:inside[1][-1] + 1]
