"""Adam (Kingma & Ba 2015) with a decaying learning rate, in one fused operation per variable."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-7  # Keras' defaults


class Adam:
    """Adam's state for some variables.

    The learning rate of step t (from 0) is ``rate / (1 + decay·t)``: what ``decay`` meant in
    Keras 1 and 2, while Keras 3 ignores it.
    """

    def __init__(self, variables: Sequence[tf.Variable], rate: float, decay: float) -> None:
        self.variables = list(variables)
        self.rate, self.decay = rate, decay
        self.first = [tf.Variable(tf.zeros_like(v), trainable=False) for v in variables]
        self.second = [tf.Variable(tf.zeros_like(v), trainable=False) for v in variables]

    def rate_at(self, step: tf.Tensor) -> tf.Tensor:
        """Learning rate of optimizer step ``step`` (int64, from 0); float64."""
        return self.rate / (1 + self.decay * tf.cast(step, tf.float64))

    def apply(self, gradients: Sequence[tf.Tensor], step: tf.Tensor) -> None:
        """Update the variables with the gradients of step ``step`` (int64 scalar, from 0)."""
        rate = self.rate_at(step)
        count = tf.cast(step + 1, tf.float64)
        power1, power2 = (tf.pow(tf.constant(beta, tf.float64), count) for beta in (BETA1, BETA2))
        for variable, first, second, gradient in zip(
                self.variables, self.first, self.second, gradients, strict=True):
            def cast(value: object, kind: tf.DType = variable.dtype) -> tf.Tensor:
                return tf.cast(value, kind)

            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle, m=first.handle, v=second.handle, grad=gradient,
                beta1_power=cast(power1), beta2_power=cast(power2), lr=cast(rate),
                beta1=cast(BETA1), beta2=cast(BETA2), epsilon=cast(EPSILON))
