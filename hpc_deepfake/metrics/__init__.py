"""Metrics of a binary classifier; "positive" means tampered."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hpc_deepfake.core import text


def evaluate(probabilities: np.ndarray, labels: np.ndarray,
             threshold: float = 0.5,
             lower: float | None = None) -> dict[str, float | int | None]:
    """All metrics over the same rows.

    Args:
        probabilities: of tampered, float (n).
        labels: 0 authentic, 1 tampered (n).
        threshold: lowest probability at which a picture is predicted tampered.
        lower: from here to below the threshold a picture is undecided; it counts in ``loss``,
            ``auc`` and ``rows`` only.

    Returns:
        ``loss`` (cross-entropy, natural logarithm), ``accuracy``, ``balanced_accuracy``,
        ``precision``, ``recall``, ``f1``, ``auc``, the counts ``tp fp tn fn``, ``rows`` and
        ``majority`` (accuracy of always predicting the more frequent class). None where a metric
        is not defined: no rows, one class only, or a probability that is not finite.
    """
    p = np.asarray(probabilities, np.float64)
    y = np.asarray(labels).astype(bool)
    if not np.isfinite(p).all():
        defined = evaluate(np.zeros(len(y)), y, threshold, lower)
        return {name: defined[name] if name in ("rows", "majority") else None for name in defined}
    predicted = p >= threshold
    refused = p < (threshold if lower is None else lower)
    tp, fp = int((predicted & y).sum()), int((predicted & ~y).sum())
    tn, fn = int((refused & ~y).sum()), int((refused & y).sum())
    positives, negatives = tp + fn, tn + fp
    recall, specificity = _ratio(tp, positives), _ratio(tn, negatives)
    clipped = np.clip(np.where(y, p, 1 - p), 1e-7, 1)
    return {
        "loss": float(-np.log(clipped).mean()) if len(p) else None,
        "accuracy": _ratio(tp + tn, positives + negatives),
        "balanced_accuracy": None if recall is None or specificity is None
        else (recall + specificity) / 2,
        "precision": _ratio(tp, tp + fp),
        "recall": recall,
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "auc": auc(p, y),
        "tp": tp, "fp": fp, "tn": tn, "fn": fn, "rows": len(p),
        "majority": _ratio(max(positives, negatives), positives + negatives),
    }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def auc(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """Area under the ROC curve: the probability that a positive has a higher score than a negative,
    where ties count half. None if a class has no rows, or if a score is not finite.

    (Mann-Whitney's U divided by the number of pairs; Hanley & McNeil 1982.)

    Args:
        scores: float (n), higher for tampered.
        labels: 0 authentic, 1 tampered (n).
    """
    y = np.asarray(labels).astype(bool)
    positives, negatives = int(y.sum()), int((~y).sum())
    if not positives or not negatives or not np.isfinite(scores).all():
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[y].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def table(figures: Mapping[str, float | int | None],
          intervals: Mapping[str, tuple[float, float] | None] | None = None,
          undecided: Mapping[str, int] | None = None) -> str:
    """The metrics as lines to read, accuracy and AUC with their intervals if these are given.

    Args:
        figures: result of ``evaluate``.
        intervals: result of ``intervals.bootstrap``.
        undecided: number of undecided pictures, ``authentic`` and ``tampered``, where a lower
            threshold makes some.
    """
    def between(name: str, form: str) -> str:
        ends = (intervals or {}).get(name)
        return f"95%: {ends[0]:{form}} to {ends[1]:{form}}; " if ends else ""

    def percent(name: str) -> str:
        return text.percent(figures[name])

    counts = [figures[name] for name in ("tp", "fn", "fp", "tn")]
    tampered, decided = (sum(count or 0 for count in counts[:end]) for end in (2, 4))
    balance = f"where {text.percent(tampered / decided)} are tampered; " if decided else ""
    return "\n".join([
        f"accuracy           {percent('accuracy'):>7}   {between('accuracy', '.1%')}majority class "
        f"{percent('majority')}",
        f"balanced accuracy  {percent('balanced_accuracy'):>7}",
        f"precision          {percent('precision'):>7}   {balance}recall {percent('recall')}, F1 "
        f"{percent('f1')}",
        f"ROC-AUC            {text.number(figures['auc']):>7}   {between('auc', '.3f')}"
        "0.5 is chance",
        f"loss               {text.number(figures['loss']):>7}   cross-entropy",
        f"                     predicted authentic  {'' if undecided is None else 'undecided  '}"
        "predicted tampered",
        *(f"  {name:<17}  {text.count(figures[authentic]):>19}  "
          + ("" if undecided is None else f"{undecided[name]:>9,}  ")
          + f"{text.count(figures[tampered]):>18}" for name, authentic, tampered in (
              ("authentic", "tn", "fp"), ("tampered", "fn", "tp")))])
