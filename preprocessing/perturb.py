"""What happens to a picture on its way to the reader: it is saved again, scaled, blurred, cropped,
shown on a screen and captured from it.

Each operation changes pixels as handling the file would: what comes out is what the changed file
decodes to. They are those of the field's robustness tests: JPEG, scaling, blur and noise of
SPAN (Hu et al., ECCV 2020) and PSCC-Net (Liu et al., IEEE TCSVT 2022), JPEG and blur of MVSS-Net
(Chen et al., ICCV 2021), JPEG, blur and noise of IMDL-BenCo (Ma et al., NeurIPS 2024). Chains of
them stand for social networks, which scale and save again (Wu et al., "Robust image forgery
detection over online social network shared images", CVPR 2022).
"""

from __future__ import annotations

import argparse
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from statistics import NormalDist
from typing import NamedTuple

import cv2
import numpy as np

from preprocessing.ela import recompress
from preprocessing.facts import Facts
from preprocessing.picture import MAX_PIXELS, MAX_SIDE, Rejected

JOIN = "+"  # between steps that are done one after another
SCREEN = 1920, 1080  # width and height, the commonest of desktop computers
_CROP = "crop"
_MOST = 1000  # perturbations that one word stands for
_STRIP = 1 << 22  # values that get noise at a time


@dataclass(frozen=True)
class Perturbation:
    """One or more operations, each at one level, done one after another.

    Attributes:
        steps: name and level of each; the level of an operation without one is 0. Without any, the
            picture stays as it is.
    """

    steps: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        return JOIN.join(name + (f"={level:g}" if _OPERATIONS[name].read else "")
                         for name, level in self.steps) or "none"

    @property
    def operation(self) -> str:
        """Its operations without levels: perturbations of one operation are points of a curve."""
        return JOIN.join(name for name, _ in self.steps)

    @property
    def moves(self) -> bool:
        """Whether it changes what part of the picture is seen, and so masks."""
        return any(name == _CROP for name, _ in self.steps)

    def of_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """What the changed picture file decodes to: a function of the pixels alone.

        Args:
            pixels: uint8 (height, width, 3), blue-green-red; they stay as they are.

        Returns:
            uint8, of the changed size.

        Raises:
            Rejected: it gets too large.
        """
        for name, level in self.steps:
            pixels = _OPERATIONS[name].change(pixels, level)
        return pixels

    def of_mask(self, mask: np.ndarray) -> np.ndarray:
        """The mask of the changed picture, from that of the picture at any resolution, uint8 (h,
        w). Only ``crop`` changes it: all others leave each place where it is in the picture."""
        for name, level in self.steps:
            if name == _CROP:
                mask = _crop(mask, level)
        return mask

    def facts(self, width: int, height: int) -> Facts:
        """Facts of the changed file, of this size: a JPEG if it is saved as such in the end, else
        saved without loss."""
        name, level = self.steps[-1]
        return Facts(width, height, "JPEG", int(level)) if name == "jpeg" else \
            Facts(width, height, "PNG")


