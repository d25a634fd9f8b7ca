"""ROC curve, precision over recall, and the reliability diagram, as one PNG; curves of pixels, and
figures under perturbations as others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hpc_deepfake import metrics
from hpc_deepfake.core.files import whole
from hpc_deepfake.core.text import number, percent, printable, probability
from hpc_deepfake.evaluate.material import Material
from hpc_deepfake.evaluate.pixels import MODEL
from hpc_deepfake.metrics import calibration, curves, masks
from hpc_deepfake.network import decision
from hpc_deepfake.network.card import Card

_BLUE, _RED, _GREY = "#1b6ca8", "#c8553d", "#777777"
_ACROSS = 4  # diagrams beside each other


def save(path: Path, material: Material, card: Card, title: str) -> None:
    """Draw all three diagrams into ``path``; the reliability with the card's temperature, and
    without it in grey.

    Args:
        path: of the PNG file.
        material: the pictures.
        card: the model's, with the temperature and threshold in use.
        title: above the diagrams.

    Raises:
        OSError: the file can't be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels, threshold = material.labels, card.threshold
    probabilities = decision.calibrated(card, material.scores)
    figure = Figure((12, 4.6), layout="constrained")
    FigureCanvasAgg(figure)  # needs no screen
    roc, precision, reliability = figure.subplots(1, 3)
    figures = metrics.evaluate(probabilities, labels, threshold)
    tampered = np.asarray(labels).astype(bool)
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1]
    for axis in (roc, precision, reliability):
        axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=ticks, yticks=ticks)
        axis.set_box_aspect(1)
        axis.spines[["top", "right"]].set_visible(False)

    false_positives, true_positives, _ = curves.roc(probabilities, labels)
    auc = "not defined" if figures["auc"] is None else number(figures["auc"])
    roc.plot(false_positives, true_positives, color=_BLUE, label=f"AUC {auc}")
    roc.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1, label="chance")
    if figures["auc"] is not None:  # both classes exist
        roc.plot(np.mean(np.asarray(probabilities)[~tampered] >= threshold), figures["recall"],
                 "o", color=_RED, label=f"threshold {probability(threshold)}")
    roc.set(title="ROC", xlabel="false positive rate", ylabel="true positive rate")

    recall, precision_at, _ = curves.precision_recall(probabilities, labels)
    precision.step(recall, precision_at, color=_BLUE, where="post", label="this model")
    share = float(np.mean(labels))
    precision.axhline(share, color=_GREY, linestyle="--", linewidth=1,
                      label=f"always predicting tampered: {percent(share)}")
    if figures["precision"] is not None and figures["recall"] is not None:
        precision.plot(figures["recall"], figures["precision"], "o", color=_RED,
                       label=f"threshold {probability(threshold)}")
    precision.set(title="Precision over recall", xlabel="recall", ylabel="precision")

    points = calibration.reliability(probabilities, labels)
    predicted, observed, counts = (np.array(values) for values in zip(*points, strict=True)) \
        if points else (np.empty(0),) * 3
    reliability.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1, label="perfect")
    if card.temperature != 1:
        points = calibration.reliability(material.probabilities, labels)
        reliability.plot(*list(zip(*points, strict=True))[:2], ".-", color=_GREY, linewidth=1,
                         label="without temperature")
    reliability.plot(predicted, observed, color=_BLUE, linewidth=1)
    reliability.scatter(predicted, observed, 15 + 250 * counts / max(len(labels), 1), color=_BLUE,
                        label="area: number of pictures", zorder=3)
    error = calibration.expected_calibration_error(probabilities, labels)
    reliability.set(title=f"Reliability (error {error:.3f})" if error is not None
                    else "Reliability", xlabel="predicted probability of tampered",
                    ylabel="share of tampered pictures")
    roc.legend(frameon=False, loc="lower right")
    precision.legend(frameon=False, loc="lower left")
    reliability.legend(frameon=False, loc="lower right")
    figure.suptitle(printable(title), fontsize=10, parse_math=False)
    with whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def save_located(path: Path, material: Material, found: dict[str, Any], title: str) -> None:
    """Draw ROC and precision over recall of all pixels: of the model's maps, and of baselines.

    Args:
        path: of the PNG file.
        material: the pictures.
        found: their figures, as of ``located.figures``.
        title: above the diagrams.

    Raises:
        OSError: the file can't be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((8.4, 4.6), layout="constrained")
    FigureCanvasAgg(figure)  # needs no screen
    roc, precision = figure.subplots(1, 2)
    for axis in (roc, precision):
        axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axis.set_box_aspect(1)
        axis.spines[["top", "right"]].set_visible(False)
    for (name, counts), colour in zip(material.counted.items(), (_BLUE, _RED, _GREY), strict=False):
        pooled, at = found[name]["pooled"], found[name]["threshold"]
        false, true = masks.roc(counts)
        recall, share = masks.precision_recall(counts)
        roc.plot(false, true, color=colour, label=f"{name}, AUC {number(pooled['auc'])}")
        precision.step(recall, share, color=colour, where="post",
                       label=f"{name}, F1 {number(pooled['f1'])}")
        roc.plot(false[-1 - at], true[-1 - at], "o", color=colour)
        called = counts[..., at:].sum((0, 2))
        if called.sum():
            precision.plot(true[-1 - at], called[1] / called.sum(), "o", color=colour)
    roc.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1, label="chance")
    roc.set(title="ROC of all pixels", xlabel="unchanged pixels called changed",
            ylabel="changed pixels called changed")
    changed = material.counted[MODEL].sum((0, 2))
    precision.axhline(changed[1] / changed.sum(), color=_GREY, linestyle="--", linewidth=1,
                      label="everything")
    precision.set(title="Precision over recall of all pixels", xlabel="recall", ylabel="precision")
    roc.legend(frameon=False, loc="lower right", fontsize=8)
    precision.legend(frameon=False, loc="upper right", fontsize=8)
    figure.suptitle(printable(title), fontsize=10, parse_math=False, wrap=True)
    with whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def save_perturbed(path: Path, found: Sequence[dict[str, Any]], title: str) -> None:
    """Draw the AUC over the levels of each operation, with its interval and its baselines.

    Args:
        path: of the PNG file.
        found: as of ``robustness.figures``.
        title: above the diagrams.

    Raises:
        OSError: the file can't be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    unchanged, *others = found
    operations = list(dict.fromkeys(own["operation"] for own in others))
    across = min(len(operations), _ACROSS)
    down = -(-len(operations) // across)
    figure = Figure((2 + 2.6 * across, 1 + 3.1 * down), layout="constrained")
    FigureCanvasAgg(figure)  # needs no screen
    axes = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for axis, operation in zip(axes, operations, strict=False):
        curve = [unchanged, *(own for own in others if own["operation"] == operation)]
        places = range(len(curve))
        ends = [own["intervals"]["auc"] or (np.nan, np.nan) for own in curve]
        axis.fill_between(places, *zip(*ends, strict=True), color=_BLUE, alpha=0.15, linewidth=0)
        for values, style in (
                ([own["auc"] for own in curve],
                 {"color": _BLUE, "marker": "o", "label": "this model, 95%"}),
                ([own["plain"]["auc"] for own in curve],
                 {"color": _RED, "marker": ".", "label": "plain ELA"}),
                ([own["container"] for own in curve],
                 {"color": _GREY, "marker": ".", "linestyle": ":", "label": "container alone"})):
            numbers = [np.nan if value is None else value for value in values]
            axis.plot(places, numbers, linewidth=1, **style)
        axis.axhline(0.5, color=_GREY, linestyle="--", linewidth=1, label="chance")
        axis.set_xticks(places, [_level(own, operation) for own in curve])
        axis.set(title=operation, ylim=(-0.02, 1.02), xlim=(-0.3, len(curve) - 0.7))
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[len(operations):]:
        axis.set_axis_off()
    for axis in axes[::across]:
        axis.set_ylabel("AUC")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=len(labels),
                  fontsize=9)
    figure.suptitle(printable(title), fontsize=10, parse_math=False, wrap=True)
    with whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _level(own: dict[str, Any], operation: str) -> str:
    """The levels of a perturbation of this operation, a line for each step."""
    steps = own["perturbation"].split("+")
    return "\n".join(step.partition("=")[2] for step in steps).strip() or (
        "as it is" if own["operation"] != operation else "done")
