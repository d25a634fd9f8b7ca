"""Which pictures are unlike those that a model was trained on, and in what.

A network gives a probability for anything: a blank page, a screenshot, a photograph where it has
seen drawings only. Such a probability means nothing. A ``Profile`` holds what can be said cheaply
of the training pictures: their sizes, formats and JPEG qualities, and the distribution of a few
statistics of their features. A picture outside of it is named with the reasons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hpc_deepfake.core.json_data import dictionary, finite, items
from preprocessing.facts import Facts

LEAST = 40  # training pictures from which a distribution can be learned
_FOLDS = 5  # of the cross-validation that chooses the limits
_JOINT, _SINGLE = 0.99, 0.995  # share of the training pictures' own kind within each limit
_SHRINKAGE = 0.05  # of correlations towards none, so that few pictures give a stable inverse
_SIDES = 2  # a picture may be this factor smaller or larger than all training pictures
_QUALITY = 3  # a JPEG quality may be this much outside of that of the training pictures
_BLOCK = 8

# What a low and a high value of each statistic means. A word such as "error levels" comes before.
_MEANING = {
    "brightness": ("darker", "brighter"),
    "colour": ("less colourful", "more colourful"),
    "red": ("less red", "more red"),
    "blue": ("less blue", "more blue"),
    "red with green": ("more independent colour channels", "more equal colour channels"),
    "blue with green": ("more independent colour channels", "more equal colour channels"),
    "steps": ("smaller steps between neighbours", "larger steps between neighbours"),
    "direction": ("more change from top to bottom", "more change from left to right"),
    "evenness": ("sharper edges between even areas", "more even texture"),
    "large shapes": ("weaker large shapes", "stronger large shapes"),
    "small shapes": ("weaker small shapes", "stronger small shapes"),
    "detail": ("less detail", "more detail"),
    "fine detail": ("less fine detail", "more fine detail"),
    "quiet areas": ("quieter quiet areas", "busier quiet areas"),
    "usual areas": ("quieter areas", "busier areas"),
    "busy areas": ("quieter busy areas", "busier busy areas"),
}
# Cycles per side of the feature, and the statistic of the amplitude there
_BANDS = {"large shapes": (3, 6), "small shapes": (12, 24), "detail": (44, 64),
          "fine detail": (64, 1e9)}
STATISTICS = tuple(_MEANING)


def statistics(row: np.ndarray) -> np.ndarray:
    """Cheap statistics of a feature row, float64 (len(STATISTICS)); most are logarithms.

    Marginal and spectral statistics of luminance, whose regularities in natural pictures Field
    (1987), "Relations between the statistics of natural images and the response properties of
    cortical cells", and Torralba & Oliva (2003), "Statistics of natural image categories",
    describe; variation within blocks of 8 × 8; colour.

    Args:
        row: uint8 (S, S, 3), S at least 16.
    """
    pixels = row.astype(np.float32)
    grey = pixels.mean(2)
    across, down = np.diff(grey, axis=1), np.diff(grey, axis=0)
    steps = np.abs(across).mean(), np.abs(down).mean()
    size = np.sqrt((np.square(across).mean() + np.square(down).mean()) / 2)
    side = len(grey) // _BLOCK
    within = np.log1p(np.sort(
        grey[:side * _BLOCK, :side * _BLOCK].reshape(side, _BLOCK, side, _BLOCK).std((1, 3)),
        axis=None))
    colours = pixels.reshape(-1, 3)
    red, green, blue = np.log1p(colours.mean(0))
    centred = colours - colours.mean(0)
    scale = np.sqrt(np.square(centred).mean(0)) + 1
    with_green = (centred * centred[:, 1:2]).mean(0) / (scale * scale[1])
    values = {
        "brightness": np.log1p(np.median(grey)),
        "colour": np.log1p((pixels.max(2) - pixels.min(2)).mean()),
        "red": red - green, "blue": blue - green,
        "red with green": with_green[0], "blue with green": with_green[2],
        "steps": np.log1p(sum(steps)),
        "direction": np.log1p(steps[0]) - np.log1p(steps[1]),
        "evenness": (sum(steps) + 0.5) / (2 * size + 0.5),
        **dict(zip(("quiet areas", "usual areas", "busy areas"),
                   (within[int(share * len(within))] for share in (0.05, 0.5, 0.95)), strict=True)),
        **_spectrum(grey)}
    return np.array([values[name] for name in STATISTICS], np.float64)


def _spectrum(grey: np.ndarray) -> dict[str, float]:
    """Logarithm of the amplitude in each of ``_BANDS``."""
    size = len(grey)
    power = np.square(np.abs(np.fft.rfft2(grey - grey.mean()))) / grey.size
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) * 128
    return {name: float(np.log1p(power[(radius >= low) & (radius < high)].sum()) / 2)
            for name, (low, high) in _BANDS.items()}


@dataclass(frozen=True)
class Distribution:
    """Distribution of statistics of the training pictures, and the limits of their own kind.

    Attributes:
        mean: of each statistic, (k).
        deviation: standard deviation of each, above 0, (k).
        correlation: (k, k), shrunk.
        joint: limit of the Mahalanobis distance (1936).
        single: limit of the largest distance of one statistic, in standard deviations.
    """

    mean: np.ndarray
    deviation: np.ndarray
    correlation: np.ndarray
    joint: float = np.inf
    single: float = np.inf
    _inverse: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_inverse", np.linalg.inv(self.correlation))

    @classmethod
    def of(cls, values: np.ndarray, groups: np.ndarray) -> Distribution:
        """From statistics (n, k) of pictures in groups (n) of common source, whose members are
        never on both sides of the cross-validation that chooses the limits."""
        fold = np.random.default_rng(0).permutation(groups.max() + 1)[groups] % _FOLDS
        joint, single = np.zeros((2, len(values)))
        for number in set(fold.tolist()):
            others = cls._fitted(values[fold != number] if (fold != number).any() else values)
            joint[fold == number], single[fold == number] = others.distances(values[fold == number])
        whole = cls._fitted(values)
        return cls(whole.mean, whole.deviation, whole.correlation, _limit(joint, _JOINT),
                   _limit(single, _SINGLE))

    @classmethod
    def _fitted(cls, values: np.ndarray) -> Distribution:
        mean, deviation = values.mean(0), values.std(0) + 1e-3
        scaled = (values - mean) / deviation
        correlation = scaled.T @ scaled / len(scaled)
        return cls(mean, deviation,
                   (1 - _SHRINKAGE) * correlation + _SHRINKAGE * np.eye(len(mean)))

    def scores(self, values: np.ndarray) -> np.ndarray:
        """Statistics (…, k) in standard deviations from the mean."""
        scaled: np.ndarray = (values - self.mean) / self.deviation
        return scaled

    def distances(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Joint and largest single distance of statistics (n, k), each (n)."""
        scores = self.scores(values)
        return (np.sqrt(np.einsum("ni,ij,nj->n", scores, self._inverse, scores)),
                np.abs(scores).max(1))


