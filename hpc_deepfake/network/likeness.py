"""Which pictures are unlike those that a model was trained on, and in what.

A network gives a probability for anything: a blank page, a screenshot, a photograph where it has
seen drawings only. Such a probability means nothing. A ``Profile`` holds what can be said cheaply
of the training pictures: their sizes, formats and JPEG qualities, and the distribution of a few
statistics of their features. A picture outside of it is named with the reasons.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from hpc_deepfake.core.json_data import dictionary
from hpc_deepfake.core.text import printable
from preprocessing.facts import FORMATS, Facts

UNKNOWN = FORMATS[0]

LEAST = 40  # training pictures from which a distribution can be learned
OWN_KIND = 0.985  # share of the training pictures' own kind that a limit is to include
_FOLDS = 5  # of the cross-validation that chooses the limits
_SHRINKAGE = 0.05  # of correlations towards none, so that few pictures give a stable inverse
_SIDES = 2  # a picture may be this factor smaller or larger than all training pictures
_QUALITY = 3  # a JPEG quality may be this much outside of that of the training pictures
_LEAST_DEVIATION, _MOST = 1e-3, 1e6  # of statistics, most of which are logarithms
_FAR = 3  # standard deviations from which one statistic is named as the reason
_BLOCK = 8

# What a low and a high value of each statistic means
_MEANING = {
    "colour": ("less colour", "more colour"),
    "steps": ("smaller steps from pixel to pixel", "larger steps from pixel to pixel"),
    "direction": ("more change from top to bottom", "more change from left to right"),
    "evenness": ("fewer but sharper edges, as drawings and text have,", "a more even texture"),
    "large shapes": ("less contrast of large shapes", "more contrast of large shapes"),
    "small shapes": ("less contrast of small shapes", "more contrast of small shapes"),
    "detail": ("less detail", "more detail"),
    "fine detail": ("less fine detail", "more fine detail"),
    "quiet areas": ("less texture in flat areas", "more texture or noise in flat areas"),
    "usual areas": ("less texture", "more texture"),
    "busy areas": ("less texture in detailed areas", "more texture in detailed areas"),
}
# Frequencies from which to which the amplitude is measured: of shapes in cycles per picture,
# whatever its size; of detail in cycles per pixel, of which 1/2 is the most along a side
_SHAPES = {"large shapes": (3, 6), "small shapes": (12, 24)}
_DETAIL = {"detail": (44 / 128, 1 / 2), "fine detail": (1 / 2, np.inf)}
STATISTICS = tuple(_MEANING)


def statistics(row: np.ndarray) -> np.ndarray:
    """Cheap statistics of a feature row, float64 (len(STATISTICS)); most are logarithms.

    They describe texture rather than content, as brightness and hues would: sizes of the steps
    between neighbouring pixels, whose distribution and spectrum have regularities in photographs
    (Field 1987, "Relations between the statistics of natural images and the response properties of
    cortical cells"; Torralba & Oliva 2003, "Statistics of natural image categories"), and the
    variation within blocks of 8 × 8.

    Args:
        row: uint8 (S, S, 3), S at least 16.
    """
    planes = np.ascontiguousarray(row.transpose(2, 0, 1), np.float32)  # sums over planes are fast
    grey = (planes[0] + planes[1] + planes[2]) / np.float32(3)
    colour = np.maximum(np.maximum(planes[0], planes[1]), planes[2]) \
        - np.minimum(np.minimum(planes[0], planes[1]), planes[2])
    across, down = np.diff(grey, axis=1), np.diff(grey, axis=0)
    steps = np.abs(across).mean(), np.abs(down).mean()
    root = np.sqrt((np.square(across).mean() + np.square(down).mean()) / 2)
    side = len(grey) // _BLOCK
    blocks = grey[:side * _BLOCK, :side * _BLOCK].reshape(side, _BLOCK, side, _BLOCK)
    blocks = np.ascontiguousarray(blocks.swapaxes(1, 2)).reshape(side * side, _BLOCK * _BLOCK)
    within = np.log1p(np.sort(blocks.std(1)))
    values = {
        "colour": np.log1p(colour.mean()),
        "steps": np.log1p(sum(steps)),
        "direction": np.log1p(steps[0]) - np.log1p(steps[1]),
        "evenness": (sum(steps) + 0.5) / (2 * root + 0.5),
        **dict(zip(("quiet areas", "usual areas", "busy areas"),
                   (within[int(share * len(within))] for share in (0.05, 0.5, 0.95)), strict=True)),
        **_spectrum(grey)}
    return np.array([values[name] for name in STATISTICS], np.float64)


def _spectrum(grey: np.ndarray) -> dict[str, float]:
    """Logarithm of the amplitude in each of ``_bands``."""
    power = np.square(np.abs(np.fft.rfft2(grey - grey.mean()))) / grey.size
    return {name: float(np.log1p(power[band].sum()) / 2)
            for name, band in _bands(len(grey)).items()}


@cache
def _bands(size: int) -> dict[str, np.ndarray]:
    """Which elements of the spectrum of size × size pixels are in each band of ``_SHAPES`` and
    ``_DETAIL``, bool (size, size // 2 + 1)."""
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    return {name: (given >= low) & (given < high)
            for bands, given in ((_SHAPES, size * radius), (_DETAIL, radius))
            for name, (low, high) in bands.items()}


@dataclass(frozen=True)
class Distribution:
    """The statistics of the training pictures, and the distance within which their own kind is.

    The distance is that of Mahalanobis (1936), which is at least as large as the distance of each
    statistic alone in standard deviations.

    Attributes:
        mean: of each statistic, (k).
        deviation: standard deviation of each, above 0, (k).
        correlation: (k, k), shrunk.
        limit: of the distance.
    """

    mean: np.ndarray
    deviation: np.ndarray
    correlation: np.ndarray
    limit: float = np.inf
    _inverse: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_inverse", np.linalg.inv(self.correlation))

    @classmethod
    def of(cls, values: np.ndarray, groups: np.ndarray) -> Distribution:
        """The distribution of statistics (n, k).

        The limit is an order statistic of distances from the distribution of other pictures
        (cross-validation), as in conformal prediction (Vovk et al. 2005).

        Args:
            values: of the training pictures.
            groups: numbers of their groups of common source, from 0 (n): none is divided.
        """
        fold = np.random.default_rng(0).permutation(groups.max() + 1)[groups] % _FOLDS
        distances = np.empty(len(values))
        for number in np.unique(fold):
            others = values[fold != number] if (fold != number).any() else values
            distances[fold == number] = cls._fitted(others).distances(values[fold == number])
        place = min(len(values), math.ceil((len(values) + 1) * OWN_KIND)) - 1
        return replace(cls._fitted(values), limit=float(np.sort(distances)[place]))

    @classmethod
    def _fitted(cls, values: np.ndarray) -> Distribution:
        mean, deviation = values.mean(0), values.std(0) + _LEAST_DEVIATION
        scaled = (values - mean) / deviation
        correlation = scaled.T @ scaled / len(scaled)
        return cls(mean, deviation,
                   (1 - _SHRINKAGE) * correlation + _SHRINKAGE * np.eye(len(mean)))

    def scores(self, values: np.ndarray) -> np.ndarray:
        """Statistics (…, k) in standard deviations from the mean."""
        scaled: np.ndarray = (values - self.mean) / self.deviation
        return scaled

    def distances(self, values: np.ndarray) -> np.ndarray:
        """Of statistics (n, k): float64 (n)."""
        scores = self.scores(values)
        return np.sqrt(np.einsum("ni,ij,nj->n", scores, self._inverse, scores))

    def unlike(self, row: np.ndarray) -> str | None:
        """In what a row is unlike; None if it is within the limit."""
        values = statistics(row)
        distance = float(self.distances(values[None])[0])
        if distance <= self.limit:
            return None
        scores = self.scores(values)
        place = int(np.abs(scores).argmax())
        what = _MEANING[STATISTICS[place]][int(scores[place] > 0)] \
            if abs(scores[place]) > _FAR else "another combination of texture and colour"
        return (f"{what} than those of the training pictures (distance {distance:.1f} from them, "
                f"where up to {self.limit:.1f} is like them)")

    def as_dict(self) -> dict[str, Any]:
        """As stored: JSON."""
        return {"mean": _text(self.mean), "deviation": _text(self.deviation),
                "correlation": [_text(row[:place + 1])
                                for place, row in enumerate(self.correlation)],
                "limit": self.limit}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Distribution:
        """As of ``as_dict``.

        Raises:
            KeyError, TypeError, ValueError, LinAlgError: it is damaged, or of another version.
        """
        size = len(STATISTICS)
        mean, deviation = (_numbers(stored[name], size) for name in ("mean", "deviation"))
        correlation = np.zeros((size, size))
        for place, row in zip(range(size), stored["correlation"], strict=True):
            correlation[place, :place + 1] = correlation[:place + 1, place] = \
                _numbers(row, place + 1)
        limit = float(stored["limit"])
        if (deviation < _LEAST_DEVIATION).any() or (np.abs(mean) > _MOST).any() \
                or (np.abs(correlation) > 1.001).any() or not 0 <= limit < _MOST:
            raise ValueError("impossible statistics")
        np.linalg.cholesky(correlation)  # an error unless it is positive definite
        return cls(mean, deviation, correlation, limit)


@dataclass(frozen=True)
class Profile:
    """What the training pictures have in common.

    Attributes:
        pictures: number of training pictures that it was made from.
        formats: their number by format; empty: unknown.
        sides: the smallest shorter side and the largest longer side, pixels; None: unknown.
        qualities: smallest and largest JPEG quality; None: unknown, or no JPEG files.
        blank: share of pictures whose pixels are all alike.
        distributions: by ``feature``, the network's input, and ``raw``, the pixels, as far as the
            data file has them; empty: too few pictures.
    """

    pictures: int
    formats: dict[str, int] = field(default_factory=dict)
    sides: tuple[int, int] | None = None
    qualities: tuple[int, int] | None = None
    blank: float = 0.0
    distributions: dict[str, Distribution] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[np.ndarray], facts: Sequence[Facts] | None = None,
           raw: Iterable[np.ndarray] | None = None, groups: np.ndarray | None = None) -> Profile:
        """The profile of training pictures; some 2,000 are enough, and take some seconds.

        Args:
            rows: n of the model's feature, uint8 (S, S, 3) each.
            facts: of the same pictures' files.
            raw: rows of the feature ``raw`` of the same pictures: photographs and drawings of
                the same JPEG quality have similar error levels, and differ here.
            groups: numbers of their groups of common source, (n).
        """
        facts = facts or ()
        known = [fact for fact in facts if fact.width and fact.height]
        qualities = [fact.quality for fact in facts if fact.quality]
        formats = Counter(fact.format for fact in facts)
        looked_at = [(statistics(row), _is_blank(row)) for row in rows]
        count, distributions = len(looked_at), {}
        if count >= LEAST:
            members = np.arange(count) if groups is None else \
                np.unique(groups, return_inverse=True)[1]
            values = {"feature": [row for row, _ in looked_at]} | (
                {} if raw is None else {"raw": [*map(statistics, raw)]})
            distributions = {name: Distribution.of(np.array(rows), members)
                             for name, rows in values.items()}
        return cls(
            count, {} if UNKNOWN in formats else dict(formats),
            (min(min(fact[:2]) for fact in known), max(max(fact[:2]) for fact in known))
            if known else None,
            (min(qualities), max(qualities)) if qualities else None,
            float(np.mean([blank for _, blank in looked_at])) if count else 0.0, distributions)

    def unlike(self, row: np.ndarray, facts: Facts | None = None,
               raw: np.ndarray | None = None) -> list[str]:
        """Reasons why a picture is unlike the training pictures; none: it is like them.

        Args:
            row: its feature, uint8 (S, S, 3).
            facts: of its file; None: unknown.
            raw: its feature ``raw``; None: not looked at.
        """
        reasons = [*self._unlike_facts(facts)] if facts else []
        if _is_blank(row) and self.blank < 1 - OWN_KIND:
            return [*reasons, "nothing to see: all pixels of the network's input are alike"]
        for subject, name, part in (("pixels", "raw", raw), ("features", "feature", row)):
            if part is not None and name in self.distributions and (
                    reason := self.distributions[name].unlike(part)):
                reasons.append(f"its {subject} have {reason}")
        return reasons

    def _unlike_facts(self, facts: Facts) -> Iterator[str]:
        if self.formats and facts.format not in (UNKNOWN, *self.formats):
            yield (f"the file is {facts.format}, all training pictures are "
                   f"{printable(' or '.join(sorted(self.formats)))}")
        if self.sides and facts.width and facts.height:
            least, most = self.sides
            if min(facts[:2]) * _SIDES < least:
                yield (f"{facts.width}×{facts.height} pixels are few: training pictures have at "
                       f"least {least:,} a side")
            elif max(facts[:2]) > most * _SIDES:
                yield (f"{facts.width}×{facts.height} pixels are many: training pictures have at "
                       f"most {most:,} a side")
        if self.qualities and facts.quality:
            low, high = self.qualities
            if not low - _QUALITY <= facts.quality <= high + _QUALITY:
                yield (f"JPEG quality {facts.quality}, that of training pictures is {low} to "
                       f"{high}")

    def as_dict(self) -> dict[str, Any]:
        """As stored in the model's card: JSON."""
        return {"pictures": self.pictures, "formats": self.formats,
                "sides": self.sides and list(self.sides),
                "qualities": self.qualities and list(self.qualities), "blank": self.blank,
                "distributions": {name: known.as_dict()
                                  for name, known in self.distributions.items()}}

    @classmethod
    def from_dict(cls, stored: object) -> Profile:
        """A profile as of ``as_dict``.

        Raises:
            ValueError: it is damaged, or of another version.
        """
        values = dictionary(stored)
        try:
            return cls(
                int(values["pictures"]),
                {str(name): int(number) for name, number in values["formats"].items()},
                _pair(values["sides"]), _pair(values["qualities"]), float(values["blank"]),
                {name: Distribution.from_dict(known)
                 for name, known in values["distributions"].items()})
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError,
                np.linalg.LinAlgError):
            raise ValueError("its statistics of the training pictures (trained_on: likeness) are "
                             "damaged, or of another version") from None


def _is_blank(row: np.ndarray) -> bool:
    return bool((row == row[0, 0]).all())


def _pair(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    low, high = value
    return int(low), int(high)


def _text(values: np.ndarray) -> str:
    """Numbers on one line, where JSON would take a line for each."""
    return " ".join(f"{value:.6g}" for value in values.tolist())


def _numbers(text: str, count: int) -> np.ndarray:
    """The ``count`` finite numbers of a text.

    Raises:
        ValueError: there are others.
    """
    numbers = np.array([float(word) for word in text.split()])
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise ValueError(f"not {count} numbers: {text[:80]}")
    return numbers
