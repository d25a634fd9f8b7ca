"""What a network says of pictures that it is very sure of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.evaluate.material import Material
from hpc_deepfake.evaluate.thresholds import choose, parse
from hpc_deepfake.metrics import temperature
from hpc_deepfake.network import decision
from hpc_deepfake.network.card import Card
from hpc_deepfake.network.scoring import Scores
from preprocessing.ela import Parameters

CARD = Card("ela", Parameters(), temperature=5.57)


def outputs(odds: np.ndarray) -> np.ndarray:
    """Softmax outputs, float32 (n, 2), which end at 1."""
    return np.stack([1 / (1 + np.exp(odds)), 1 / (1 + np.exp(-odds))], axis=1).astype(np.float32)


def test_the_smaller_output_tells_very_sure_pictures_apart():
    odds = np.array([-80, -40, -10, -1, 0, 1, 10, 20, 40, 44, 80.0])
    found = Scores.of(outputs(odds))
    assert found.odds == pytest.approx(odds, abs=1e-4)
    assert (np.diff(found.probabilities[:9]) > 0).all() and found.probabilities[-1] == 1
    shown = decision.calibrated(CARD, found)
    assert (np.diff(shown) > 0).all(), "no ties"
    assert shown == pytest.approx(temperature.of_odds(odds, 5.57), abs=1e-6)


def test_ordinary_probabilities_are_those_of_the_network():
    given = outputs(np.linspace(-6, 6, 97))
    shown = decision.calibrated(replace(CARD, temperature=1.0), Scores.of(given))
    assert shown.tolist() == given[:, 1].astype(np.float64).tolist()
    assert np.isnan(Scores.of(np.full((1, 2), np.nan)).probabilities).all()
    assert len(Scores.of(np.empty((0, 2))).odds) == 0


def chosen(odds: np.ndarray) -> tuple[Card, np.ndarray]:
    count, found = len(odds), Scores.of(outputs(odds))
    material = Material([b"x"] * count, np.zeros(count, np.uint8), np.arange(count),
                        np.ones(count, int), found.probabilities, odds=found.odds)
    return (choose(parse("fpr=0.1"), material, CARD, "x.h5"),
            decision.calibrated(CARD, material.scores))


def test_a_chosen_threshold_can_be_reached():
    """Fourteen of twenty authentic pictures have probability 1 as a float32."""
    card, shown = chosen(np.concatenate([np.linspace(-5, 5, 6), np.linspace(18, 44, 14)]))
    assert 1 <= (shown >= card.threshold).sum() <= 2
    assert card.threshold < decision.highest(CARD)


def test_no_threshold_where_too_many_pictures_have_the_highest_probability():
    with pytest.raises(InputError, match="highest probability"):
        chosen(np.full(20, 95.0))
