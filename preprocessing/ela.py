"""Error level analysis (ELA): the change of a picture by one more JPEG compression.

A region with another compression history than the rest changes by another amount (N. Krawetz, "A
Picture's Worth", Black Hat 2007).
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import cache

import cv2
import numpy as np

from preprocessing import area, faces, gray_bits
from preprocessing.faces import Box
from preprocessing.picture import Rejected, decode, read

SIZE = 128  # width and height of features, unless another one is chosen
SIZES = 64, 1024  # the smallest and the largest that can be chosen
MAX_SIZE = 4096  # of features in a file
CROPS = ("faces",)


@dataclass(frozen=True)
class Parameters:
    """The parameters that determine the features; stored with the data and with the model.

    Attributes:
        quality: JPEG quality of ELA's recompression.
        subsampling: chroma subsampling of that recompression.
        size: width and height of the features.
        reencode: JPEG quality at which every picture is encoded first; None to skip that.
        crop: ``faces``: the features show the largest face; None: the whole picture.
        margin: width of the square around the face, over the longer side of the face; None without
            ``crop``.
    """

    quality: int = 90
    subsampling: str = "4:2:0"
    size: int = SIZE
    reencode: int | None = None
    crop: str | None = None
    margin: float | None = None

    @classmethod
    def of(cls, stored: object) -> Parameters:
        """Parameters that were stored with data or a model, as a dictionary.

        Raises:
            ValueError: there are others, or impossible values.
        """
        values = stored if isinstance(stored, dict) else {"": stored}
        if not values.keys() <= {field.name for field in fields(cls)}:
            raise ValueError(f"unknown ELA parameters {values}")
        parameters = cls(**values)
        limits = {"quality": 100, "size": MAX_SIZE, "reencode": 100}
        for name, limit in limits.items():
            value = getattr(parameters, name)
            if not (type(value) is int and 1 <= value <= limit) and (name, value) != (
                    "reencode", None):
                raise ValueError(f"impossible ELA parameter {name} {value!r}")
        if parameters.subsampling != cls.subsampling:
            raise ValueError(f"impossible ELA parameter subsampling {parameters.subsampling!r}")
        margin, (least, most) = parameters.margin, faces.MARGINS
        if parameters.crop not in (None, *CROPS):
            raise ValueError(f"impossible ELA parameter crop {parameters.crop!r}")
        if (parameters.crop is None) != (margin is None) or (margin is not None and not (
                type(margin) in (int, float) and least <= margin <= most)):
            raise ValueError(f"impossible ELA parameter margin {margin!r}")
        return parameters

    def as_dict(self) -> dict[str, int | float | str]:
        """As stored, without parameters that are None, as in files older than the parameter."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def options(self, other: Parameters) -> str:
        """The options of preprocessing for what differs from ``other``, such as ``--size 64``."""
        different = {name: value for name, value in asdict(self).items()
                     if getattr(other, name) != value}
        if self.crop is None:  # nor a margin
            different.pop("margin", None)
        return " ".join(f"without --{name}" if value is None else f"--{name} {value}"
                        for name, value in different.items())


