"""Ground-truth masks: which pixels of a tampered picture were changed."""

from __future__ import annotations

import io
from types import TracebackType
from typing import NamedTuple

import cv2
import numpy as np

from hpc_deepfake.core.text import plural
from preprocessing import ela, facts, picture, video
from preprocessing.catalogue import Catalogue, locate
from preprocessing.names import VIDEOS
from preprocessing.picture import Rejected

SAME, CHANGED, UNKNOWN = 0, 1, 255  # values of a mask

_HALF = 128  # level from which a pixel of a mask file counts as white
_LABELS = 15  # largest level of a lossless file that holds numbers of regions instead of levels
_SIDES = 0.5  # least share of an edge mask that is red or green
_NEAR, _PLAIN = 24, 0.5  # levels from the ends of the range; least share of pixels so near
_TINTED = 0.001  # share of coloured pixels from which a mask is one in colour
_SHAPES = 0.02  # relative difference of two aspect ratios that are the same
_EDGE = b"edgemask"  # of Columbia
_DISTINCT = 64  # levels between the red and the green of a pixel there that is one of both
_FRAMES = 0.01  # relative difference in the numbers of frames of a video and of its mask


class File(NamedTuple):
    """Where a mask is.

    Attributes:
        path: absolute; empty: there is none.
        inverted: black marks what was changed.
    """

    path: bytes
    inverted: bool = False

    def read(self, height: int, width: int) -> np.ndarray:
        """``read`` of this file."""
        return read(self.path, height, width, self.inverted)


def of(catalogue: Catalogue, row: int) -> File | None:
    """The mask of a row, for a frame that of its video; None: the picture is authentic."""
    found = catalogue.mask_of(row)
    return found if found is None else File(found and locate(catalogue.roots, found),
                                            found in catalogue.inverted)


def read(path: bytes, height: int, width: int, inverted: bool = False) -> np.ndarray:
    """The mask of a picture from its file.

    Changed is what is white: from half of the range on; in a mask in colour what isn't black, such
    as the changed part itself; of a lossless file with levels up to 15, which are numbers of
    regions, what isn't 0; of a file of one colour with transparency, what is opaque. In edge masks
    of the Columbia set, green is the spliced part and red the rest, both bright and dark, and what
    is neither is unknown.

    A mask of another size is resized, by the nearest pixel, if its aspect ratio is that of the
    picture within 2%. Which way one was turned by 90° can't be known.

    Args:
        path: of the mask.
        height: of the picture, in pixels.
        width: of the picture.
        inverted: black is changed, as in NIST's masks, and everything that isn't white.

    Returns:
        uint8 (height, width), ``SAME``, ``CHANGED`` or ``UNKNOWN``.

    Raises:
        Rejected: it can't be read, is no mask, doesn't fit the picture, or marks nothing.
    """
    data = picture.read(path)
    pixels = picture.decode(data, path)
    if _EDGE in path.lower() and (edges := _of_edges(pixels)) is not None:
        mask = edges
    else:
        mask = (pixels.min(2) < 255).astype(np.uint8) if inverted else _marked(pixels, data)
        if not _is_plain(pixels):
            raise Rejected("it has neither few colours nor much black or white, as masks have: it "
                           "looks like a picture")
    if not (mask == CHANGED).any():
        raise Rejected("the mask marks nothing")
    return _fitted(mask, height, width)


