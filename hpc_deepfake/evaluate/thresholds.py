"""Thresholds that are chosen on some pictures, evaluated on others, and stored with the model."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hpc_deepfake import metrics
from hpc_deepfake.core import holder, json_data
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.files import write_json
from hpc_deepfake.core.json_data import dictionary
from hpc_deepfake.data.rows import DataFile
from hpc_deepfake.evaluate.material import Material
from hpc_deepfake.metrics import curves
from hpc_deepfake.network import decision, model
from hpc_deepfake.network.card import Card
from preprocessing import split
from preprocessing.catalogue import LABELS
from preprocessing.names import AUTHENTIC, TAMPERED

SEED = 0  # of the division into two halves
OTHER_HALF = "the other half of "


@dataclass(frozen=True)
class Rule:
    """How a threshold is chosen.

    Attributes:
        rule: ``youden`` (the best balanced accuracy), ``fpr``, ``fnr`` (at most this rate of false
            positives or negatives), or ``given``.
        value: the rate, or the threshold itself; None for ``youden``.
    """

    rule: str
    value: float | None = None

    @classmethod
    def parse(cls, text: str) -> Rule:
        """From ``auto``, ``fpr=RATE``, ``fnr=RATE`` or a number from 0 to 1.

        Raises:
            ValueError: it is something else.
        """
        if text == "auto":
            return cls("youden")
        name, equals, rate = text.partition("=")
        value = float(rate if equals else text)
        if not (name in ("fpr", "fnr") and 0 < value < 1 if equals else 0 <= value <= 1):
            raise ValueError(text)
        return cls(name if equals else "given", value)

    def choose(self, probabilities: np.ndarray, labels: np.ndarray,
               highest: float = 1.0) -> float:
        """The threshold that this rule chooses.

        Args:
            probabilities: of tampered, float (n).
            labels: 0 authentic, 1 tampered (n).
            highest: probability that the model can give.

        Raises:
            InputError: these pictures can't tell.
        """
        if self.value is not None and self.rule == "given":
            return self.value
        if self.value is None:
            threshold = curves.youden(probabilities, labels)
            if threshold is None:
                raise InputError("--threshold auto: there are pictures of one class only to choose "
                                 "it on, so no threshold is better than another: give a number, or "
                                 "fpr=0.05, which needs authentic pictures only")
            return threshold
        label = AUTHENTIC if self.rule == "fpr" else TAMPERED
        of_class = probabilities[labels == label]
        if self.value * len(of_class) < 1:
            raise InputError(
                f"--threshold {self.rule}={self.value:g}: {len(of_class):,} {LABELS[label]} "
                "pictures are too few to choose it on, as one of them is more than that: it needs "
                f"{int(np.ceil(1 / self.value)):,}, or give a higher rate")
        threshold = curves.for_false_positives(of_class, self.value, highest) \
            if label == AUTHENTIC else curves.for_false_negatives(of_class, self.value)
        if threshold is None:
            raise InputError(f"--threshold {self.rule}={self.value:g}: more of the authentic "
                             "pictures than that have the highest probability that there is, so no "
                             "threshold is high enough: this model can't be used on them")
        return threshold


Rules = tuple[Rule | None, Rule]  # of the lower threshold, None without one, and of the threshold


def parse(text: str) -> Rules:
    """Argument type: a rule, or two for the thresholds between which pictures are undecided."""
    try:
        rules = [Rule.parse(part) for part in text.split(",")]
    except ValueError:
        rules = []
    given = [rule.value for rule in rules if rule.rule == "given" and rule.value is not None]
    if len(rules) not in (1, 2) or given != sorted(given):
        raise argparse.ArgumentTypeError(
            "must be a number from 0 to 1, auto, fpr=RATE or fnr=RATE, or two of them, LOW,HIGH, "
            f"for the pictures in between to be undecided; not {text}")
    return (rules[0] if len(rules) == 2 else None, rules[-1])


def are_chosen(rules: Rules | None) -> bool:
    """Whether pictures are needed to choose them."""
    return any(rule is not None and rule.rule != "given" for rule in rules or ())


@dataclass(frozen=True)
class Plan:
    """The part of a data file to evaluate, and the one that thresholds are chosen on, which may be
    the same (each gets one half of it), or None."""

    part: str
    chosen_on: str | None = None


def plan(part: str | None, rules: Rules | None, data: DataFile, trained: bool | None) -> Plan:
    """Parts of a data file such that thresholds are evaluated on other pictures than they were
    chosen on, and neither on those that the network was trained on.

    Args:
        part: as requested; None: the validation part, or where thresholds are chosen the test part,
            if there is one.
        rules: of the thresholds.
        data: the file.
        trained: whether the model was trained on it; None: unknown.

    Raises:
        InputError: the part was trained on, or may have been.
    """
    if not are_chosen(rules):
        return Plan(part or "validation")
    if part in ("train", "all") and trained is not False:
        raise InputError("a threshold is chosen and evaluated on pictures that the network was not "
                         f"trained on, not on --part {part}: omit --part")
    tests = len(data.rows("test")) > 0
    if tests and part in (None, "test"):
        return Plan("test", "validation")
    return Plan(part or "validation", part or "validation")


def halves(material: Material) -> tuple[Material, Material]:
    """Two halves with about the same share of each class, and no source picture in both; always
    the same ones.

    Raises:
        InputError: all pictures have one source.
    """
    _, groups = np.unique(material.groups, return_inverse=True)
    if not len(groups) or not groups.max():
        raise InputError("--threshold: all of these pictures are of one source, so that there are "
                         "no others to evaluate a threshold on: name more pictures, or give a "
                         "number")
    second = split.by_group(material.labels, groups.astype(np.int32), (0.5, 0.5), SEED) == 1
    return material.take(~second), material.take(second)


def with_verdict(material: Material) -> Material:
    """The pictures that ``predict`` gives a verdict on: thresholds are chosen on them alone.

    Raises:
        InputError: there are none.
    """
    rest = material.take(~material.unlike)
    if len(material) and not len(rest):
        raise InputError(f"--threshold: all {len(material):,} pictures to choose it on are unlike "
                         "those that the model was trained on, and predict gives no verdict on "
                         "them, whatever the threshold: name other pictures, or give a number")
    return rest


def choose(rules: Rules, material: Material, card: Card, on: str) -> Card:
    """The card with the thresholds that the rules choose on these pictures.

    Args:
        rules: of the thresholds.
        material: the pictures to choose on.
        card: the model's, with its temperature.
        on: name of these pictures, for the record.

    Raises:
        InputError: these pictures can't tell.
    """
    p, y = decision.calibrated(card, material.scores), material.labels
    highest = decision.highest(card)
    threshold = rules[1].choose(p, y, highest)
    lower = None if rules[0] is None else rules[0].choose(p, y, highest)
    if lower is not None and lower >= threshold:  # both rates are kept without a zone
        lower = None
    tampered = int(np.count_nonzero(y))
    return replace(card, threshold=threshold, lower=lower, threshold_chosen={
        **_record(rules), "on": on, "pictures": len(material), "authentic": len(y) - tampered,
        "tampered": tampered})


def note(card: Card, where: str) -> str | None:
    """What to say where the stored thresholds were chosen on the pictures that are evaluated."""
    on = str((card.threshold_chosen or {}).get("on", ""))
    if not on or on.removeprefix(OTHER_HALF) != where.removeprefix("all of "):
        return None
    which = "half of these pictures" if on.startswith(OTHER_HALF) else "these pictures"
    return f"(the threshold was chosen on {which}: others would give slightly worse figures)"


def figures_there(material: Material, card: Card, on: str) -> dict[str, Any]:
    """Figures of thresholds on the pictures that chose them: those of ``metrics.evaluate``, the
    rates of false positives and negatives over all pictures of their class (None without any), and
    ``on``, the name of the pictures."""
    p, y = decision.calibrated(card, material.scores), material.labels

    def rate(hits: np.ndarray, label: int) -> float | None:
        return float(hits[y == label].mean()) if (y == label).any() else None

    lowest = card.threshold if card.lower is None else card.lower
    return {**metrics.evaluate(p, y, card.threshold, card.lower), "on": on,
            "false_positive_rate": rate(p >= card.threshold, AUTHENTIC),
            "false_negative_rate": rate(p < lowest, TAMPERED)}


def given(rules: Rules, card: Card) -> Card:
    """The card with thresholds that are all numbers."""
    lower, threshold = (None if rule is None else rule.value for rule in rules)
    assert threshold is not None
    return replace(card, threshold=threshold, lower=lower, threshold_chosen=_record(rules))


def _record(rules: Rules) -> dict[str, Any]:
    lower, upper = rules
    return {"rule": upper.rule, "value": upper.value} | ({} if lower is None else {
        "lower": {"rule": lower.rule, "value": lower.value}})


def check_card(path: Path) -> None:
    """Check that the card of a model can be replaced, before anything is computed.

    Raises:
        InputError: it can't be.
    """
    folder = model.find(path).parent
    if not os.access(folder, os.W_OK):
        raise InputError(f"cannot write --save-threshold: the folder of the model, {folder}, can't "
                         "be written to; copy model.keras and model.json to another one, and name "
                         "that with --model")


def save(path: Path, card: Card, stored: Card, where: str, evaluation: dict[str, Any]) -> Path:
    """Store thresholds in the card of a model; all else in the file stays as it is.

    Args:
        path: run directory or model file.
        card: with the thresholds in use.
        stored: the card as it is, whose thresholds belong to calibrated probabilities.
        where: name of the pictures that the thresholds were evaluated on.
        evaluation: their figures there, for the record.

    Returns:
        The card's file.

    Raises:
        InputError: it can't be written, or a training is under way there.
    """
    file = model.card_file(path)
    lower, threshold = card.lower, card.threshold
    if card.temperature != stored.temperature:  # calibration was off
        threshold = float(decision.calibrated(stored, np.array(threshold)))
        lower = None if lower is None else float(decision.calibrated(stored, np.array(lower)))
    tested = {"on": where, "pictures": evaluation["rows"]} | {
        name: rate and rate["value"] for name, rate in evaluation["rates"].items()} | (
        {} if evaluation["undecided"] is None else {"undecided": evaluation["undecided"]})
    holder.hold(file.parent, "storing a threshold", "--model")
    try:
        known = dictionary(json_data.read(file)) if file.is_file() else stored.as_dict()
        write_json(file, known | {
            "threshold": threshold, "lower": lower,
            "threshold_chosen": {**(card.threshold_chosen or {}), "tested": tested,
                                 "thresholds": [lower, threshold]}})
    finally:
        holder.release()
    return file