def _limit(distances: np.ndarray, share: float) -> float:
    """The distance within which ``share`` of further pictures lie: an order statistic, as in
    conformal prediction (Vovk et al. 2005)."""
    place = min(len(distances), int(np.ceil((len(distances) + 1) * share))) - 1
    return float(np.sort(distances)[place])


@dataclass(frozen=True)
class Profile:
    """What the training pictures have in common.

    Attributes:
        pictures: number of training pictures that it was made from.
        formats: their number by format; empty: unknown.
        sides: the smallest shorter side and the largest longer side, pixels; None: unknown.
        qualities: smallest and largest JPEG quality; None: unknown, or no JPEG files.
        statistics: of the feature; None: too few pictures.
        raw: of the feature ``raw``, that is of the pixels; None: the data file didn't have it.
        blank: share of pictures in which all pixels are alike.
    """

    pictures: int
    formats: dict[str, int] = field(default_factory=dict)
    sides: tuple[int, int] | None = None
    qualities: tuple[int, int] | None = None
    distribution: Distribution | None = None
    raw: bool = False
    blank: float = 0.0

    @classmethod
    def of(cls, rows: np.ndarray, facts: Sequence[Facts] | None = None,
           raw: np.ndarray | None = None, groups: np.ndarray | None = None) -> Profile:
        """The profile of training pictures; some 2,000 are enough, and take some seconds.

        Args:
            rows: of the model's feature, uint8 (n, S, S, 3).
            facts: of the same pictures' files.
            raw: rows of the feature ``raw`` of the same pictures: they tell photographs from
                drawings better than error levels.
            groups: numbers of their groups of common source, from 0, (n).
        """
        known = [fact for fact in facts or () if fact.width and fact.height]
        qualities = [fact.quality for fact in known if fact.quality]
        distribution = None
        if len(rows) >= LEAST:
            values = np.array([_both(row, None if raw is None else raw[place])
                               for place, row in enumerate(rows)])
            if groups is None:
                groups = np.arange(len(rows))
            distribution = Distribution.of(values, np.unique(groups, return_inverse=True)[1])
        return cls(
            len(rows), dict(Counter(fact.format for fact in known)),
            (min(min(fact[:2]) for fact in known), max(max(fact[:2]) for fact in known))
            if known else None,
            (min(qualities), max(qualities)) if qualities else None,
            distribution, raw is not None,
            float(np.mean([_is_blank(row) for row in rows])) if len(rows) else 0.0)

    def unlike(self, row: np.ndarray, facts: Facts | None = None,
               raw: np.ndarray | None = None) -> list[str]:
        """Reasons why a picture is unlike the training pictures; none: it is like them.

        Args:
            row: its feature, uint8 (S, S, 3).
            facts: of its file; None: unknown.
            raw: its feature ``raw``; without it only the model's feature is looked at … if the
                profile has both, statistics are left out.
        """
        reasons = [*self._unlike_facts(facts)] if facts else []
        if _is_blank(row) and self.blank < 1 - _JOINT:
            return [*reasons, "all its pixels are alike"]
        if self.distribution is not None and (raw is not None or not self.raw):
            reasons += self._unlike_statistics(_both(row, raw if self.raw else None))
        return reasons

    def _unlike_facts(self, facts: Facts) -> Iterator[str]:
        if self.formats and facts.format not in self.formats:
            yield f"its format is {facts.format}, that of all training pictures " \
                  f"{' or '.join(sorted(self.formats))}"
        if self.sides and facts.width and facts.height:
            least, most = self.sides
            size = f"{facts.width}×{facts.height} pixels"
            if min(facts[:2]) * _SIDES < least:
                yield f"{size} are few: no training picture has a side below {least:,}"
            elif max(facts[:2]) > most * _SIDES:
                yield f"{size} are many: no training picture has a side above {most:,}"
        if self.qualities and facts.quality:
            low, high = self.qualities
            if not low - _QUALITY <= facts.quality <= high + _QUALITY:
                yield f"its JPEG quality is {facts.quality}, that of all training pictures " \
                      f"{low} to {high}"

    def _unlike_statistics(self, values: np.ndarray) -> Iterator[str]:
        distribution = self.distribution
        assert distribution is not None
        joint, single = (float(distance[0]) for distance in distribution.distances(values[None]))
        if joint <= distribution.joint and single <= distribution.single:
            return
        scores = distribution.scores(values)
        place = int(np.abs(scores).argmax())
        kind, name = divmod(place, len(STATISTICS))
        subject = "pixels" if kind else "features"
        yield (f"its {subject} have {_MEANING[STATISTICS[name]][int(scores[place] > 0)]} than the "
               f"training pictures' (by {abs(scores[place]):.1f} standard deviations; distance "
               f"{joint:.1f}, limit {distribution.joint:.1f})")

    def as_dict(self) -> dict[str, Any]:
        """As stored in the model's card: JSON."""
        stored: dict[str, Any] = {
            "pictures": self.pictures, "formats": self.formats,
            "sides": self.sides and list(self.sides),
            "qualities": self.qualities and list(self.qualities), "blank": self.blank,
            "raw": self.raw, "statistics": None}
        if (known := self.distribution) is not None:
            stored["statistics"] = {
                "mean": _text(known.mean), "deviation": _text(known.deviation),
                "correlation": [_text(row[:place + 1])
                                for place, row in enumerate(known.correlation)],
                "joint limit": known.joint, "single limit": known.single}
        return stored

    @classmethod
    def from_dict(cls, stored: object) -> Profile:
        """A profile as of ``as_dict``.

        Raises:
            ValueError: it is damaged, or from another version.
        """
        values = dictionary(stored)
        try:
            sides, qualities = (tuple(map(int, values[name])) if values[name] else None
                                for name in ("sides", "qualities"))
            known = values["statistics"]
            distribution = None if known is None else Distribution(
                *(_numbers(known[name]) for name in ("mean", "deviation")),
                _symmetric([_numbers(row) for row in items(known["correlation"])]),
                float(known["joint limit"]), float(known["single limit"]))
            profile = cls(int(values["pictures"]), dict(values["formats"]), sides, qualities,
                          distribution, bool(values["raw"]), finite(values["blank"]) or 0.0)
        except (KeyError, TypeError, ValueError, np.linalg.LinAlgError) as error:
            raise ValueError(f"its likeness can't be read ({error})") from None
        size = len(STATISTICS) * (1 + profile.raw)
        if distribution is not None and not (
                len(distribution.mean) == len(distribution.deviation)
                == len(distribution.correlation) == size
                and np.isfinite(distribution.correlation).all()
                and (distribution.deviation > 0).all()):
            raise ValueError("its likeness is of another version")
        return profile


def _both(row: np.ndarray, raw: np.ndarray | None) -> np.ndarray:
    """Statistics of a picture's feature, and of its pixels where they are given."""
    return np.concatenate([statistics(row)] + ([] if raw is None else [statistics(raw)]))


def _is_blank(row: np.ndarray) -> bool:
    return bool((row == row[0, 0]).all())


def _text(values: np.ndarray) -> str:
    """Numbers on one line, where JSON would take a line for each."""
    return " ".join(f"{value:.6g}" for value in values.tolist())


def _numbers(text: str) -> np.ndarray:
    return np.array([float(word) for word in text.split()])


def _symmetric(rows: list[np.ndarray]) -> np.ndarray:
    """The matrix of a lower triangle."""
    matrix = np.zeros((len(rows), len(rows)))
    for place, row in enumerate(rows):
        matrix[place, :place + 1] = matrix[:place + 1, place] = row
    return matrix
