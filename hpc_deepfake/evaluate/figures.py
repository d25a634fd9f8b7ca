"""All figures of an evaluation: the content of its ``--json`` file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hpc_deepfake import metrics
from hpc_deepfake.evaluate import breakdown, one_class
from hpc_deepfake.evaluate.material import Material
from hpc_deepfake.metrics import calibration, intervals, prevalence, proportions
from hpc_deepfake.network import decision
from hpc_deepfake.network.card import Card

SHARES = (0.1, 0.01)  # of tampered pictures, for which the precision is computed
_CLEAR = 5  # pictures of a class, from which an AUC below one half is no chance


def of(material: Material, card: Card) -> dict[str, Any]:
    """Figures of a model on pictures.

    Those that count verdicts belong to calibrated probabilities and the card's thresholds; loss,
    AUC and calibration to the network's own probabilities.

    Args:
        material: the pictures.
        card: the model's, with the temperature and thresholds in use.

    Returns:
        The figures of ``metrics.evaluate``, and ``threshold``, ``lower``, ``threshold_chosen``,
        ``undecided`` (numbers by class; None without a lower threshold), ``groups``, ``intervals``,
        ``rates`` (recall and false positives over all pictures of a class, with intervals),
        ``precision_at`` (at other shares of tampered pictures), ``calibration``, ``by``,
        ``one_class`` (None if there are both), ``hint`` (None if nothing is suspicious) and
        ``caveats`` of the model.
    """
    p, y, groups = material.probabilities, material.labels, material.groups
    q = decision.calibrated(card, material.scores)
    whole = metrics.evaluate(p, y) | {"auc": metrics.auc(material.scores.odds, y)}
    found = {**metrics.evaluate(q, y, card.threshold, card.lower),
             "loss": whole["loss"], "auc": whole["auc"]}
    bounds = intervals.bootstrap(q, y, groups, card.threshold, lower=card.lower)
    classes = set(y.tolist())
    rates = _rates(q, y, groups, card.threshold)
    return {
        **found, "threshold": card.threshold, "lower": card.lower,
        "threshold_chosen": card.threshold_chosen,
        "undecided": _undecided(q, y, card), "groups": len(set(groups.tolist())),
        "intervals": bounds, "rates": rates,
        "precision_at": [_precision(share, q, y, groups, card.threshold) for share in SHARES]
        if len(classes) == 2 else [],
        "calibration": {"error": calibration.expected_calibration_error(p, y),
                        "brier": calibration.brier(p, y),
                        "reliability": calibration.reliability(p, y),
                        "temperature": _temperature(q, y, card)},
        "by": breakdown.all_of(replace(material, probabilities=q), card.threshold, card.lower),
        "one_class": one_class.figures(q, groups, classes.pop(), card.threshold)
        if len(classes) == 1 else None,
        "hint": _hint(whole["auc"], bounds["auc"], y), "caveats": card.caveats}


def _undecided(q: np.ndarray, y: np.ndarray, card: Card) -> dict[str, int] | None:
    if card.lower is None:
        return None
    between = (q >= card.lower) & (q < card.threshold)
    return {"authentic": int((between & (y == 0)).sum()),
            "tampered": int((between & (y == 1)).sum())}


def _rates(q: np.ndarray, y: np.ndarray, groups: np.ndarray,
           threshold: float) -> dict[str, dict[str, Any] | None]:
    def rate(label: int) -> dict[str, Any] | None:
        chosen = y == label
        hits = q[chosen] >= threshold
        return {"value": float(hits.mean()), "interval":
                proportions.interval(hits, groups[chosen])} if len(hits) else None

    return {"false_positive": rate(0), "recall": rate(1)}


def _precision(share: float, q: np.ndarray, y: np.ndarray, groups: np.ndarray,
               threshold: float) -> dict[str, Any]:
    """Precision if this share of the pictures was tampered."""
    hits = [q[y == label] >= threshold for label in (0, 1)]
    false, recall = (float(values.mean()) for values in hits)
    authentic, tampered = (proportions.effective(values, groups[y == label])
                           for label, values in enumerate(hits))
    value = prevalence.precision(recall, false, share)
    return {"tampered": share, "precision": value, "interval": None if value is None else
            prevalence.interval(recall, tampered, false, authentic, share)}


def _temperature(q: np.ndarray, y: np.ndarray, card: Card) -> dict[str, Any] | None:
    """Calibration with the temperature; None without one."""
    if card.temperature == 1:
        return None
    return {"value": card.temperature, "error": calibration.expected_calibration_error(q, y),
            "brier": calibration.brier(q, y), "loss": metrics.evaluate(q, y)["loss"],
            "reliability": calibration.reliability(q, y)}


def _hint(auc: float | int | None, interval: tuple[float, float] | None,
          y: np.ndarray) -> str | None:
    """What an AUC clearly below one half may mean."""
    if auc is None or interval is None or interval[1] >= 0.5 \
            or np.bincount(y, minlength=2).min() < _CLEAR:
        return None
    return (f"ROC-AUC {auc:.3f} is clearly below chance: the model ranks authentic pictures above "
            "tampered ones. Are the classes the wrong way round, in these pictures or in those "
            "that it was trained on? Look at a few of both folders; exchanged, it would be "
            f"{1 - auc:.3f}")
