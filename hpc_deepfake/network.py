"""The network's training pass, on TensorFlow's fused operations, over the Keras model's variables.

Keras 3 computes batch normalisation in separate elementwise operations; the fused one takes a
quarter of the time on a CPU. The Keras model stays the owner of all weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

MOMENTUM = 0.99  # of the moving statistics, as in Keras
EPSILON = 1e-3


class Statistics(NamedTuple):
    """Mean and (uncorrected) variance over a batch, float32 (channels) each."""

    mean: tf.Tensor
    variance: tf.Tensor


class Weights:
    """The variables of a model of ``model.build()`` by role, as TensorFlow variables."""

    def __init__(self, model: keras.Model) -> None:
        def values(name: str) -> list[tf.Variable]:
            return [variable.value for variable in model.get_layer(name).weights]

        self.conv1, self.conv2 = values("conv1"), values("conv2")
        (*self.bn1, mean1, variance1) = values("bn1")
        (*self.bn2, mean2, variance2) = values("bn2")
        self.dense1, self.dense2 = values("dense1"), values("dense2")
        self.moving = [mean1, variance1, mean2, variance2]
        self.trainable = [*self.conv1, *self.bn1, *self.conv2, *self.bn2,
                          *self.dense1, *self.dense2]

    @property
    def all(self) -> list[tf.Variable]:
        return [*self.trainable, *self.moving]


def forward(weights: Weights, pictures: tf.Tensor, seed: tf.Tensor,
            dropout: float = 0.5) -> tuple[tf.Tensor, list[Statistics]]:
    """Training pass.

    Args:
        pictures: uint8 (n, 128, 128, 3), n ≥ 1. seed: int32 (2), of the dropout mask.

    Returns:
        Logits float32 (n, 2), and the batch statistics of both normalisations.
    """
    x = tf.cast(pictures, weights.conv1[0].dtype) * (1 / 255)
    x, first = _stage(x, weights.conv1, weights.bn1)
    x, second = _stage(x, weights.conv2, weights.bn2)
    x = tf.reshape(x, (tf.shape(x)[0], weights.dense1[0].shape[0]))
    x = tf.nn.relu(tf.nn.bias_add(tf.matmul(x, weights.dense1[0]), weights.dense1[1]))
    if dropout:
        x = tf.nn.experimental.stateless_dropout(x, dropout, seed, rng_alg="philox")
    return tf.nn.bias_add(tf.matmul(x, weights.dense2[0]), weights.dense2[1]), [first, second]


def _stage(x: tf.Tensor, conv: Sequence[tf.Variable],
           bn: Sequence[tf.Variable]) -> tuple[tf.Tensor, Statistics]:
    x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, conv[0], 1, "VALID"), conv[1]))
    x, statistics = batch_norm(x, bn[0], bn[1])
    return tf.nn.max_pool2d(x, 2, 2, "VALID"), statistics


def batch_norm(x: tf.Tensor, gamma: tf.Tensor,
               beta: tf.Tensor) -> tuple[tf.Tensor, Statistics]:
    """Normalise over all but the last axis (Ioffe & Szegedy 2015); float (n, h, w, c)."""
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=(), variance=(), epsilon=EPSILON, is_training=True)
    count = tf.cast(tf.reduce_prod(tf.shape(x)[:3]), variance.dtype)
    # the operation returns the Bessel-corrected variance; Keras keeps the other
    return y, Statistics(tf.stop_gradient(mean), tf.stop_gradient(variance * (1 - 1 / count)))


def update_moving(moving: Sequence[tf.Variable], batch: Sequence[tf.Tensor],
                  step: tf.Tensor) -> None:
    """Move the statistics towards those of a batch, without the start's bias.

    Momentum is ``min(0.99, 1 - 1/step)``, step counted from 1: a plain mean at first. Keras' fixed
    0.99 needs thousands of steps to forget its start, more than a run on many ranks has.
    """
    momentum = tf.minimum(tf.constant(MOMENTUM, tf.float64), 1 - 1 / tf.cast(step, tf.float64))
    for variable, value in zip(moving, batch, strict=True):
        share = tf.cast(1 - momentum, variable.dtype)
        variable.assign_add((value - variable) * share)
