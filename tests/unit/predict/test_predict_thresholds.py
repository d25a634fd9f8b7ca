"""predict with thresholds: undecided pictures and frames, calibration, and what is stored."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from mean_network import MeanNetwork
from PIL import Image

from hpc_deepfake import predict
from hpc_deepfake.core import log
from hpc_deepfake.metrics import temperature
from hpc_deepfake.network import device, model
from preprocessing.ela import Parameters, features_of_file


@pytest.fixture
def shown(monkeypatch, tmp_path, capsys):
    """Calls predict on three pictures, with this card and options; their rows as JSON."""
    monkeypatch.setattr(model, "load", lambda _: MeanNetwork())
    monkeypatch.setattr(device, "start", lambda *_, **__: None)
    monkeypatch.setattr(log.log, "propagate", log.log.propagate)
    log.start()
    random = np.random.default_rng(0)
    for name, mean in (("a", 60), ("b", 130), ("c", 200)):
        Image.fromarray(random.integers(mean - 40, mean + 40, (64, 64, 3), np.uint8)).save(
            tmp_path / f"{name}.png")

    def call(card: model.Card, *words: str) -> list[dict]:
        monkeypatch.setattr(model, "read_card", lambda _: card)
        assert predict.main(["--model", "run", "--format", "json", *words,
                             *(str(tmp_path / f"{name}.png") for name in "abc")]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return call


CARD = model.Card("raw", Parameters(), trained_on={})


def verdicts(rows: list[dict]) -> list[str]:
    return [row["verdict"] for row in rows]


def test_undecided_between_two_thresholds(shown):
    """Given as an option, or stored in the model's card; one option overrides both of the card."""
    assert verdicts(shown(CARD)) == ["authentic", "tampered", "tampered"]
    three = ["authentic", "undecided", "tampered"]
    assert verdicts(shown(CARD, "--threshold", "0.4,0.6")) == three
    stored = replace(CARD, lower=0.4, threshold=0.6)
    assert verdicts(shown(stored)) == three
    assert verdicts(shown(stored, "--threshold", "0.7")) == ["authentic", "authentic", "tampered"]


def test_calibrated_probabilities(shown, tmp_path):
    """The stored temperature is used unless it is switched off; the verdicts stay."""
    stored = replace(CARD, temperature=3.0, threshold=0.55)
    on, off = shown(stored), shown(stored, "--calibration", "off")
    raw = [features_of_file(str(tmp_path / f"{name}.png"), ("raw",), Parameters())[0].mean() / 255
           for name in "abc"]
    assert [row["probability"] for row in off] == pytest.approx(raw, abs=1e-6)
    assert [row["probability"] for row in on] == pytest.approx(
        temperature.apply(np.array(raw), 3), abs=1e-6)
    assert verdicts(on) == verdicts(off) == ["authentic", "authentic", "tampered"]


def test_words_that_are_no_threshold(shown, capsys):
    with pytest.raises(SystemExit) as leave:
        shown(CARD, "--threshold", "0.9,0.1")
    assert leave.value.code == 2 and "LOW,HIGH with LOW up to HIGH" in capsys.readouterr().err
