"""Ground-truth masks: which pixels of a tampered picture were changed."""

from __future__ import annotations

from types import TracebackType

import cv2
import numpy as np

from preprocessing import ela, picture, video
from preprocessing.names import VIDEOS
from preprocessing.picture import Rejected

SAME, CHANGED, UNKNOWN = 0, 1, 255  # values of a mask

_HALF = 128  # level from which a pixel of a mask file counts as changed
_SHAPES = 0.02  # relative difference of two aspect ratios that are the same


def read(path: bytes, height: int, width: int) -> np.ndarray:
    """The mask of a picture from its file: white is changed, black is not.

    A mask of another size is resized, by the nearest pixel, if its aspect ratio is that of the
    picture within 2%.

    Args:
        path: of the mask.
        height: of the picture, in pixels.
        width: of the picture.

    Returns:
        uint8 (height, width), ``SAME`` or ``CHANGED``.

    Raises:
        Rejected: it can't be read, doesn't fit the picture, or marks nothing.
    """
    changed = _changed(picture.decode(picture.read(path), path))
    if not changed.any():
        raise Rejected("the mask marks nothing")
    return _fitted(changed, height, width)


def _changed(pixels: np.ndarray) -> np.ndarray:
    """Which pixels are marked, bool (h, w), of a mask's pixels, uint8 (h, w, 3)."""
    return np.asarray(pixels.max(2) >= _HALF)


def _fitted(changed: np.ndarray, height: int, width: int) -> np.ndarray:
    """A mask of the picture's size."""
    mask: np.ndarray = changed.astype(np.uint8)
    if mask.shape == (height, width):
        return mask
    if abs(mask.shape[1] * height / (mask.shape[0] * width) - 1) > _SHAPES:
        raise Rejected(f"the mask has {mask.shape[1]}×{mask.shape[0]} pixels, and the picture "
                       f"{width}×{height}")
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)


def shrink(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask as small as the features, which show the same places.

    A cell is changed if at least half of what is known of it is, and unknown if more than half of
    it is. Where no cell is changed half, regions being small, those that are changed most are.

    Args:
        mask: uint8 (height, width): ``SAME``, ``CHANGED`` or ``UNKNOWN``.
        size: width and height of the features.

    Returns:
        uint8 (size, size) of the same values.
    """
    changed = ela.resize((mask == CHANGED).astype(np.float32), size)
    unknown = ela.resize((mask == UNKNOWN).astype(np.float32), size)
    most = float(changed.max())
    least = min(most, 0.5) if most > 0 else 1.0  # shares are rounded in the last digits
    small = (changed >= least * (1 - unknown) - 1e-5).astype(np.uint8)
    small[unknown > 0.5 + 1e-5] = UNKNOWN
    return small


def of_row(size: int, value: int) -> np.ndarray:
    """A mask of one value, uint8 (size, size)."""
    return np.full((size, size), value, np.uint8)


class Film:
    """The masks of a video's frames: the frames of the same numbers of another video, or one
    picture for all of them. A context manager; the file is opened at the first frame."""

    def __init__(self, path: bytes) -> None:
        self._path = path
        self._frames: video.Numbered | None = None

    def at(self, number: int, height: int, width: int) -> np.ndarray:
        """``read`` for a frame, by its number from 0; numbers must not descend. A frame in which
        nothing is marked is a frame in which nothing was changed."""
        if not self._path.lower().endswith(VIDEOS):
            return read(self._path, height, width)
        if self._frames is None:
            self._frames = video.Numbered(self._path)
        return _fitted(_changed(self._frames.at(number)), height, width)

    def __enter__(self) -> Film:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._frames is not None:
            self._frames.close()
