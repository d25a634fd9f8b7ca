"""From a model's probabilities to its verdicts: temperature, threshold, and what is undecided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from hpc_deepfake.core.json_data import dictionary, finite
from hpc_deepfake.core.text import printable
from hpc_deepfake.core.text import probability as probability_text
from hpc_deepfake.metrics import temperature
from hpc_deepfake.network.card import Card
from hpc_deepfake.network.scoring import LEAST, Scores
from preprocessing.catalogue import LABELS

UNDECIDED = "undecided"
Thresholds = tuple[float | None, float]  # lower and threshold, as of ``core.options.thresholds``


def in_use(card: Card, thresholds: Thresholds | None = None,
           calibration: str = "stored") -> Card:
    """A model's card with the temperature and thresholds that a command uses.

    Thresholds belong to the probabilities that the command shows. Those of the card belong to
    calibrated ones, and are converted where calibration is off, so that it changes no verdict.

    Args:
        card: the model's.
        thresholds: lower one, None without a zone of undecided pictures, and the threshold; None:
            the card's.
        calibration: ``stored``, or ``off``, which leaves probabilities as the network gives them.
    """
    if calibration == "off":
        card = replace(card, temperature=1.0, threshold=raw(card, card.threshold),
                       lower=None if card.lower is None else raw(card, card.lower))
    if thresholds is not None:
        card = replace(card, threshold=thresholds[1], lower=thresholds[0],
                       threshold_chosen={"rule": "given"})
    return card


def raw(card: Card, probability: float) -> float:
    """The network's own probability that calibration turns into this one."""
    return float(temperature.apply(probability, 1 / card.temperature))


def calibrated(card: Card, found: Scores | np.ndarray) -> np.ndarray:
    """What the network says of pictures, or its probabilities alone, float (n), as probabilities
    with the card's temperature, float64 (n)."""
    if not isinstance(found, Scores):
        return temperature.apply(found, card.temperature)
    if card.temperature == 1:
        return found.probabilities
    return temperature.of_odds(found.odds, card.temperature)


def highest(card: Card) -> float:
    """The highest probability that ``calibrated`` gives."""
    return float(calibrated(card, Scores.of(np.array([[LEAST, 1.0]])))[0])


def verdict(card: Card, probability: float) -> str:
    """``authentic``, ``undecided`` or ``tampered``, of a calibrated probability."""
    if card.lower is not None and card.lower <= probability < card.threshold:
        return UNDECIDED
    return LABELS[int(probability >= card.threshold)]


def described(card: Card) -> str:
    """The thresholds and where they come from, as a line; empty if they are the default."""
    chosen = card.threshold_chosen or {}
    if card.lower is None and card.threshold == 0.5 and not chosen:
        return ""
    zone = "" if card.lower is None else f", undecided from {probability_text(card.lower)}"
    return f"tampered from {probability_text(card.threshold)} on{zone}" + (
        f"; chosen {how(chosen)}" if how(chosen) else "")


def caveats(card: Card) -> tuple[str, ...]:
    """What must be said beside every verdict of a model, its thresholds included."""
    return (*card.caveats, *filter(None, (described(card),)))


def how(chosen: dict[str, Any]) -> str:
    """Such as ``for a false positive rate up to 5% on the validation part of x.h5``; empty for
    given numbers."""
    rules = [_RULES[str(rule["rule"])](finite(rule.get("value")) or 0.0)
             for rule in (chosen, dictionary(chosen.get("lower")))
             if str(rule.get("rule")) in _RULES]
    where = f" on {printable(str(chosen['on']))}" if chosen.get("on") else ""
    return " and ".join(rules) + where if rules else ""


_RULES: dict[str, Callable[[float], str]] = {
    "youden": lambda _: "for the best balanced accuracy",
    "fpr": lambda rate: f"for a false positive rate up to {100 * rate:.3g}%",
    "fnr": lambda rate: f"for a false negative rate up to {100 * rate:.3g}%"}
