"""ROC, precision over recall, and the reliability diagram, as one PNG."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from hpc_deepfake import metrics
from hpc_deepfake.core.text import printable
from hpc_deepfake.metrics import calibration, curves

_BLUE, _RED, _GREY = "#1b6ca8", "#c8553d", "#777777"


def save(path: Path, probabilities: np.ndarray, labels: np.ndarray, threshold: float,
         title: str) -> None:
    """Draw all three into ``path``; raises OSError.

    Args:
        probabilities: of tampered, float (n). labels: 0 or 1 (n).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((12, 4.6), layout="constrained")
    FigureCanvasAgg(figure)  # needs no screen
    roc, precision, reliability = figure.subplots(1, 3)
    found = metrics.evaluate(probabilities, labels, threshold)
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1]
    for axis in (roc, precision, reliability):
        axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=ticks, yticks=ticks)
        axis.set_box_aspect(1)
        axis.spines[["top", "right"]].set_visible(False)

    false, true, _ = curves.roc(probabilities, labels)
    auc = "not defined" if found["auc"] is None else f"{found['auc']:.3f}"
    roc.plot(false, true, color=_BLUE, label=f"AUC {auc}")
    roc.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1, label="chance")
    if found["auc"] is not None:
        roc.plot(found["fp"] / (found["fp"] + found["tn"]), found["recall"], "o", color=_RED,
                 label=f"threshold {threshold:.3f}")
    roc.set(title="ROC", xlabel="authentic called tampered", ylabel="tampered called so")

    recall, right, _ = curves.precision_recall(probabilities, labels)
    share = float(np.mean(labels))
    precision.step(recall, right, color=_BLUE, where="post", label="this model")
    precision.axhline(share, color=_GREY, linestyle="--", linewidth=1,
                      label=f"always tampered: {share:.1%}")
    if found["precision"] is not None and found["recall"] is not None:
        precision.plot(found["recall"], found["precision"], "o", color=_RED,
                       label=f"threshold {threshold:.3f}")
    precision.set(title="Precision over recall", xlabel="recall", ylabel="precision")

    points = calibration.reliability(probabilities, labels)
    said, share_of, counts = (np.array(values) for values in zip(*points, strict=True)) \
        if points else (np.empty(0),) * 3
    reliability.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1, label="perfect")
    reliability.plot(said, share_of, color=_BLUE, linewidth=1)
    reliability.scatter(said, share_of, 15 + 250 * counts / max(len(labels), 1), color=_BLUE,
                        label="area: number of pictures", zorder=3)
    error = calibration.expected_calibration_error(probabilities, labels)
    reliability.set(title=f"Reliability (error {error:.3f})" if error is not None
                    else "Reliability", xlabel="probability given", ylabel="share tampered")
    roc.legend(frameon=False, loc="lower right")
    precision.legend(frameon=False, loc="lower left")
    reliability.legend(frameon=False, loc="lower right")
    shown = printable(title)
    figure.suptitle(shown, fontsize=10, parse_math=False)
    new = path.with_name(f".{path.name}.new")
    figure.savefig(new, format="png", dpi=100)
    os.replace(new, path)
