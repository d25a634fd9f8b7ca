"""The members of an ensemble beside the ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hpc_deepfake import metrics
from hpc_deepfake.core.json_data import dictionary, finite, items
from hpc_deepfake.core.text import number, percent
from hpc_deepfake.evaluate.material import Material


def figures(material: Material, names: Sequence[str], threshold: float) -> list[dict[str, Any]]:
    """The figures of ``metrics.evaluate`` of each member's calibrated probabilities, at the
    ensemble's threshold, with its ``name``; empty for any other model."""
    return [] if material.members is None else [
        {"name": name, **metrics.evaluate(own, material.labels, threshold)}
        for name, own in zip(names, material.members.T, strict=True)]


def lines(evaluation: dict[str, Any]) -> list[str]:
    """To print; empty for any other model than an ensemble."""
    found = [dictionary(own) for own in items(evaluation.get("members"))]
    if not found:
        return []
    rows = [*((own["name"], own) for own in found), ("their mean", _mean(found)),
            ("ensemble", evaluation)]
    return [f"{'members':<20} {'accuracy':>9} {'AUC':>7} {'loss':>7}",
            *(f"  {name:<18} {percent(own.get('accuracy')):>9} {number(own.get('auc')):>7} "
              f"{number(own.get('loss')):>7}" for name, own in rows)]


def _mean(found: list[dict[str, Any]]) -> dict[str, float | None]:
    columns = {name: [finite(own.get(name)) for own in found]
               for name in ("accuracy", "auc", "loss")}
    return {name: None if None in column else float(np.mean(np.array(column, float)))
            for name, column in columns.items()}
