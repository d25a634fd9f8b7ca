"""Error level analysis: what one more JPEG compression changes in a picture.

A region with another compression history than the rest answers a known compression with errors
of another size (N. Krawetz, "A Picture's Worth", Black Hat 2007).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache

import cv2
import numpy as np

from preprocessing import gray_bits
from preprocessing.picture import Rejected, decode, read

SIZE = 128  # the network's input


@dataclass(frozen=True)
class Parameters:
    """What decides the features' values; stored with the data and with the model.

    Attributes:
        quality: of ELA's recompression. reencode: JPEG quality at which every picture is saved
            once before all else, or None.
    """

    quality: int = 90
    subsampling: str = "4:2:0"
    size: int = SIZE
    reencode: int | None = None

    def as_dict(self) -> dict[str, int | str]:
        """As stored; what is None is left out, as in files older than that parameter."""
        return {name: value for name, value in asdict(self).items() if value is not None}


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


Errors = Callable[[], np.ndarray]  # the error map, computed when first asked for


def _ela(pixels: np.ndarray, errors: Errors, size: int) -> np.ndarray:
    return resize(errors(), size)


def _raw(pixels: np.ndarray, errors: Errors, size: int) -> np.ndarray:
    return resize(pixels, size)


def _gray_bits(pixels: np.ndarray, errors: Errors, size: int) -> np.ndarray:
    """Bits of each pixel, then their means: bits of a mean would belong to no pixel, and jump
    where it passes a multiple of 16."""
    gray, high, low = (resize(plane, size) for plane in gray_bits.planes(errors()))
    return np.dstack((low, high, gray))  # stored the other way round


FEATURES: dict[str, Callable[[np.ndarray, Errors, int], np.ndarray]] = {
    "ela": _ela, "raw": _raw, "gray_bits": _gray_bits}


def features(data: bytes, names: tuple[str, ...], parameters: Parameters) -> list[np.ndarray]:
    """The named features of a picture file.

    Args:
        data: contents of the file. names: of ``FEATURES``.

    Returns:
        One uint8 array (size, size, 3) for each name: red, green, blue; of ``gray_bits``
        luminance, high bits, low bits.

    Raises:
        Rejected: the file can't be used.
    """
    return features_of_pixels(decode(data), names, parameters)


def features_of_pixels(pixels: np.ndarray, names: tuple[str, ...],
                       parameters: Parameters) -> list[np.ndarray]:
    """``features`` of decoded pixels: uint8 (height, width, 3), blue-green-red."""
    if parameters.reencode is not None:
        pixels = recompress(pixels, parameters.reencode)
    errors = cache(lambda: error_level(pixels, parameters))
    return [FEATURES[name](pixels, errors, parameters.size)[..., ::-1] for name in names]


def features_of_file(path: bytes | str, names: tuple[str, ...],
                     parameters: Parameters) -> list[np.ndarray]:
    """``features`` of the file ``path``; Rejected also if it can't be read."""
    return features(read(path), names, parameters)
