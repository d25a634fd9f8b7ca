"""The table network's training pass with TensorFlow's fused operations, on the Keras model's
variables.

The Keras model owns all weights; this is the same network with faster gradients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from hpc_deepfake.network import table
from hpc_deepfake.network.base import Out, Pass, Product
from hpc_deepfake.network.batchnorm import Normalise, Statistics, by_moving, some_frozen
from hpc_deepfake.network.shapes import DROPOUT


class Weights:
    """The variables of a model from ``table.build()`` by role, as TensorFlow variables: a
    ``base.Network``.

    Args:
        model: owner of the variables; layers that are not trainable are frozen.
        kernel: used instead of the kernel of the large dense layer; holds part of its rows.
    """

    constraints: Sequence[str] = ()
    channels = 3
    located = None

    def __init__(self, model: keras.Model, kernel: tf.Variable | None = None) -> None:
        def values(name: str) -> list[tf.Variable]:
            return [variable.value for variable in model.get_layer(name).weights]

        self.model, self.size = model, model.input_shape[1]
        self.conv1, self.conv2 = values("conv1"), values("conv2")
        (*self.bn1, mean1, variance1) = values("bn1")
        (*self.bn2, mean2, variance2) = values("bn2")
        self.dense1, self.dense2 = values("dense1"), values("dense2")
        if kernel is not None:
            self.dense1[0] = kernel
        blocks = {"conv1": self.conv1, "bn1": self.bn1, "conv2": self.conv2, "bn2": self.bn2,
                  "dense1": self.dense1, "dense2": self.dense2}
        self._statistics = {"bn1": Statistics(mean1, variance1),
                            "bn2": Statistics(mean2, variance2)}
        frozen = {name for name in blocks if not model.get_layer(name).trainable}
        self.trainable = [v for name, own in blocks.items() if name not in frozen for v in own]
        self.moving = [v for name, pair in self._statistics.items() if name not in frozen
                       for v in pair]
        self.momenta: list[float] | None = None
        self.fixed = [v for name, own in blocks.items() if name in frozen
                      for v in (*own, *self._statistics.get(name, ()))]
        self._frozen = {name: pair for name, pair in self._statistics.items() if name in frozen}
        self.large = None if "dense1" in frozen else self.dense1[0]
        large = [place for place, v in enumerate(self.trainable) if v is self.large]
        rest = [place for place in range(len(self.trainable)) if place not in large]
        self.buckets = [large, rest] if large else [rest]

    @property
    def all(self) -> list[tf.Variable]:
        return [*self.trainable, *self.moving, *self.fixed]

    def forward(self, pictures: tf.Tensor, seed: tf.Tensor, how: Pass) -> Out:
        own = self.conv1[0].dtype
        dropout = DROPOUT if how.dropout is None else how.dropout
        normalise = some_frozen(how.normaliser(own), self._frozen)
        logits, statistics = forward(self, pictures, seed, dropout, normalise, how.compute,
                                     how.product)
        return Out(logits, [value for name, pair in zip(self._statistics, statistics, strict=True)
                            if name not in self._frozen for value in pair])

    def predict(self, pictures: tf.Tensor, product: Product) -> tf.Tensor:
        outputs, _ = forward(self, pictures, tf.zeros(2, tf.int32), 0.0,
                             by_moving(self._statistics), self.conv1[0].dtype, product)
        return tf.nn.softmax(outputs)

    def constrain(self) -> None:
        """There is nothing to do."""

    def spare(self) -> keras.Model:
        own = self.conv1[0].dtype
        model = table.build("float64" if own == tf.float64 else "float32", self.size)
        for layer in self.model.layers:
            model.get_layer(layer.name).trainable = layer.trainable
        return model


def forward(weights: Weights, pictures: tf.Tensor, seed: tf.Tensor, dropout: float,
            normalise: Normalise, compute: tf.DType,
            product: Product = tf.matmul) -> tuple[tf.Tensor, list[Statistics]]:
    """Training pass.

    Args:
        weights: the network's variables.
        pictures: uint8 (n, size, size, 3).
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
    # the scopes name the operations, also those of the gradient, for benchmarks/limit.py
    with tf.name_scope("rescaling"):
        x = tf.cast(tf.cast(pictures, own) * (1 / 255), compute)
    statistics = []
    for number, conv, bn in ((1, weights.conv1, weights.bn1), (2, weights.conv2, weights.bn2)):
        with tf.name_scope(f"conv{number}"):
            kernel, bias = _cast(conv, compute)
            x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, "VALID"), bias))
        with tf.name_scope(f"bn{number}"):
            x, batch_statistics = normalise(x, bn[0], bn[1], f"bn{number}")
        statistics.append(batch_statistics)
        with tf.name_scope(f"pool{number}"):
            x = tf.nn.max_pool2d(x, 2, 2, "VALID")
    x = tf.reshape(x, (tf.shape(x)[0], math.prod(x.shape[1:])))
    with tf.name_scope("dense1"):
        kernel, bias = _cast(weights.dense1, compute)
        x = tf.cast(tf.nn.relu(tf.nn.bias_add(product(x, kernel), bias)), own)
    if dropout:
        with tf.name_scope("dropout"):
            x = tf.nn.experimental.stateless_dropout(x, dropout, seed, rng_alg="philox")
    with tf.name_scope("dense2"):
        logits = tf.nn.bias_add(tf.matmul(x, weights.dense2[0]), weights.dense2[1])
    return logits, statistics


def _cast(variables: Sequence[tf.Variable], kind: tf.DType) -> list[tf.Tensor]:
    return [tf.cast(variable, kind) for variable in variables]
