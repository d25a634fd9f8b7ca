"""``--clip-norm``: gradients scaled down to a global norm (Pascanu, Mikolov & Bengio 2013)."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def squares(gradients: Sequence[tf.Tensor]) -> tf.Tensor:
    """Sum of the squares of all numbers; float64 scalar."""
    return 2 * tf.add_n([tf.zeros((), tf.float64), *(
        tf.cast(tf.nn.l2_loss(gradient), tf.float64) for gradient in gradients)])


def clipped(gradients: Sequence[tf.Tensor], total: tf.Tensor, bound: float) -> list[tf.Tensor]:
    """The gradients, scaled down to a norm of ``bound`` if theirs is larger.

    If the norm is not finite, the result isn't either, so that the divergence is found: scaling by
    0 would hide it.

    Args:
        gradients: to scale; may be shards.
        total: sum of the squares of the whole gradient, float64.
        bound: the largest norm.
    """
    norm = tf.sqrt(total)
    factor = bound / tf.maximum(norm, bound)
    factor = tf.where(tf.math.is_finite(norm), factor, tf.constant(float("nan"), tf.float64))
    return [gradient * tf.cast(factor, gradient.dtype) for gradient in gradients]
