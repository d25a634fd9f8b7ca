"""Pictures that look the same: thumbnails, difference hashes that find candidates, and limits."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from preprocessing import hamming

THUMB = 32  # side of the thumbnails that are compared, pixels
DISTANCE = 10  # maximum number of hash bits in which two candidates differ
COPY = 10  # maximum difference of a copy at any pixel, grey levels
SCENE = 3  # maximum median difference of two pictures of the same scene, grey levels
PLAIN = 16  # grey levels: thumbnails of a smaller range look like those of any plain picture
_HASH = (9, 8)  # pixels across and down: 8 × 8 comparisons of neighbours
_BLOCK = 1024


def thumbnail(pixels: np.ndarray, side: int = THUMB) -> np.ndarray:
    """Means of areas of a picture, uint8 (side, side, 3), from uint8 (S, S, 3)."""
    return cv2.resize(np.asarray(pixels), (side, side), interpolation=cv2.INTER_AREA)


def hashes(small: np.ndarray) -> np.ndarray:
    """Difference hash of each picture: whether each of 8 × 8 areas is darker than the next to its
    right (N. Krawetz, "Kind of Like That", 2013).

    Args:
        small: thumbnails, uint8 (M, T, T, 3).

    Returns:
        bool (M, 64).
    """
    bits = np.empty((len(small), 64), bool)
    for at, pixels in enumerate(small):
        grey = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32), _HASH,
                          interpolation=cv2.INTER_AREA)
        bits[at] = (grey[:, :-1] < grey[:, 1:]).ravel()
    return bits


def near(bits: np.ndarray, others: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Pairs of pictures whose hashes differ in at most ``DISTANCE`` bits, int64 (P, 2), sorted, in
    one array or in several.

    Args:
        bits: hashes, bool (M, 64).
        others: those of another set, bool (N, 64), to which the second numbers belong; None: pairs
            within ``bits``, with the smaller number first.
    """
    return hamming.near(_words(bits), None if others is None else _words(others), DISTANCE)


def _words(bits: np.ndarray) -> np.ndarray:
    """Hashes as whole numbers, uint64 (M)."""
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]


def changes(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest and the median difference between pairs of thumbnails, in grey levels.

    Args:
        first: uint8 (P, T, T, 3).
        second: likewise.

    Returns:
        Two float64 (P): at most ``COPY`` in the first for a copy, at most ``SCENE`` in the second
        for pictures that agree in at least half of their area, as a forgery and its target do.
    """
    largest, median = np.zeros((2, len(first)))
    for start in range(0, len(first), _BLOCK):
        part = slice(start, start + _BLOCK)
        change = np.abs(first[part].astype(np.int16) - second[part]).max(-1)
        change = change.reshape(len(change), -1)
        largest[part], median[part] = change.max(1), np.median(change, 1)
    return largest, median
