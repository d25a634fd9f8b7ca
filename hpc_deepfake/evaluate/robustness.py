"""What is left of a model's figures once its pictures are saved again, scaled, blurred or cropped.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hpc_deepfake import metrics
from hpc_deepfake.core import mpi
from hpc_deepfake.core.json_data import dictionary
from hpc_deepfake.core.text import number, percent
from hpc_deepfake.evaluate.material import Material, of_folder
from hpc_deepfake.evaluate.originals import MaskRows
from hpc_deepfake.evaluate.pixels import ERRORS, MODEL
from hpc_deepfake.metrics import intervals, masks, proportions
from hpc_deepfake.network import decision
from hpc_deepfake.network.card import Card
from hpc_deepfake.network.guard import Guard
from preprocessing.perturb import NOTHING, Perturbation

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.evaluate.subject import Subject

_TITLE = "under perturbations"
_ROW = "{:<24} {:>7} {:<16} {:>9} {:>9} {:>11} {:>11} {:>9} {:>9}".format
_PIXELS = "  {:>9} {:>8} {:>9}".format
_CONTAINER = 0.5  # AUC of files that are all saved in one way: it can't tell any two apart


class Perturbed(NamedTuple):
    """The pictures after a perturbation, as far as they could be changed."""

    perturbation: Perturbation
    material: Material


def computed(options: Namespace, card: Card, subject: Subject,
             comm: Comm | None = None) -> list[Perturbed]:
    """The pictures as they are, and after each perturbation of the options; empty without any. With
    ``comm`` collective.

    Raises:
        InputError: no picture can be used any more after a perturbation.
    """
    wanted = dict.fromkeys(chain(*options.perturb or ()))
    if not wanted:
        return []
    assert subject.pictures is not None
    usable = subject.material
    pictures = replace(subject.pictures, paths=usable.paths, labels=usable.labels,
                       groups=usable.groups, parts=None, rules=[])
    guard = mpi.together(comm, lambda: Guard.of(card, options.model, pictures=False))

    def known(perturbation: Perturbation) -> MaskRows | None:
        # those of faces, whose place in the picture isn't stored, can't follow a crop
        return None if perturbation.moves and card.parameters.crop else subject.masks

    return [Perturbed(perturbation, of_folder(subject.network, card, pictures, comm, guard,
                                              perturbation, known(perturbation))[0])
            for perturbation in (NOTHING, *wanted)]


def figures(found: Sequence[Perturbed], tested: Material, card: Card,
            container: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Figures of each perturbation, the first of the pictures as they are.

    Args:
        found: as of ``computed``.
        tested: the pictures to count; thresholds may have been chosen on the others.
        card: the model's, with the temperature and thresholds in use.
        container: the container baseline; None: unknown.

    Returns:
        Of each ``perturbation`` (its text; ``operation`` without levels): figures of
        ``metrics.evaluate``, ``intervals``, ``false_positives`` (``value`` and ``interval``; None
        without authentic pictures), ``no_verdict`` (share of pictures that are unlike the training
        pictures), ``plain`` (AUC of error levels without a network and its interval),
        ``container`` (AUC of the files' properties; None if unknown) and ``pixels`` (figures of
        ``masks.figures`` of the model's map, with ``intervals``, and of plain error levels; empty
        if the model has no map, or nothing is known of where the pictures were changed).
    """
    wanted = set(tested.paths)
    known = None if container is None else container["auc"]
    return [_figures(perturbation, material.take(
        np.array([path in wanted for path in material.paths], bool)), card,
        _CONTAINER if perturbation.steps else known) for perturbation, material in found]


def _figures(perturbation: Perturbation, material: Material, card: Card,
             container: float | None) -> dict[str, Any]:
    labels, groups, plain = material.labels, material.groups, material.plain
    assert plain is not None
    q = decision.calibrated(card, material.scores)
    accused = q[labels == 0] >= card.threshold
    return {
        "perturbation": str(perturbation), "operation": perturbation.operation,
        **metrics.evaluate(q, labels, card.threshold, card.lower),
        "auc": metrics.auc(material.scores.odds, labels),
        "intervals": intervals.bootstrap(q, labels, groups, card.threshold, lower=card.lower),
        "false_positives": {"value": float(accused.mean()),
                            "interval": proportions.interval(accused, groups[labels == 0])}
        if len(accused) else None,
        "no_verdict": float(material.unlike.mean()) if len(material) else None,
        "plain": {"auc": metrics.auc(plain, labels),
                  "interval": intervals.bootstrap(plain, labels, groups)["auc"]},
        "container": container if 0 < labels.mean() < 1 else None,
        "pixels": _pixels(material, card)}


def _pixels(material: Material, card: Card) -> dict[str, dict[str, Any]]:
    found = {}
    for name, counts in material.counted.items():
        if counts[material.labels == 1].any():
            threshold = masks.best_threshold(counts) if name != MODEL else \
                masks.HALF if card.mask_threshold is None else card.mask_threshold
            found[name] = masks.figures(counts, material.labels, threshold)
            if name == MODEL:
                found[name]["intervals"] = masks.bootstrap(counts, material.groups,
                                                           material.labels, threshold)
    return found


def lines(found: Sequence[dict[str, Any]]) -> list[str]:
    """A table of the figures; empty without any."""
    if not found:
        return []
    text = [_ROW(_TITLE, "AUC", "95%", "accuracy", "balanced", "false pos.", "no verdict",
                 "plain ELA", "container")]
    whole, fewer, where = found[0]["rows"], False, bool(found[0]["pixels"])
    if where:
        text[0] += _PIXELS("pixel AUC", "pixel F1", "ELA's AUC")
    for own in found:
        ends, false = own["intervals"]["auc"], own["false_positives"]
        mark, fewer = " *" * (own["rows"] < whole), fewer or own["rows"] < whole
        text.append(_ROW(
            f"  {own['perturbation']}{mark}", number(own["auc"]),
            f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else "", percent(own["accuracy"]),
            percent(own["balanced_accuracy"]), percent(false and false["value"]),
            percent(own["no_verdict"]), number(own["plain"]["auc"]), number(own["container"])))
        if where:
            model, plain = (dictionary(own["pixels"].get(name)) for name in (MODEL, ERRORS))
            text[-1] += _PIXELS(*(number(dictionary(figures.get("per_picture")).get(name))
                                  for figures, name in ((model, "auc"), (model, "f1"),
                                                        (plain, "auc"))))
    if fewer:
        text.append(f"* fewer than {whole:,} pictures: the others get too large")
    return [*text,
            "(no verdict: predict gives none, as they are unlike the training pictures; they count "
            "here)",
            "(plain ELA: AUC of the brightest spot of the error levels, without a network; "
            f"majority class {percent(found[0]['majority'])})",
            "(container: AUC of the files' properties without pixels; all saved alike, they tell "
            "nothing; –: unknown, as of folders, or one class only)"]