def _marked(pixels: np.ndarray, data: bytes = b"") -> np.ndarray:
    """What is white, uint8 (h, w), of pixels, uint8 (h, w, 3), and the contents of their file; of
    frames of videos without the latter."""
    blue, green, red = cv2.split(pixels)  # numpy's maximum over so short an axis is slow
    levels = cv2.max(cv2.max(blue, green), red)
    least = _HALF
    if data and facts.kind_of(data) != "JPEG":
        if levels.min() == levels.max():  # one colour: the rest may be in what decoding leaves out
            levels = _hidden(data, levels)
        most = int(levels.max())
        least = 1 if most <= _LABELS else min(_HALF, (most + 1) // 2)
    if float((cv2.max(cv2.absdiff(blue, green), cv2.absdiff(green, red)) > _NEAR).mean()) > _TINTED:
        least = min(least, _NEAR + 1)  # what isn't black
    white = levels >= least
    if white.all() and (pixels != pixels[..., :1]).any():
        raise Rejected("the mask has no black: which of its colours marks what was changed can't "
                       "be known")
    return white.astype(np.uint8)


def _is_plain(pixels: np.ndarray) -> bool:
    """Whether colours are few, as in masks, soft edges aside, and not those of a picture."""
    across, down = (max(1, size // 256) for size in pixels.shape[:2])
    small = pixels[::across, ::down].reshape(-1, 3).astype(np.int16)
    if int(small.max()) <= _LABELS:
        return True
    pure = (small <= _NEAR) | (small >= small.max(0) - _NEAR)
    return bool(pure.all(1).mean() >= _PLAIN)


def _hidden(data: bytes, levels: np.ndarray) -> np.ndarray:
    """Levels of a file whose colours are all the same: its transparency, or the low bits of more
    than 8; else ``levels``."""
    try:
        with picture.opened(io.BytesIO(data)) as image:  # which has been decoded before
            found = levels
            if "A" in image.getbands():
                found = np.asarray(image.getchannel("A"))
            elif image.mode.startswith("I"):
                found = np.minimum(np.asarray(image), 255).astype(np.uint8)
            return found if found.shape == levels.shape else levels
    except Exception as error:  # Pillow raises many kinds of exceptions for damaged files
        raise Rejected(" ".join(str(error).split()) or type(error).__name__) from None


def edges(pixels: np.ndarray) -> np.ndarray:
    """Whether pixels are red or green, dark or bright, as of Columbia's edge masks.

    Args:
        pixels: uint8 (..., 3), blue-green-red.

    Returns:
        int8 (...): 1 green, -1 red, 0 neither.
    """
    blue, green, red = (pixels[..., channel].astype(np.int16) for channel in range(3))
    distinct = (np.abs(green - red) >= _DISTINCT) & (blue < _DISTINCT)
    return np.asarray(np.where(distinct, np.sign(green - red), 0).astype(np.int8))


def _of_edges(pixels: np.ndarray) -> np.ndarray | None:
    """The mask of Columbia's edge mask; None if it isn't red and green."""
    sides = edges(pixels)
    if not ((sides != 0).mean() >= _SIDES and (sides > 0).any() and (sides < 0).any()):
        return None
    return np.choose(sides + 1, (SAME, UNKNOWN, CHANGED)).astype(np.uint8)


def _fitted(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """A mask of the picture's size."""
    if mask.shape == (height, width):
        return mask
    if abs(mask.shape[1] * height / (mask.shape[0] * width) - 1) > _SHAPES:
        turned = abs(mask.shape[0] * height / (mask.shape[1] * width) - 1) <= _SHAPES
        raise Rejected("the mask is turned by 90°, one way or the other" if turned else
                       "the mask has another aspect ratio than the picture")
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
    without = mask == UNKNOWN
    unknown = ela.resize(without.astype(np.float32), size) if without.any() else np.float32(0)
    most = float(changed.max())
    least = min(most, 0.5) if most > 0 else 1.0  # shares are rounded in the last digits
    small = (changed >= least * (1 - unknown) - 1e-5).astype(np.uint8)
    return np.where(unknown > 0.5 + 1e-5, np.uint8(UNKNOWN), small)


class Film:
    """The masks of a video's frames: the frames of the same numbers of another video, or one
    picture for all of them. A context manager; the file is opened at the first frame."""

    def __init__(self, file: File, path: bytes) -> None:
        """
        Args:
            file: of the masks.
            path: of the video.
        """
        self._file, self._video = file, path
        self._frames: video.Numbered | None = None
        self._count = 0  # frames of the video, as its container states

    def at(self, number: int, height: int, width: int) -> np.ndarray:
        """``read`` for a frame, by its number from 0; numbers must not descend. A frame in which
        nothing is marked is a frame in which nothing was changed.

        Raises:
            Rejected: as of ``read``, or the videos differ in the number of their frames by more
                than 1%.
        """
        if not self._file.path.lower().endswith(VIDEOS):
            return self._file.read(height, width)
        if self._frames is None:
            self._count = video.probe(self._video).frames
            self._frames = video.Numbered(self._file.path)
        masks, frames = self._frames.stated, self._count
        if masks and frames and abs(masks - frames) > max(1, _FRAMES * frames):
            raise Rejected(f"the mask has {plural(masks, 'frame')}, and the video {frames:,}, so "
                           "which belong together can't be known")
        pixels = self._frames.at(number)
        return _fitted(_marked(255 - pixels if self._file.inverted else pixels), height, width)

    def __enter__(self) -> Film:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._frames is not None:
            self._frames.close()
