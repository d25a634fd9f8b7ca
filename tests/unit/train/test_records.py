"""Records of a run whose model has a temperature and a stored threshold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hpc_deepfake.train import records


@pytest.mark.parametrize(("card", "threshold"), [
    ({"threshold": 2 / 3, "temperature": 2.0}, 0.8), ({"threshold": 0.7}, 0.7), ({}, 0.5),
    ({"threshold": 0.7, "temperature": "x"}, 0.7), ({"threshold": 0.7, "temperature": -1}, 0.7)])
def test_the_threshold_is_one_of_the_networks_own_probabilities(
        tmp_path: Path, card: dict[str, Any], threshold: float) -> None:
    """As predictions.csv has them: odds of 2 after the temperature of 2 are odds of 4 before."""
    (tmp_path / "metrics.jsonl").write_text("")
    (tmp_path / "model.json").write_text(json.dumps(card))
    assert records.read(tmp_path).threshold == pytest.approx(threshold)
