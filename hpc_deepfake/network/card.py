"""The card of a trained model: how to use it, and what it knows of itself.

It is stored as ``model.json`` beside ``model.keras``. Cards of earlier versions lack most fields.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from hpc_deepfake.core.json_data import dictionary, finite, items
from hpc_deepfake.core.text import plural, printable
from preprocessing.ela import Parameters

_SHARES = ("auc", "accuracy", "balanced_accuracy", "precision", "recall", "f1")
CHANCE = 0.5  # ROC-AUC of a model that knows nothing
SAMPLE = "trained on drawn sample pictures; not for photographs"
PARTLY_SAMPLE = "trained partly on drawn sample pictures"
FORGED = ("trained on forgeries that hpc-deepfake sample --from made of photographs: those of "
          "people may be of other kinds")
FACES = ("sees one face of a picture, the largest, or that of the person followed through a video; "
         "nothing else")
RANDOM = "trained on random pixels, which only serve to measure speed; not for pictures"
UNKNOWN = ("does not say what it was trained on, as those of earlier versions: pictures that are "
           "unlike those, or among them, aren't recognised")


@dataclass(frozen=True)
class Card:
    """What is needed to use a trained model, and to say what its predictions are worth.

    Attributes:
        feature: name of the feature that the network was trained on.
        parameters: parameters of that feature.
        threshold: lowest probability of tampered at which a picture is predicted tampered.
        lower: from here to below ``threshold`` a picture is undecided; None: there is no such zone.
        threshold_chosen: how the threshold was chosen: ``rule`` (``youden``, ``fpr``, ``given``),
            ``value``, ``on``, ``pictures``; None: it is the default.
        temperature: divides the log-odds of a probability (Guo et al. 2017); 1: nothing changes.
        trained_on: ``data`` (a list of data sets with ``name``, ``pictures``, ``authentic``,
            ``tampered``), ``sample`` (drawn by this project), ``forged`` (by it, of photographs;
            else it isn't there), ``random`` (no pictures at all), ``train`` and ``validation``
            (numbers of pictures), ``width``, ``height`` (minimum, median, maximum in pixels),
            ``formats`` (number of pictures by format), ``qualities`` (``min``, ``median``, ``max``
            of the JPEG files), ``likeness`` (``Profile.as_dict``); what is not known is None. None:
            nothing is known.
        validation: figures of the chosen epoch on the validation part, as of ``metrics.evaluate``,
            with ``epoch`` and ``intervals`` (95%, by name of the figure). None: unknown.
        weights: ``model.digest`` of the model that it belongs to; of two of them while training
            replaces one by the next. Empty: unknown, as of earlier versions.
        network: its name, as of ``registry.title``; None: ``table``, as in earlier versions.
        init: the weights that its training started from: ``source`` (their run or file), ``taken``
            of ``layers`` of the network, ``sha256`` of the file, and if the source has a list of
            its pictures, how many of the ``validation`` pictures it was trained on (``seen``).
            None: random ones.
        mask_threshold: level from 0 to 255 of the map from which a pixel is called changed; None:
            the network doesn't say where.
    """

    feature: str
    parameters: Parameters
    threshold: float = 0.5
    lower: float | None = None
    threshold_chosen: dict[str, Any] | None = None
    temperature: float = 1.0
    trained_on: dict[str, Any] | None = None
    validation: dict[str, Any] | None = None
    weights: tuple[str, ...] = ()
    network: str | None = None
    init: dict[str, Any] | None = None
    mask_threshold: int | None = None

    @classmethod
    def of(cls, stored: object) -> Card:
        """A card from the content of ``model.json``, of any version.

        Raises:
            ValueError: it lacks what every version has, or has impossible values.
        """
        values = dictionary(stored)
        feature, threshold = values.get("feature"), finite(values.get("threshold"))
        if not isinstance(feature, str) or threshold is None or not 0 <= threshold <= 1:
            raise ValueError("no feature, or no threshold from 0 to 1")
        lower, temperature = finite(values.get("lower")), finite(values.get("temperature", 1.0))
        if values.get("lower") is not None and (lower is None or not 0 <= lower <= threshold):
            raise ValueError(f"lower {values['lower']!r} is not from 0 to the threshold")
        if temperature is None or temperature <= 0:
            raise ValueError(f"temperature {values['temperature']!r} is not above 0")
        return cls(feature, Parameters.of(values.get("parameters")), threshold, lower,
                   _chosen(values), temperature, _trained_on(values), _validation(values),
                   tuple(map(str, items(values.get("weights")))), _network(values),
                   _dictionary(values, "init"), _level(values))

    def as_dict(self) -> dict[str, Any]:
        """As stored: JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self)} \
            | {"parameters": self.parameters.as_dict()}

    @property
    def sample(self) -> bool:
        """Whether it was trained on this project's drawn sample pictures, at least partly."""
        return (self.trained_on or {}).get("sample") is True

    @property
    def only_sample(self) -> bool:
        """Whether it was trained on drawn sample pictures alone: beside other data sets, they are
        not all that it knows."""
        return self.sample and len(items((self.trained_on or {}).get("data"))) <= 1

    @property
    def only_forged(self) -> bool:
        """Whether it was trained on forgeries that this project made of photographs, and on no
        other data set."""
        known = self.trained_on or {}
        return known.get("forged") is True and len(items(known.get("data"))) <= 1

    @property
    def caveats(self) -> list[str]:
        """What must be said wherever predictions of this model are shown; about the model."""
        said = [FACES] * (self.parameters.crop is not None)
        if self.trained_on is None:
            return [*said, UNKNOWN]
        said += [SAMPLE if self.only_sample else PARTLY_SAMPLE] * self.sample
        said += [FORGED] * self.only_forged
        said += [RANDOM] * bool(self.trained_on.get("random"))
        seen = finite((self.init or {}).get("seen")) or 0
        if seen:
            said.append(f"the weights that its training started from knew {seen:.0f} of its "
                        "validation pictures: its figures are better than on new ones")
        figures = self.validation or {}
        auc = finite(figures.get("auc"))
        interval = _interval(dictionary(figures.get("intervals")).get("auc"))
        if auc is not None and (interval or (auc,))[0] <= CHANCE:
            between = "" if interval is None else \
                f" (95%: {interval[0]:.3f} to {interval[1]:.3f})"
            said.append(f"hardly better than chance: ROC-AUC {auc:.3f}{between} on its validation "
                        f"pictures, where {CHANCE} is chance")
        return said

    @property
    def source(self) -> str:
        """What it was trained on, in a few words; what isn't known is left out."""
        known = self.trained_on
        if known is None:
            return "unknown pictures"
        if known.get("random"):
            return "random pixels"
        train = finite(known.get("train"))
        words = ["pictures" if train is None else plural(int(train), "picture")]
        names = [printable(str(dictionary(data).get("name"))) for data in items(known.get("data"))]
        words += [f"of {', '.join(names)}"] if names else []
        words += ["(forgeries of photographs, made by hpc-deepfake sample --from)"] \
            if known.get("forged") is True else []
        facts = [printable(", ".join(map(str, dictionary(known.get("formats")))))]
        qualities = dictionary(known.get("qualities"))
        low, high = finite(qualities.get("min")), finite(qualities.get("max"))
        if low is not None and high is not None:
            facts.append(f"JPEG quality {low:.0f} to {high:.0f}" if low < high
                         else f"JPEG quality {low:.0f}")
        for side, word in (("width", "wide"), ("height", "high")):
            ends = [finite(end) for end in items(known.get(side))[::2]]
            if len(ends) == 2 and ends[0] is not None and ends[1] is not None:
                facts.append(f"{ends[0]:.0f} to {ends[1]:.0f} pixels {word}"
                             if ends[0] < ends[1] else f"{ends[0]:.0f} pixels {word}")
        facts = [fact for fact in facts if fact]
        return " ".join(words) + (f" ({'; '.join(facts)})" if facts else "") + self._started_from

    @property
    def _started_from(self) -> str:
        return f", started from the weights of {printable(str(self.init.get('source')))}" \
            if self.init else ""


