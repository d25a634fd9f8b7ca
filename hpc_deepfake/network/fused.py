"""The network's training pass with TensorFlow's fused operations, on the Keras model's variables.

The Keras model owns all weights; this is the same network with faster gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from hpc_deepfake.network.batchnorm import Normalise, Statistics

Product = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class Weights:
    """The variables of a model from ``table.build()`` by role, as TensorFlow variables.

    Args:
        model: owner of the variables.
        kernel: used instead of the kernel of the large dense layer; holds part of its rows.
    """

    def __init__(self, model: keras.Model, kernel: tf.Variable | None = None) -> None:
        def values(name: str) -> list[tf.Variable]:
            return [variable.value for variable in model.get_layer(name).weights]

        self.conv1, self.conv2 = values("conv1"), values("conv2")
        (*self.bn1, mean1, variance1) = values("bn1")
        (*self.bn2, mean2, variance2) = values("bn2")
        self.dense1, self.dense2 = values("dense1"), values("dense2")
        if kernel is not None:
            self.dense1[0] = kernel
        self.moving = [mean1, variance1, mean2, variance2]
        self.trainable = [*self.conv1, *self.bn1, *self.conv2, *self.bn2,
                          *self.dense1, *self.dense2]

    @property
    def all(self) -> list[tf.Variable]:
        return [*self.trainable, *self.moving]


def forward(weights: Weights, pictures: tf.Tensor, seed: tf.Tensor, dropout: float,
            normalise: Normalise, compute: tf.DType,
            product: Product = tf.matmul) -> tuple[tf.Tensor, list[Statistics]]:
    """Training pass.

    Args:
        weights: the network's variables.
        pictures: uint8 (n, 128, 128, 3).
        seed: int32 (2), seed of the dropout mask.
        dropout: dropout rate; 0 for none.
        normalise: batch normalisation, from ``batchnorm.normaliser``.
        compute: type of the convolutions and of the product with the large dense layer; all other
            operations use the type of the weights.
        product: matrix product with the kernel of the large dense layer.

    Returns:
        Logits (n, 2) in the weights' type, and the batch statistics of both normalisations.
    """
    own = weights.conv1[0].dtype
    x = tf.cast(tf.cast(pictures, own) * (1 / 255), compute)
    statistics = []
    for name, conv, bn in (("bn1", weights.conv1, weights.bn1),
                           ("bn2", weights.conv2, weights.bn2)):
        kernel, bias = _cast(conv, compute)
        x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, "VALID"), bias))
        x, batch_statistics = normalise(x, bn[0], bn[1], name)
        statistics.append(batch_statistics)
        x = tf.nn.max_pool2d(x, 2, 2, "VALID")
    x = tf.reshape(x, (tf.shape(x)[0], math.prod(x.shape[1:])))
    kernel, bias = _cast(weights.dense1, compute)
    x = tf.cast(tf.nn.relu(tf.nn.bias_add(product(x, kernel), bias)), own)
    if dropout:
        x = tf.nn.experimental.stateless_dropout(x, dropout, seed, rng_alg="philox")
    return tf.nn.bias_add(tf.matmul(x, weights.dense2[0]), weights.dense2[1]), statistics


def _cast(variables: Sequence[tf.Variable], kind: tf.DType) -> list[tf.Tensor]:
    return [tf.cast(variable, kind) for variable in variables]
