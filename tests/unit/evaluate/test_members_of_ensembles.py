"""The members of an ensemble beside it, in an evaluation."""

from __future__ import annotations

import numpy as np

from hpc_deepfake.evaluate import members
from hpc_deepfake.evaluate.material import Material


def test_figures_of_the_members_at_the_ensembles_threshold() -> None:
    """Their mean stands beside the ensemble; of any other model there is nothing to say."""
    labels, chosen = np.array([0, 1, 1, 0], np.uint8), np.array([True, True, False, True])
    own = np.array([[0.1, 0.5], [0.9, 0.6], [0.2, 0.2], [0.3, 0.7]])
    material = Material([b"a"] * 4, labels, np.arange(4), np.ones(4), own.mean(1), members=own)
    found = members.figures(material.take(chosen), ["first", "second"], 0.65)
    assert [(figures["name"], figures["rows"], figures["accuracy"]) for figures in found] == [
        ("first", 3, 1.0), ("second", 3, 1 / 3)]
    assert [figures["auc"] for figures in found] == [1.0, 0.5]
    lines = members.lines({"members": found, "accuracy": 2 / 3, "auc": 1.0, "loss": 0.3})
    assert [line.split() for line in lines[-2:]] == [
        ["their", "mean", "66.7%", "0.750", f"{np.mean([f['loss'] for f in found]):.3f}"],
        ["ensemble", "66.7%", "1.000", "0.300"]]
    alone = Material([b"a"] * 4, labels, np.arange(4), np.ones(4), own.mean(1))
    assert members.lines({"members": members.figures(alone, [], 0.5)}) == []
