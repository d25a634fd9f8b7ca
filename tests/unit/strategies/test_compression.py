"""``--compression fp16``: sums of many ranks' gradients in float16 stay accurate and finite."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from hpc_deepfake.strategies import compression

pytestmark = pytest.mark.slow  # TensorFlow starts


def summed(gradients: np.ndarray) -> np.ndarray:
    """The sum of the ranks' gradients (ranks, n), as the ranks take it."""
    scale = compression.scale(tf.constant(np.abs(gradients).max(1).sum(dtype=np.float32)))
    halves = compression.to_half(tf.constant(gradients), scale)
    assert np.isfinite(halves).all()
    total = compression.add_halves(halves, tf.float32)
    assert halves.dtype == total.dtype == tf.float16
    return compression.from_half(total, scale, tf.float32).numpy()


def summed_before(gradients: np.ndarray) -> np.ndarray:
    """As earlier versions did: with a fixed scale, each addition in float16, as in a ring."""
    with np.errstate(over="ignore", invalid="ignore"):
        halves = (gradients * 1024).astype(np.float16)
        total = halves[0]
        for half in halves[1:]:
            total = total + half
    return total.astype(np.float32) / 1024


def error(got: np.ndarray, gradients: np.ndarray) -> float:
    want = gradients.sum(0, dtype=np.float64)
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


def drawn(ranks: int, size: float, alike: float) -> np.ndarray:
    """Gradients with heavy tails, of which ``alike`` is common to the ranks; their sum is of
    ``size``, so each rank's becomes smaller with more ranks, as in training."""
    random = np.random.default_rng(ranks)
    common, own = random.standard_t(3, (1, 500)), random.standard_t(3, (ranks, 500))
    return (size / ranks * (alike * common + (1 - alike) * own)).astype(np.float32)


@pytest.mark.parametrize("ranks", [2, 8, 128, 1024])
@pytest.mark.parametrize("size", [1e-30, 1e-6, 1.0, 1e6, 1e30])
@pytest.mark.parametrize("alike", [0.0, 0.5, 1.0])
def test_the_sum_is_accurate_at_any_size_and_number_of_ranks(ranks: int, size: float,
                                                             alike: float) -> None:
    """To the half of float16's last place for each of two roundings, whether the gradients have
    all in common or nothing."""
    gradients = drawn(ranks, size, alike)
    assert error(summed(gradients), gradients) < 2 * 2**-11


def test_what_earlier_versions_did_fails() -> None:
    """An overflow, and with many ranks a large error."""
    large, many = drawn(2, 1e6, 0.5), drawn(1024, 1e-3, 0.5)
    assert not np.isfinite(summed_before(large)).all()
    assert error(summed_before(many), many) > 0.03


@pytest.mark.parametrize(("bound", "scaled"), [
    (1.0, 2.0**14), (2.0**-3, 2.0**14), (np.nextafter(np.float32(2), np.float32(0)), 2.0**15),
    (3e38, 2.0**15), (1e-30, 2.0**15)])
def test_the_scale_is_a_power_of_two_of_the_right_size(bound: float, scaled: float) -> None:
    scale = float(compression.scale(tf.constant(bound, tf.float32)))
    assert np.frexp(scale)[0] == 0.5
    assert scaled / 2 <= bound * scale <= scaled


@pytest.mark.parametrize("bound", [0.0, 1e-45, np.inf, np.nan])
def test_no_gradient_and_none_that_is_finite_have_a_finite_scale(bound: float) -> None:
    assert np.isfinite(float(compression.scale(tf.constant(bound, tf.float32))))


def test_the_largest_number_is_that_of_either_sign() -> None:
    assert float(compression.largest(tf.constant([1.0, -3.0, 2.0], tf.float64))) == 3.0
