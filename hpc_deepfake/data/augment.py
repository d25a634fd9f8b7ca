"""Random changes of training rows (augmentation), each a function of seed, epoch and row alone.

So the same rows come out at any number of ranks, with any batch size, and after a resume. The
changes work on rows as they lie in the data file, in the thread that loads them.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from hpc_deepfake.core.errors import InputError
from preprocessing import perturb
from preprocessing.ela import recompress

if TYPE_CHECKING:
    from hpc_deepfake.data.rows import DataFile

_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio
_LARGEST_SHIFT = 32  # pixels: half of the smallest rows
_LARGEST_ANGLE = 45  # degrees
_Range = tuple[float, float]


class Draws:
    """Random numbers for n rows: functions of seed, epoch, row and purpose.

    A counter mixed by the finaliser of SplitMix64 (Steele, Lea & Flood 2014), so that no state
    must be kept, and none is shared by rows.
    """

    def __init__(self, seed: int, epoch: int, rows: np.ndarray) -> None:
        """
        Args:
            seed: of the run, from 0.
            epoch: from 1.
            rows: int64 (n), numbers in the data file.
        """
        key = np.zeros(len(rows), np.uint64)
        for part in (seed, epoch, rows):
            key = _mixed(key + np.asarray(part).astype(np.uint64))
        self._key = key

    def words(self, purpose: str) -> np.ndarray:
        """uint64 (n), uniform; independent of those of another ``purpose``."""
        number = np.uint64(int.from_bytes(purpose.encode()[:8], "little"))
        return _mixed(_mixed(self._key + number))

    def uniform(self, purpose: str) -> np.ndarray:
        """float64 (n), uniform in [0, 1)."""
        return (self.words(purpose) >> np.uint64(11)) * 2.0**-53

    def whole(self, purpose: str, low: int, high: int) -> np.ndarray:
        """int64 (n), uniform from ``low`` to ``high``, both included."""
        return low + (self.uniform(purpose) * (high - low + 1)).astype(np.int64)

    def between(self, purpose: str, ends: _Range) -> np.ndarray:
        """float64 (n), uniform between two numbers."""
        return ends[0] + self.uniform(purpose) * (ends[1] - ends[0])

    def half(self, purpose: str) -> np.ndarray:
        """Numbers of the places of about half of the rows."""
        return np.flatnonzero(self.words(purpose) >> np.uint64(63))


def _mixed(words: np.ndarray) -> np.ndarray:
    words = words + np.uint64(_GOLDEN)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _flip(pictures: np.ndarray, draws: Draws, ways: str) -> None:
    for place in draws.half("flip"):
        pictures[place] = cv2.flip(pictures[place], 1)
    if ways == "both":
        for place in draws.half("updown"):
            pictures[place] = cv2.flip(pictures[place], 0)


def _rotate(pictures: np.ndarray, draws: Draws, angle: float) -> None:
    if not angle:  # quarter turns, which move pixels and change none
        for picture, turns in zip(pictures, draws.whole("rotate", 0, 3).tolist(), strict=True):
            if turns:
                picture[:] = cv2.rotate(picture, turns - 1)
        return
    middle = (pictures.shape[1] - 1) / 2
    interpolation = cv2.INTER_NEAREST if pictures.ndim == 3 else cv2.INTER_LINEAR  # masks: no means
    for picture, share in zip(pictures, draws.uniform("rotate").tolist(), strict=True):
        turn = cv2.getRotationMatrix2D((middle, middle), (2 * share - 1) * angle, 1.0)
        picture[:] = cv2.warpAffine(picture, turn, picture.shape[:2], flags=interpolation,
                                    borderMode=cv2.BORDER_REFLECT_101)


def _shift(pictures: np.ndarray, draws: Draws, pixels: int) -> None:
    size = pictures.shape[1]
    for picture, down, across in zip(pictures, draws.whole("down", 0, 2 * pixels).tolist(),
                                     draws.whole("across", 0, 2 * pixels).tolist(), strict=True):
        wide = cv2.copyMakeBorder(picture, pixels, pixels, pixels, pixels,
                                  cv2.BORDER_REFLECT_101)
        picture[:] = wide[down:down + size, across:across + size]


def _crop(pictures: np.ndarray, draws: Draws, shares: _Range) -> None:
    size = pictures.shape[1]
    interpolation = cv2.INTER_NEAREST if pictures.ndim == 3 else cv2.INTER_LINEAR  # masks: no means
    for picture, share, down, across in zip(
            pictures, draws.between("crop", shares).tolist(), draws.uniform("top").tolist(),
            draws.uniform("left").tolist(), strict=True):
        side = round(size * share)
        top, left = (int(place * (size - side + 1)) for place in (down, across))
        picture[:] = cv2.resize(picture[top:top + side, left:left + side], (size, size),
                                interpolation=interpolation)


def _resize(pictures: np.ndarray, draws: Draws, factors: _Range) -> None:
    size = pictures.shape[1]
    factor = draws.between("factor", factors)
    for place in draws.half("resize"):
        side = round(size * float(factor[place]))
        small = cv2.resize(pictures[place], (side, side), interpolation=cv2.INTER_AREA)
        pictures[place] = cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR)


def _blur(pictures: np.ndarray, draws: Draws, deviations: _Range) -> None:
    deviation = draws.between("radius", deviations)
    for place in draws.half("blur"):
        pictures[place] = cv2.GaussianBlur(pictures[place], (0, 0), float(deviation[place]),
                                           borderType=cv2.BORDER_REFLECT_101)


def _jpeg(pictures: np.ndarray, draws: Draws, qualities: tuple[int, int]) -> None:
    quality = draws.whole("quality", *qualities)
    for place in draws.half("jpeg"):
        bgr = cv2.cvtColor(pictures[place], cv2.COLOR_RGB2BGR)
        pictures[place] = recompress(bgr, int(quality[place]))[..., ::-1]


def _noise(pictures: np.ndarray, draws: Draws, deviation: float) -> None:
    words = draws.words("levels")
    for place in draws.half("noise"):
        pictures[place] = perturb.noisy(pictures[place], deviation, int(words[place]))


class _Operation(NamedTuple):
    """An operation: how its parameter is read, and what it does.

    Attributes:
        default: its parameter as text, if none is given; empty: none is needed.
        read: the parameter of a text; raises ValueError with what is possible.
        change: changes pictures, uint8 (n, S, S, channels), in place.
        moves: whether it moves pixels: then it also changes masks, uint8 (n, S, S), alike.
        done: what it does to pictures, if it makes no sense for what is computed from pictures;
            else empty.
    """

    default: str
    read: Callable[[str], Any]
    change: Callable[[np.ndarray, Draws, Any], None] | None
    moves: bool = False
    done: str = ""


def _between(low: float, high: float, what: str) -> Callable[[str], _Range]:
    """Reads a number, or two as LOW-HIGH, within these limits."""
    def read(text: str) -> _Range:
        first, _, second = text.partition("-")
        try:
            ends = float(first), float(second or first)
        except ValueError:
            ends = math.nan, math.nan
        if not low <= ends[0] <= ends[1] <= high or text.endswith("-"):
            raise ValueError(f"needs {what} from {low:g} to {high:g}, one or LOW-HIGH")
        return ends

    return read


def _ways(text: str) -> str:
    if text not in ("", "both"):
        raise ValueError("has no parameter (left and right are exchanged), or both (top and "
                         "bottom too)")
    return text


def _angle(text: str) -> float:
    return perturb.number(0.1, _LARGEST_ANGLE, "no parameter (quarter turns), or degrees")(text) \
        if text else 0.0


def _pixels(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= _LARGEST_SHIFT):
        raise ValueError(f"needs whole pixels from 1 to {_LARGEST_SHIFT}")
    return int(text)


def _qualities(text: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    if not all(part.isdecimal() and 1 <= int(part) <= 100 for part in (low, high or low)) \
            or bool(dash) != bool(high) or int(low) > int(high or low):
        raise ValueError("needs JPEG qualities LOW-HIGH from 1 to 100")
    return int(low), int(high or low)


NONE = "none"
_MIXUP = "mixup"
_OPERATIONS = {  # in the order in which they are done
    "flip": _Operation("", _ways, _flip, moves=True),
    "rotate": _Operation("", _angle, _rotate, moves=True),
    "shift": _Operation("8", _pixels, _shift, moves=True),
    "crop": _Operation("0.8-1", _between(0.5, 1, "shares of each side"), _crop, moves=True),
    "resize": _Operation("0.5-1", _between(0.1, 1, "factors"), _resize, done="scaled"),
    "blur": _Operation("0.5-1.5", _between(0.1, 10, "standard deviations in pixels"), _blur,
                       done="blurred"),
    "jpeg": _Operation("70-95", _qualities, _jpeg, done="saved as JPEG"),
    "noise": _Operation("3", perturb.number(0.1, 64, "a standard deviation in levels"), _noise),
    _MIXUP: _Operation("0.2", perturb.number(0.01, 10, "the parameter of a beta distribution"),
                       None),
}
OPERATIONS = tuple(_OPERATIONS)
_BEFORE = {"jpeg": "jpeg=95,90,80,70", "resize": "resize=0.75,0.5", "blur": "blur=0.5,1"}


def canonical(text: str) -> str:
    """Argument type: operations separated by commas, each ``NAME`` or ``NAME=PARAMETER``, as one
    text in a fixed order with all parameters; ``none``, or nothing: none.

    Raises:
        argparse.ArgumentTypeError: an unknown operation, one given twice, or an impossible
            parameter.
    """
    parameters: dict[str, str] = {}
    for word in _words(text):
        name, equals, parameter = word.partition("=")
        operation = _OPERATIONS.get(name)
        if operation is None:
            why = ": rows have one size, whatever that of a screen" * (name == "screenshot")
            raise argparse.ArgumentTypeError(f"'{name}' is no augmentation{why}; possible are "
                                             f"{', '.join(OPERATIONS)}, separated by commas")
        if name in parameters:
            raise argparse.ArgumentTypeError(f"{name} is given twice; give it once")
        try:
            if equals and not parameter:
                raise ValueError(f"has no parameter after '='; e.g. {name}={operation.default}"
                                 if operation.default else "has no parameter after '='")
            parameters[name] = parameter or operation.default
            operation.read(parameters[name])
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{word}: {name} {error}") from None
    return ",".join(name + f"={parameters[name]}" * bool(parameters[name])
                    for name in _OPERATIONS if name in parameters) or NONE


def _words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    return [] if words in ([""], [NONE]) else words


def check(text: str, feature: str) -> None:
    """Raise InputError, on all ranks alike, if an operation makes no sense for a feature."""
    for name in (word.partition("=")[0] for word in _words(text)):
        done = _OPERATIONS[name].done
        if done and feature != "raw":
            raise InputError(
                f"--augment {name}: rows of {feature} are no pictures that could be {done}, but "
                f"computed from such. Use --feature raw, or have pictures {done} before their "
                f"features are computed: preprocessing --perturb {_BEFORE[name]}",
                everywhere=True)


class Rows(NamedTuple):
    """Rows as the network gets them.

    Attributes:
        pictures: uint8 (n, S, S, channels).
        labels: uint8 (n), with mixup float32 (n), the share of "tampered".
        masks: uint8 (n, S, S), of values as in ``preprocessing.mask``; None: not wanted, or the
            file has none.
    """

    pictures: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None = None


class Augmentation:
    """The augmentation of a run."""

    def __init__(self, text: str, seed: int, rows: np.ndarray) -> None:
        """
        Args:
            text: as ``canonical`` returns it.
            seed: of the run.
            rows: the training rows, int64, out of which mixup takes partners.
        """
        self._seed, self._rows = seed, rows
        words = [word.partition("=") for word in _words(text)]
        self._parameters = {name: _OPERATIONS[name].read(value) for name, _, value in words}

    def batch(self, data: DataFile, rows: np.ndarray, epoch: int,
              masks: bool = False) -> Rows:
        """The rows as they are in an epoch.

        Args:
            data: to take them from.
            rows: int64 (n).
            epoch: from 1.
            masks: whether their masks are wanted, which mixup can't mix.

        Raises:
            InputError: the file can't be read any more.
        """
        changed = self._changed(data, rows, epoch, masks)
        if _MIXUP not in self._parameters:
            return changed
        alpha, draws = self._parameters[_MIXUP], Draws(self._seed, epoch, rows)
        partners = self._rows[draws.whole("partner", 0, len(self._rows) - 1)]
        others = self._changed(data, partners, epoch, False)
        shares = np.array([np.random.Generator(np.random.SFC64(word)).beta(alpha, alpha)
                           for word in draws.words("share").tolist()])
        for picture, other, share in zip(changed.pictures, others.pictures, shares.tolist(),
                                         strict=True):
            cv2.addWeighted(picture, share, other, 1 - share, 0.0, dst=picture)
        labels = shares * changed.labels + (1 - shares) * others.labels
        return changed._replace(labels=labels.astype(np.float32))

    def _changed(self, data: DataFile, rows: np.ndarray, epoch: int, masks: bool) -> Rows:
        """Rows after all operations but mixup (Zhang et al. 2018), which takes two of them."""
        pictures, labels = data.batch(rows)
        moved = np.asarray(data.masks[rows]) if masks and data.masks is not None else None
        draws = Draws(self._seed, epoch, rows)
        for name, parameter in self._parameters.items():
            operation = _OPERATIONS[name]
            if operation.change is not None:
                operation.change(pictures, draws, parameter)
                if operation.moves and moved is not None:
                    operation.change(moved, draws, parameter)
        return Rows(pictures, labels, moved)
