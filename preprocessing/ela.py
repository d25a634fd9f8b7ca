"""Error level analysis: what one more JPEG compression changes in a picture.

A region with another compression history than the rest answers a known compression with errors
of another size (N. Krawetz, "A Picture's Worth", Black Hat 2007).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import cv2
import numpy as np

from preprocessing.picture import Rejected, decode, read

SIZE = 128  # the network's input


@dataclass(frozen=True)
class Parameters:
    """What decides the features' values; stored with the data and with the model."""

    quality: int = 90
    subsampling: str = "4:2:0"
    size: int = SIZE

    def as_dict(self) -> dict[str, int | str]:
        return asdict(self)


def recompress(pixels: np.ndarray, quality: int) -> np.ndarray:
    """``pixels`` after JPEG at ``quality``, 4:2:0, in memory; uint8, same shape."""
    done, data = cv2.imencode(".jpg", pixels, (
        cv2.IMWRITE_JPEG_QUALITY, quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420))
    if not done:
        raise Rejected("cannot be encoded as JPEG")
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def resize(pixels: np.ndarray, size: int = SIZE) -> np.ndarray:
    """To (size, size, 3): means of areas to shrink, linear interpolation to grow."""
    height, width = pixels.shape[:2]
    down, across = height // size, width // size
    if (down * size, across * size) == (height, width) and down * across > 1:
        # whole-numbered, as for 384×256: box means, of which one for each area is kept, are
        # quicker than OpenCV's area mode
        return cv2.blur(pixels, (across, down), anchor=(0, 0))[::down, ::across]
    if (height < size) != (width < size):  # one way each: OpenCV's area mode would skip pixels
        pixels = cv2.resize(pixels, (width, size) if height > size else (size, height),
                            interpolation=cv2.INTER_AREA)
    way = cv2.INTER_AREA if height >= size and width >= size else cv2.INTER_LINEAR
    return cv2.resize(pixels, (size, size), interpolation=way)


def error_level(pixels: np.ndarray, parameters: Parameters) -> np.ndarray:
    """|original - recompressed| · 255/max, rounded; uint8, same shape.

    (The usual notebook's ``ImageEnhance.Brightness`` cuts instead: at most one level less.)
    """
    again = recompress(pixels, parameters.quality)
    difference = cv2.absdiff(pixels, again, dst=again)  # in place: large arrays cost page faults
    largest = max(int(difference.max()), 1)
    return cv2.convertScaleAbs(difference, dst=difference, alpha=255 / largest)


def _ela(pixels: np.ndarray, parameters: Parameters) -> np.ndarray:
    return resize(error_level(pixels, parameters), parameters.size)


def _raw(pixels: np.ndarray, parameters: Parameters) -> np.ndarray:
    return resize(pixels, parameters.size)


FEATURES: dict[str, Callable[[np.ndarray, Parameters], np.ndarray]] = {"ela": _ela, "raw": _raw}


def features(data: bytes, names: tuple[str, ...], parameters: Parameters) -> list[np.ndarray]:
    """The named features of a picture file.

    Args:
        data: contents of the file. names: of ``FEATURES``.

    Returns:
        One uint8 array (size, size, 3), red-green-blue, for each name.

    Raises:
        Rejected: the file can't be used.
    """
    pixels = decode(data)
    return [FEATURES[name](pixels, parameters)[..., ::-1] for name in names]


def features_of_file(path: bytes | str, names: tuple[str, ...],
                     parameters: Parameters) -> list[np.ndarray]:
    """``features`` of the file ``path``; Rejected also if it can't be read."""
    return features(read(path), names, parameters)