def _network(values: dict[str, Any]) -> str | None:
    name = values.get("network")
    if name is not None and not isinstance(name, str):
        raise ValueError(f"network {name!r} is not a name")
    return name


def _chosen(values: dict[str, Any]) -> dict[str, Any] | None:
    """``threshold_chosen``; where the thresholds aren't those that it was stored with, they have
    been changed by hand since, and were not chosen so."""
    chosen = _dictionary(values, "threshold_chosen")
    if chosen and chosen.get("thresholds", values) not in (
            values, [values.get("lower"), values.get("threshold")]):
        return {"rule": "given"}
    return chosen


def _trained_on(values: dict[str, Any]) -> dict[str, Any] | None:
    known = _dictionary(values, "trained_on")
    for name in ("sample", "forged", "random"):  # which bring caveats
        value = (known or {}).get(name)
        if value is not None and not isinstance(value, bool):
            raise ValueError(f"trained_on: {name} {value!r} is neither true nor false")
    return known


def _validation(values: dict[str, Any]) -> dict[str, Any] | None:
    figures = _dictionary(values, "validation")
    for name in _SHARES:
        value = finite((figures or {}).get(name))
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"validation: {name} {value:g} is not from 0 to 1")
    return figures


def _level(values: dict[str, Any]) -> int | None:
    level = values.get("mask_threshold")
    if level is not None and not (type(level) is int and 0 <= level <= 255):
        raise ValueError(f"mask_threshold {level!r} is not from 0 to 255")
    return level


def _dictionary(values: dict[str, Any], name: str) -> dict[str, Any] | None:
    value = values.get(name)
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{name} {value!r} is not a table")
    return value


def _interval(value: object) -> tuple[float, float] | None:
    """The ends of an interval, if it is one."""
    ends = [finite(end) for end in (value if isinstance(value, (list, tuple)) else ())]
    numbers = [end for end in ends if end is not None]
    return (numbers[0], numbers[1]) if len(ends) == len(numbers) == 2 else None
