"""Figures of merit of a binary classifier; "positive" is tampered."""

from __future__ import annotations

import numpy as np


def evaluate(probabilities: np.ndarray, labels: np.ndarray,
             threshold: float = 0.5) -> dict[str, float | int | None]:
    """All figures over the same rows.

    Args:
        probabilities: of tampered, float (n). labels: 0 or 1 (n). threshold: from which on a
            picture is called tampered.

    Returns:
        ``loss`` (cross-entropy, natural logarithm), ``accuracy``, ``balanced_accuracy``,
        ``precision``, ``recall``, ``f1``, ``auc``, the counts ``tp fp tn fn``, ``rows`` and
        ``majority`` (accuracy of always saying the more frequent class). None where a figure
        isn't defined: no rows, or one class only.
    """
    p = np.asarray(probabilities, np.float64)
    y = np.asarray(labels).astype(bool)
    said = p >= threshold
    tp, fp = int((said & y).sum()), int((said & ~y).sum())
    tn, fn = int((~said & ~y).sum()), int((~said & y).sum())
    positives, negatives = tp + fn, tn + fp
    recall, specificity = _ratio(tp, positives), _ratio(tn, negatives)
    clipped = np.clip(np.where(y, p, 1 - p), 1e-7, 1)
    return {
        "loss": float(-np.log(clipped).mean()) if len(p) else None,
        "accuracy": _ratio(tp + tn, len(p)),
        "balanced_accuracy": None if recall is None or specificity is None
        else (recall + specificity) / 2,
        "precision": _ratio(tp, tp + fp),
        "recall": recall,
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "auc": auc(p, y),
        "tp": tp, "fp": fp, "tn": tn, "fn": fn, "rows": len(p),
        "majority": _ratio(max(positives, negatives), len(p)),
    }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def auc(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """Area under the ROC curve: the chance that a positive outranks a negative, ties half.

    (Mann-Whitney's U over the number of pairs; Hanley & McNeil 1982.)
    """
    y = np.asarray(labels).astype(bool)
    positives, negatives = int(y.sum()), int((~y).sum())
    if not positives or not negatives:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[y].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def table(found: dict[str, float | int | None],
          intervals: dict[str, tuple[float, float] | None] | None = None) -> str:
    """The figures as lines for a person, accuracy and AUC with intervals if they are given."""
    def between(name: str, form: str) -> str:
        ends = (intervals or {}).get(name)
        return f"95%: {ends[0]:{form}} to {ends[1]:{form}}; " if ends else ""

    def text(name: str, percent: bool = True) -> str:
        value = found[name]
        return "–" if value is None else f"{value:.1%}" if percent else f"{value:.3f}"

    return "\n".join([
        f"accuracy           {text('accuracy'):>7}   {between('accuracy', '.1%')}majority class "
        f"{text('majority')}",
        f"balanced accuracy  {text('balanced_accuracy'):>7}",
        f"precision          {text('precision'):>7}   recall {text('recall')}, F1 {text('f1')}",
        f"ROC-AUC            {text('auc', False):>7}   {between('auc', '.3f')}0.5 is chance",
        f"loss               {text('loss', False):>7}   cross-entropy",
        "                     said authentic  said tampered",
        f"  is authentic       {found['tn']:>14,}  {found['fp']:>13,}",
        f"  is tampered        {found['fn']:>14,}  {found['tp']:>13,}"])
