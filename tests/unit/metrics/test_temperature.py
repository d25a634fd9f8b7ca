"""Temperature scaling against planted temperatures and a search over many of them."""

from __future__ import annotations

import numpy as np
import pytest

from hpc_deepfake import metrics
from hpc_deepfake.metrics import calibration, temperature


def planted(value: float, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities too sure by a temperature, and labels drawn from the right ones."""
    random = np.random.default_rng(seed)
    odds = random.normal(0, 2, count)
    return 1 / (1 + np.exp(-odds * value)), random.random(count) < 1 / (1 + np.exp(-odds))


@pytest.mark.parametrize("value", [0.4, 1, 2.5])
def test_a_planted_temperature_is_found(value):
    p, y = planted(value, 50_000)
    fitted = temperature.fit(p, y)
    assert fitted == pytest.approx(value, rel=0.03)
    after = temperature.apply(p, fitted)
    assert calibration.expected_calibration_error(after, y) < 0.01
    if value == 2.5:
        assert calibration.expected_calibration_error(p, y) > 0.05


def test_no_other_temperature_has_a_smaller_cross_entropy():
    p, y = planted(3, 4000)
    best = temperature.fit(p, y)
    losses = {value: metrics.evaluate(temperature.apply(p, value), y)["loss"]
              for value in (best, *np.linspace(0.5, 6, 40))}
    assert min(losses.values()) == pytest.approx(losses[best], abs=1e-6)
    assert losses[best] < metrics.evaluate(p, y)["loss"] - 0.05


def test_one_half_and_the_order_stay():
    below, above = (float(np.nextafter(np.float32(0.5), np.float32(end))) for end in (0, 1))
    p = np.array([0, 1e-9, below, 0.5, above, 0.9, 1])
    for value in (0.3, 2, 20):
        after = temperature.apply(p, value)
        assert after[2] < after[3] == 0.5 < after[4] and (np.diff(after) >= 0).all()
        assert temperature.apply(after, 1 / value)[2:6] == pytest.approx(p[2:6], abs=1e-12)
    assert temperature.apply(p, 1).tolist() == p.tolist()
    assert temperature.apply([0.2, 0.5, 0.9], 1e-320).tolist() == [0, 0.5, 1]
    assert temperature.apply([0.2, 0.5, 0.9], 1e308).tolist() == [0.5] * 3
    assert float(temperature.apply(0.8, 2)) == pytest.approx(2 / 3)  # odds of 4, and of 2


def test_the_limits():
    """Of a small part that is separated, 60% does not become 100%."""
    low, high = temperature.LIMITS
    assert temperature.fit([0.3, 0.35, 0.6, 0.7], [0, 0, 1, 1]) == pytest.approx(low)
    assert temperature.apply(0.6, low) < 0.85
    assert temperature.fit([0.9, 0.8, 0.1], [0, 0, 1]) == pytest.approx(high), "knows nothing"


@pytest.mark.parametrize(("p", "y"), [([0.2, 0.9], [1, 1]), ([0.2, np.nan], [0, 1]), ([], [])])
def test_nothing_to_fit(p, y):
    assert temperature.fit(p, y) == 1
