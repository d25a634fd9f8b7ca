"""Where pictures were changed: figures of a model's maps beside those of baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hpc_deepfake.core.text import number, percent, plural
from hpc_deepfake.evaluate.pixels import ERRORS, MEAN, MODEL
from hpc_deepfake.metrics import masks
from hpc_deepfake.metrics.masks import HALF, LEVELS

if TYPE_CHECKING:
    from hpc_deepfake.evaluate.material import Material
    from hpc_deepfake.network.card import Card

EVERYTHING, NOTHING = "everything", "nothing"
_CONSTANT = {EVERYTHING: LEVELS - 1, NOTHING: 0}  # maps of one level
_ROW = "{:<17} {:>7} {:>16} {:>7} {:>16} {:>8} {:>7} {:>7}  {:>7} {:>7}".format


def figures(material: Material, card: Card) -> dict[str, Any] | None:
    """Figures of the model's maps, and of baselines.

    The model's threshold is its card's. A baseline has the one that is best on these very pictures,
    which favours it.

    Args:
        material: the pictures.
        card: of the model.

    Returns:
        For each of ``model``, ``error levels``, ``mean mask`` (where they are there),
        ``everything`` and ``nothing`` the figures of ``masks.figures``, and ``intervals`` as of
        ``masks.bootstrap``; under ``unknown`` the number of tampered pictures without a mask.
        None: the model doesn't say where, or nothing is known of these pictures.
    """
    counts = material.pixels
    if counts is None or not counts.any():
        return None
    found: dict[str, Any] = {"unknown": int(((material.labels == 1)
                                             & ~counts.any((1, 2))).sum())}
    for name, own in {**material.counted, **{
            name: _at(counts, level) for name, level in _CONSTANT.items()}}.items():
        threshold = masks.best_threshold(own)
        if name in _CONSTANT:
            threshold = HALF
        elif name == MODEL:
            threshold = HALF if card.mask_threshold is None else card.mask_threshold
        found[name] = masks.figures(own, material.labels, threshold) | {
            "intervals": masks.bootstrap(own, material.groups, material.labels, threshold)}
    return found


def _at(counts: np.ndarray, level: int) -> np.ndarray:
    """Those of maps of one level."""
    pixels = np.zeros_like(counts)
    pixels[..., level] = counts.sum(2)
    return pixels


def lines(found: dict[str, Any] | None) -> list[str]:
    """The figures, to print: a table of the maps over tampered pictures, and the false-alarm area
    on authentic ones; empty without any."""
    if found is None:
        return []
    model, text = found[MODEL], []
    maps = [(name, found[name]) for name in (MODEL, ERRORS, MEAN, EVERYTHING, NOTHING)
            if name in found]
    if model["pictures"]:
        text.append(_ROW("where changed", *[""] * 7, "pooled:", "").rstrip())
        text.append(_ROW("  per picture", "AUC", "95%", "F1", "95%", "best F1", "IoU", "MCC",
                         "AUC", "F1"))
        text += [_row(name, own) for name, own in maps]
        text.append(_explained(found))
    if model["authentic"]:
        others = [f"{name} {percent(own['false_alarm_area'])}" for name, own in maps[1:]
                  if name in (ERRORS, MEAN)]
        ends = model["intervals"]["authentic"]["false_alarm_area"]
        between = f"95%: {ends[0]:.1%} to {ends[1]:.1%}" if ends else ""
        text.append(f"false-alarm area   {percent(model['false_alarm_area']):>7}   of the pixels "
                    f"of {plural(model['authentic'], 'authentic image')} called changed"
                    + "; ".join(["", *filter(None, (between, ", ".join(others)))]))
    return text


def _row(name: str, own: dict[str, Any]) -> str:
    each, pooled = own["per_picture"], own["pooled"]
    ends = own["intervals"]["per_picture"]

    def between(figure: str) -> str:
        return f"{ends[figure][0]:.3f} to {ends[figure][1]:.3f}" \
            if ends[figure] and name not in _CONSTANT else ""

    best = "f1" if name in _CONSTANT else "f1_best"  # it has one level only
    return _ROW(f"  {name}", number(each["auc"]), between("auc"), number(each["f1"]),
                between("f1"), *(number(each[figure]) for figure in (best, "iou", "mcc")),
                number(pooled["auc"]), number(pooled["f1"])).rstrip()


def _explained(found: dict[str, Any]) -> str:
    model = found[MODEL]
    left = [f"{plural(found['unknown'], 'tampered image')} without a mask left out"] \
        if found["unknown"] else []
    if model["without"]:
        left.append(f"{model['without']:,} changed all over or nowhere: pooled only")
    return "; ".join([
        f"(mean over {plural(model['pictures'], 'tampered image')}", *left,
        f"a pixel is changed from {model['threshold'] / (LEVELS - 1):.2f} on, for baselines from "
        "what is best for them on these images", "best F1: from what is best for each image)"])
