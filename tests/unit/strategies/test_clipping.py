"""``--clip-norm``: the global norm of a gradient of several tensors."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from hpc_deepfake.strategies import clipping

pytestmark = pytest.mark.slow  # TensorFlow starts
GRADIENTS = [np.array([[3.0, 0.0], [0.0, 4.0]]), np.array([12.0])]  # of norm 13


def clip(gradients: list[np.ndarray], bound: float) -> list[np.ndarray]:
    tensors = [tf.constant(gradient) for gradient in gradients]
    return [value.numpy() for value in
            clipping.clipped(tensors, clipping.squares(tensors), bound)]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_larger_norm_becomes_the_bound(kind: type) -> None:
    """With the same direction and type."""
    values = clip([gradient.astype(kind) for gradient in GRADIENTS], 6.5)
    for value, gradient in zip(values, GRADIENTS, strict=True):
        assert value.dtype == kind
        np.testing.assert_allclose(value, gradient / 2, rtol=1e-6)


def test_a_smaller_norm_stays_bit_for_bit() -> None:
    for value, gradient in zip(clip(GRADIENTS, 13.5), GRADIENTS, strict=True):
        assert np.array_equal(value, gradient)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])  # the last one's square is infinite
def test_a_norm_that_is_not_finite_is_not_hidden(bad: float) -> None:
    """Scaled by 0, the weights would stay finite, and the run would go on without learning."""
    values = clip([np.float32([bad, 1.0]), np.float32([1.0])], 1.0)
    assert all(np.isnan(value).all() for value in values)


def test_no_gradients_have_no_norm() -> None:
    """Of a rank that holds only what others count."""
    assert float(clipping.squares([])) == 0.0