def noisy(pixels: np.ndarray, deviation: float, seed: int) -> np.ndarray:
    """Pixels with Gaussian noise, another one in each pixel and colour, rounded to whole levels and
    cut to 0 and 255; the same on all processors.

    Args:
        pixels: uint8 of any shape.
        deviation: standard deviation in levels.
        seed: 0 to 2**64 - 1.
    """
    levels, source = _gaussian(deviation), np.random.SFC64(seed)
    flat, result = pixels.reshape(-1), np.empty(pixels.size, np.uint8)
    for start in range(0, flat.size, _STRIP):
        strip = flat[start:start + _STRIP]
        # the same on processors of either byte order
        numbers = source.random_raw(-(-strip.size // 4)).astype("<u8", copy=False).view("<u2")
        cv2.add(strip, levels.take(numbers[:strip.size]), dst=result[start:start + _STRIP],
                dtype=cv2.CV_8U)
    return result.reshape(pixels.shape)


@cache
def _gaussian(deviation: float) -> np.ndarray:
    """int16 (65536): quantiles of the normal distribution, rounded to whole levels."""
    quantile = NormalDist(0.0, deviation).inv_cdf
    return np.rint([quantile((number + 0.5) / 65536) for number in range(65536)]).astype(np.int16)


def _jpeg(pixels: np.ndarray, quality: float) -> np.ndarray:
    return recompress(pixels, int(quality))


def _resize(pixels: np.ndarray, factor: float) -> np.ndarray:
    """As image editors do: means to shrink, bicubic interpolation to enlarge."""
    return _scaled(pixels, factor, cv2.INTER_CUBIC)


def _scaled(pixels: np.ndarray, factor: float, enlarging: int) -> np.ndarray:
    height, width = (max(1, round(side * factor)) for side in pixels.shape[:2])
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise Rejected(f"{width}×{height} pixels, which it has once it is scaled by {factor:.3g}, "
                       "are too many")
    return cv2.resize(pixels, (width, height),
                      interpolation=cv2.INTER_AREA if factor < 1 else enlarging)


def _blur(pixels: np.ndarray, deviation: float) -> np.ndarray:
    return cv2.GaussianBlur(pixels, (0, 0), deviation, borderType=cv2.BORDER_REFLECT_101)


def _noise(pixels: np.ndarray, deviation: float) -> np.ndarray:
    """Seeded by the pixels, so that it is the same on any number of ranks, and at all levels but
    for its size."""
    return noisy(pixels, deviation, _checksum(pixels))


def _crop(pixels: np.ndarray, share: float) -> np.ndarray:
    """The middle. JPEG's grid of 8 × 8 then begins anywhere, as after a crop by hand."""
    height, width = pixels.shape[:2]
    tall, wide = (max(1, round(side * share)) for side in (height, width))
    top, left = (height - tall) // 2, (width - wide) // 2
    return np.ascontiguousarray(pixels[top:top + tall, left:left + wide])


def _screenshot(pixels: np.ndarray, _: float) -> np.ndarray:
    """Scaled to fill a screen, as viewers do by default, with a graphics card's linear
    interpolation; captured without the borders, and saved without loss and metadata."""
    height, width = pixels.shape[:2]
    return _scaled(pixels, min(SCREEN[0] / width, SCREEN[1] / height), cv2.INTER_LINEAR)


NOTHING = Perturbation(())


class _Operation(NamedTuple):
    """An operation on pixels.

    Attributes:
        change: pixels and level → changed pixels.
        read: the level of a text; raises ValueError with what is possible. None: it has no level.
    """

    change: Callable[[np.ndarray, float], np.ndarray]
    read: Callable[[str], float] | None = None


def number(low: float, high: float, what: str, whole: bool = False) -> Callable[[str], float]:
    """Reads a number from ``low`` to ``high``; raises ValueError that says so."""
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high or (whole and value != int(value)):
            raise ValueError(f"needs {what} from {low:g} to {high:g}")
        return value

    return read


_OPERATIONS = {
    "jpeg": _Operation(_jpeg, number(1, 100, "JPEG qualities", whole=True)),
    "resize": _Operation(_resize, number(0.05, 8, "factors")),
    "blur": _Operation(_blur, number(0.1, 50, "standard deviations in pixels")),
    "noise": _Operation(_noise, number(0.1, 64, "standard deviations in levels")),
    _CROP: _Operation(_crop, number(0.1, 1, "shares of each side")),
    "screenshot": _Operation(_screenshot),
}
OPERATIONS = tuple(_OPERATIONS)


def parse(word: str) -> tuple[Perturbation, ...]:
    """Argument type: an operation ``NAME=LEVEL[,LEVEL…]``, or ``screenshot``; several joined by
    ``+`` are done one after another, with all their levels combined.

    Raises:
        argparse.ArgumentTypeError: there is no such operation or level, or too many combinations.
    """
    steps = list(map(_levels, word.split(JOIN)))
    if math.prod(map(len, steps)) > _MOST:
        raise argparse.ArgumentTypeError(f"{word}: levels of more than {_MOST:,} combinations")
    return tuple(map(Perturbation, product(*steps)))


def of_texts(texts: object) -> tuple[Perturbation, ...]:
    """Perturbations from their texts, a list as stored.

    Raises:
        ValueError: they can't be read.
    """
    if not isinstance(texts, list):
        raise ValueError(f"impossible perturbations {texts!r}")
    try:
        return tuple(only for text in texts for only in parse(str(text)))
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"impossible perturbation: {error}") from None


def drawn(pixels: np.ndarray, perturbations: Sequence[Perturbation]) -> Perturbation:
    """One of them, or that the picture stays as it is, each as likely: drawn by the pixels, and so
    the same on any number of ranks."""
    return (NOTHING, *perturbations)[_checksum(pixels) % (len(perturbations) + 1)] \
        if perturbations else NOTHING


def _checksum(pixels: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(pixels).data)


def _levels(text: str) -> list[tuple[str, float]]:
    name, equals, levels = text.partition("=")
    operation = _OPERATIONS.get(name)
    if operation is None:
        raise argparse.ArgumentTypeError(f"'{name}' is no perturbation; possible are "
                                         f"{', '.join(OPERATIONS)}, such as jpeg=95,90 or "
                                         "resize=0.5+jpeg=80")
    if operation.read is None:
        if equals:
            raise argparse.ArgumentTypeError(f"{text}: {name} has no level")
        return [(name, 0.0)]
    try:
        return [(name, level) for level in dict.fromkeys(map(operation.read, levels.split(",")))]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: {name} {error}, separated by commas") from None