def at_once(most: int, size: int) -> int:
    """As many rows of ``size`` × ``size`` as take the memory of ``most`` rows of 128 × 128; at most
    ``most``, and at least 1."""
    return max(1, min(most, most * SIZE**2 // size**2))


def recompress(pixels: np.ndarray, quality: int) -> np.ndarray:
    """``pixels`` after JPEG compression at ``quality``, 4:2:0, in memory; uint8, same shape.

    Raises:
        Rejected: OpenCV can't encode the picture.
    """
    done, data = cv2.imencode(".jpg", pixels, (
        cv2.IMWRITE_JPEG_QUALITY, quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420))
    compressed = cv2.imdecode(data, cv2.IMREAD_COLOR) if done else None
    if compressed is None:
        raise Rejected("cannot be encoded as JPEG")
    return compressed


def resize(pixels: np.ndarray, size: int = SIZE) -> np.ndarray:
    """``pixels`` as (size, size, 3): area means to shrink, linear interpolation to enlarge."""
    height, width = pixels.shape[:2]
    down, across = height // size, width // size
    if (down * size, across * size) == (height, width) and down * across > 1:
        # integer factors, as for 384×256: box means, of which one per area is kept, are faster
        # than OpenCV's area mode
        return cv2.blur(pixels, (across, down), anchor=(0, 0))[::down, ::across]
    if (height < size) != (width < size):  # shrink first: OpenCV's area mode would skip pixels
        pixels = cv2.resize(pixels, (width, size) if height > size else (size, height),
                            interpolation=cv2.INTER_AREA)
    if height >= size and width >= size:
        return area.shrink(pixels, size)
    return cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR)


def error_level(pixels: np.ndarray, parameters: Parameters,
                box: Box | None = None) -> np.ndarray:
    """|original - recompressed| · 255/max, rounded; uint8, same shape, or that of ``box``.

    The whole picture is compressed, in the place of its JPEG grid; the largest value is that of the
    part which is kept.

    (``ImageEnhance.Brightness`` of the usual notebook truncates instead: at most one level less.)
    """
    result = recompress(pixels, parameters.quality)
    difference = cv2.absdiff(pixels, result, dst=result)  # in place: large arrays cost page faults
    if box is not None:
        difference = np.ascontiguousarray(box.of(difference))
    largest = max(int(difference.max()), 1)
    return cv2.convertScaleAbs(difference, dst=difference, alpha=255 / largest)


Errors = Callable[[], np.ndarray]  # the error map, computed at the first call


def _ela(pixels: np.ndarray, errors: Errors, size: int) -> np.ndarray:
    return resize(errors(), size)


def _raw(pixels: np.ndarray, errors: Errors, size: int) -> np.ndarray:
    return resize(pixels, size)


def _gray_bits(pixels: np.ndarray, errors: Errors, size: int) -> np.ndarray:
    """The bits of each pixel, then their means: the bits of a mean would not be those of any pixel,
    and would jump where the mean passes a multiple of 16."""
    gray, high, low = (resize(plane, size) for plane in gray_bits.planes(errors()))
    return np.dstack((low, high, gray))  # the caller reverses the channels


FEATURES: dict[str, Callable[[np.ndarray, Errors, int], np.ndarray]] = {
    "ela": _ela, "raw": _raw, "gray_bits": _gray_bits}
JOIN = "+"  # between the parts of a stacked feature, such as ela+raw


def parts(feature: str) -> tuple[str, ...]:
    """The features that are stacked in one, by their names in a data file: ``ela`` and ``raw`` of
    ``ela+raw``."""
    return tuple(feature.split(JOIN))


def channels(feature: str) -> int:
    """Channels of a row: three of each part."""
    return 3 * len(parts(feature))


def computable(feature: str) -> bool:
    """Whether it can be computed from pictures."""
    return all(part in FEATURES for part in parts(feature))


def feature(text: str) -> str:
    """Argument type: the name of a feature, or of several to be stacked, in a fixed order.

    Raises:
        argparse.ArgumentTypeError: one has no name, or is given twice.
    """
    names = [name.strip() for name in text.split(JOIN)]
    if len(set(names)) < len(names) or not all(
            name.replace("-", "").replace("_", "").isalnum() for name in names):
        raise ArgumentTypeError(f"'{text}' is no feature: give one, such as ela, or several "
                                "different ones, such as ela+raw")
    return JOIN.join(sorted(names))


def feature_list(text: str) -> list[str]:
    """Argument type: features separated by commas or spaces (``qsub -v`` doesn't accept commas)."""
    return [feature(name) for name in text.replace(",", " ").split() or [text]]


def features(data: bytes, names: tuple[str, ...], parameters: Parameters,
             path: bytes | str | None = None) -> list[np.ndarray]:
    """The named features of a picture file.

    Args:
        data: contents of the file.
        names: keys of ``FEATURES``, or several of them as one (``parts``).
        parameters: how they are computed.
        path: of the file, for messages.

    Returns:
        One uint8 array (size, size, 3) for each name: red, green, blue; for ``gray_bits``
        luminance, high bits, low bits; of stacked features (size, size, 3 · parts).

    Raises:
        Rejected: the file can't be used, and why.
    """
    return features_of_pixels(decode(data, path), names, parameters)


def box_of(pixels: np.ndarray, parameters: Parameters, box: Box | None = None) -> Box | None:
    """The part of a picture that its features show; None: all of it.

    Args:
        pixels: uint8 (height, width, 3), blue-green-red.
        parameters: whether there is one.
        box: the part, where it is known already, as of a video's frame.

    Raises:
        Rejected: the picture has no such part.
    """
    if parameters.crop is None or parameters.margin is None:
        return None
    if box == faces.NOWHERE:
        raise Rejected(faces.NO_FACE)
    return faces.largest(pixels, parameters.margin) if box is None else box


def features_of_pixels(pixels: np.ndarray, names: tuple[str, ...], parameters: Parameters,
                       box: Box | None = None) -> list[np.ndarray]:
    """``features`` of decoded pixels: uint8 (height, width, 3), blue-green-red; of ``box``, where
    it is known, as of ``box_of``."""
    box = box_of(pixels, parameters, box)
    if parameters.reencode is not None:
        pixels = recompress(pixels, parameters.reencode)
    errors = cache(lambda: error_level(pixels, parameters, box))
    seen = pixels if box is None else box.of(pixels)

    def computed(name: str) -> np.ndarray:
        return FEATURES[name](seen, errors, parameters.size)[..., ::-1]

    return [computed(name) if name in FEATURES else
            np.concatenate([computed(part) for part in parts(name)], axis=2) for name in names]


def features_of_file(path: bytes | str, names: tuple[str, ...],
                     parameters: Parameters) -> list[np.ndarray]:
    """``features`` of the file ``path``. Also raises Rejected if the file can't be read."""
    return features(read(path), names, parameters, path)
