"""An ensemble as one model: its probabilities, card and pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.evaluate import thresholds
from hpc_deepfake.metrics import temperature
from hpc_deepfake.network import ensemble, model
from hpc_deepfake.network.card import Card
from hpc_deepfake.network.pictures import Pictures
from hpc_deepfake.network.scoring import Scores
from preprocessing.ela import Parameters
from preprocessing.split import TRAIN, VALIDATION

SIZE = 8
CARD = Card("ela", Parameters(size=SIZE), trained_on={"data": [{"name": "x"}], "train": 3})


def member(folder: Path, seed: int, **changes: object) -> keras.Model:
    keras.utils.set_random_seed(seed)
    made = keras.Sequential([
        keras.Input((SIZE, SIZE, 3)), layers.Rescaling(1 / 25), layers.Flatten(),
        layers.Dense(2, activation="softmax")])
    folder.mkdir(parents=True)
    model.save(made, replace(CARD, **changes), folder / "model.keras")
    digest = np.full((2, 16), seed + 1, np.uint8)
    digest[1] = 9  # a picture of all members, of the training part only for the last one
    Pictures(digest, digest, np.array([TRAIN, VALIDATION if seed == 0 else TRAIN], np.uint8),
             np.zeros((0, 8), np.uint8), np.zeros((0, 16, 16, 3), np.uint8)).write(
        folder / "model.keras")
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    member(tmp_path / "seed-0", 0, temperature=1.0)
    member(tmp_path / "seed-1", 1, temperature=2.5)
    (tmp_path / ensemble.NAME).write_text(json.dumps({"members": ["seed-0", "seed-1"]}))
    return tmp_path


def test_its_probability_is_the_mean_of_the_members_calibrated_ones(folder: Path) -> None:
    """Each by its own temperature; its members' are there, too."""
    rows = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)
    first, second = (Scores.of(model.load(folder / name).predict_on_batch(rows))
                     for name in ("seed-0", "seed-1"))
    both = [first.probabilities, temperature.of_odds(second.odds, 2.5)]
    assert np.abs(both[1] - second.probabilities).max() > 0.01
    for place in (folder, folder / ensemble.NAME):
        joined = model.load(place)
        found = Scores.of(joined.predict_on_batch(rows))
        assert found.probabilities == pytest.approx(np.mean(both, 0), abs=1e-6)
    found = Scores.of(ensemble.with_members(joined).predict_on_batch(rows))
    assert found.members == pytest.approx(np.stack(both, 1), abs=1e-6)
    assert Scores.joined([found, found]).members.shape == (10, 2)
    assert ensemble.with_members(model.load(folder / "seed-0")).output_shape == (None, 2)


def test_its_mask_threshold_is_the_mean_of_its_members() -> None:
    cards = [replace(CARD, mask_threshold=level) for level in (100, 121)]
    assert ensemble.card(Path(), cards).mask_threshold == 110
    assert ensemble.card(Path(), [*cards, CARD]).mask_threshold is None


def test_its_card_and_pictures_are_its_members(folder: Path) -> None:
    """Thresholds are stored for it, and belong to these members."""
    weights = tuple(model.read_card(folder / name).weights[0] for name in ("seed-0", "seed-1"))
    card = model.read_card(folder)
    assert card == replace(CARD, weights=weights)
    known = Pictures.read(folder)
    assert sorted(digest[0] for digest in known.digest) == [1, 2, 9]
    assert known.seen(bytes([9] * 16), None, None) == "trained on"
    file = thresholds.save(folder, replace(card, threshold=0.7), card, "x.h5", {
        "rows": 3, "rates": {}, "undecided": None})
    assert file == folder / "model.json" and model.read_card(folder).threshold == 0.7
    model.load(folder)
    other = model.load(folder / "seed-1")
    other.set_weights([array + 1 for array in other.get_weights()])
    model.save(other, CARD, folder / "seed-1" / "model.keras")
    with pytest.raises(InputError, match="belongs to other members"):
        model.load(folder)


def test_what_is_no_ensemble_is_refused(folder: Path) -> None:
    member(folder / "seed-2", 2, feature="raw")
    member(folder / "seed-3", 3, trained_on={"data": [{"name": "y"}]})
    for names, message in {
            ("seed-0", "seed-9"): "seed-9 of the ensemble .* has no model yet",
            ("seed-0", "seed-2"): "member 1 reads raw", ("seed-0", "seed-3"): "on other data",
            ("../x",): "can't be read", (".",): "can't be read", (): "can't be read",
            (3,): "can't be read"}.items():
        (folder / ensemble.NAME).write_text(json.dumps({"members": names}))
        with pytest.raises(InputError, match=message):
            model.read_card(folder)
    assert ensemble.members(folder / "seed-0") is None
    ensemble.check_calibration(folder / "seed-0", "off")
    (folder / ensemble.NAME).write_text(json.dumps({"members": ["seed-0"]}))
    ensemble.check_calibration(folder, "stored")
    with pytest.raises(InputError, match=r"--calibration off: the ensemble .* averages"):
        ensemble.check_calibration(folder, "off")
