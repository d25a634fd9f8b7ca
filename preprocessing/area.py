"""Large pictures shrunk by means over areas: the bits of OpenCV's ``INTER_AREA`` in half of its
time or less.

OpenCV adds the weighted pixels of a row in single precision, and each addition waits for the one
before. Here whole rows are added first, as integers. Where such a mean is so near to the middle
between two levels that OpenCV's rounding errors decide, it is added in OpenCV's order.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

_WORTH = 50  # pixels of an area from which this way is the faster one
_MOST = 0.02  # share of means added in OpenCV's order; with more, OpenCV itself is faster


class _Taps(NamedTuple):
    """What is added along one side, for n means of at most k pixels each.

    Attributes:
        places: of the pixels, int64 (n, k).
        weights: of the pixels, float32 (n, k); 0 beyond the last one.
        last: place of the last one, int64 (n).
        at_last: its weight, float32 (n).
    """

    places: np.ndarray
    weights: np.ndarray
    last: np.ndarray
    at_last: np.ndarray


def shrink(pixels: np.ndarray, size: int) -> np.ndarray:
    """``cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)``.

    Args:
        pixels: uint8 (height, width) or (height, width, channels).
        size: at most height and width.
    """
    height, width = pixels.shape[:2]
    whole = height % size == width % size == 0  # for which OpenCV has another way
    if not whole and height >= 2 * size and height * width >= _WORTH * size**2 \
            and _adds_in_order():
        planes = np.ascontiguousarray(pixels).reshape(height, width, -1)
        rows, columns = _taps(height, size), _taps(width, size)
        means = _means(planes, rows)
        result = np.rint(means)
        # n additions of positive numbers are off by n units in the last place at most, here and
        # there; twice that is safe
        error = 256 * 2.0**-23 * (rows.places.shape[1] + columns.places.shape[1] + 8)
        unsure = np.nonzero(np.abs(np.abs(means - result) - 0.5) < error)
        if len(unsure[0]) <= _MOST * means.size:
            result[unsure] = np.rint(_in_order(planes, rows, columns, *unsure))
            return result.astype(np.uint8).reshape(size, size, *pixels.shape[2:])
    return cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)


@cache
def _taps(length: int, size: int) -> _Taps:
    """As of OpenCV's ``computeResizeAreaTab`` for ``length`` pixels that become ``size``."""
    scale, found = length / size, []
    for number in range(size):
        start, end = number * scale, number * scale + scale
        whole = min(scale, length - start)
        last = min(math.floor(end), length - 1)
        first = min(math.ceil(start), last)
        taken = [(first - 1, (first - start) / whole)] if first - start > 1e-3 else []
        taken += [(place, 1 / whole) for place in range(first, last)]
        if end - last > 1e-3:
            taken.append((last, min(end - last, 1.0, whole) / whole))
        found.append(taken)
    most = max(map(len, found))
    padded = np.array([taken + [(0, 0.0)] * (most - len(taken)) for taken in found])
    places, weights = padded[..., 0].astype(np.int64), padded[..., 1].astype(np.float32)
    ends = np.arange(size), np.array([len(taken) for taken in found]) - 1
    return _Taps(places, weights, places[ends], weights[ends])


def _means(planes: np.ndarray, rows: _Taps) -> np.ndarray:
    """The means, float64 (size, size, channels), off by less than OpenCV's."""
    height, width, channels = planes.shape
    size = len(rows.places)
    lines = planes.reshape(height, width * channels)
    kind = np.uint16 if rows.places.shape[1] < 256 else np.uint32
    # of at least two rows of a mean, the first and the last may have less weight than the others
    parts = np.empty((3, size, width * channels), np.float32)
    for number, (start, end) in enumerate(zip(rows.places[:, 1].tolist(), rows.last.tolist(),
                                              strict=True)):
        parts[0, number] = np.add.reduce(lines[start:end], axis=0, dtype=kind)
    parts[1], parts[2] = lines[rows.places[:, 0]], lines[rows.last]
    across = cv2.resize(parts.reshape(3 * size, width, channels), (size, 3 * size),
                        interpolation=cv2.INTER_AREA).reshape(3, size, -1).astype(np.float64)
    inner, first, last = (weight[:, None] for weight in (
        rows.weights[:, 1], rows.weights[:, 0], rows.at_last))
    means: np.ndarray = across[0] * inner + across[1] * first + across[2] * last
    return means.reshape(size, size, channels)


def _in_order(planes: np.ndarray, rows: _Taps, columns: _Taps, y: np.ndarray, x: np.ndarray,
              channel: np.ndarray) -> np.ndarray:
    """Means at some places, float32 (n), as OpenCV adds them: pixels of a row, then rows."""
    values = planes[rows.places[y][:, :, None], columns.places[x][:, None, :],
                    channel[:, None, None]].astype(np.float32)
    total, across = np.zeros(len(y), np.float32), np.zeros(values.shape[:2], np.float32)
    for place in range(values.shape[2]):
        across += values[:, :, place] * columns.weights[x, place, None]
    for place in range(values.shape[1]):
        total += across[:, place] * rows.weights[y, place]
    return total


@cache
def _adds_in_order() -> bool:
    """Whether OpenCV adds here as ``_in_order`` does: where a processor rounds once for a product
    and its addition, the last bits differ."""
    planes, size = np.random.default_rng(0).random((37, 53, 3), np.float32), 8
    means = _in_order(planes, _taps(37, size), _taps(53, size),
                      *(index.ravel() for index in np.indices((size, size, 3))))
    return np.array_equal(means, cv2.resize(planes, (size, size),
                                            interpolation=cv2.INTER_AREA).ravel())
