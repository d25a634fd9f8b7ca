"""The table network's training pass on the Keras model's variables: on CPUs with the project's
compiled operations, where they were built, else with TensorFlow's fused ones.

The Keras model owns all weights; this is the same network with faster gradients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from hpc_deepfake.network import blocks, table
from hpc_deepfake.network.base import Out, Pass, Product
from hpc_deepfake.network.batchnorm import Normalise, Statistics, by_moving, some_frozen
from hpc_deepfake.network.blocks.features import features as compiled
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
        self._untrained = frozen
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
        if blocks.usable(own) and self._untrained.isdisjoint(blocks.LAYERS):
            x, statistics = compiled(
                pictures, self.size, [self.conv1, self.bn1, self.conv2, self.bn2], how)
        else:
            normalise = some_frozen(how.normaliser(own), self._frozen)
            x, statistics = features(self, pictures, normalise, how.compute)
        logits = head(self, x, seed, dropout, how.product)
        return Out(logits, [value for name, pair in zip(self._statistics, statistics, strict=True)
                            if name not in self._frozen for value in pair])

    def predict(self, pictures: tf.Tensor, product: Product) -> tf.Tensor:
        x, _ = features(self, pictures, by_moving(self._statistics), self.conv1[0].dtype)
        return tf.nn.softmax(head(self, x, tf.zeros(2, tf.int32), 0.0, product))

    def constrain(self) -> None:
        """There is nothing to do."""

    def spare(self) -> keras.Model:
        own = self.conv1[0].dtype
        model = table.build("float64" if own == tf.float64 else "float32", self.size)
        for layer in self.model.layers:
            model.get_layer(layer.name).trainable = layer.trainable
        return model


def features(weights: Weights, pictures: tf.Tensor, normalise: Normalise,
             compute: tf.DType) -> tuple[tf.Tensor, list[Statistics]]:
    """Both convolution blocks, with TensorFlow's own operations.

    Args:
        weights: the network's variables.
        pictures: uint8 (n, size, size, 3).
        normalise: batch normalisation, from ``batchnorm.normaliser``.
        compute: type of the convolutions; normalisations compute in that of the weights.

    Returns:
        (n, s, s, 64) in ``compute``, and the batch statistics of both normalisations.
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
    return x, statistics


def head(weights: Weights, x: tf.Tensor, seed: tf.Tensor, dropout: float,
         product: Product = tf.matmul) -> tf.Tensor:
    """Logits (n, 2), in the type of the weights, from what ``features`` returns.

    Args:
        weights: the network's variables.
        x: (n, s, s, 64), in the type of the product with the large dense layer.
        seed: int32 (2), seed of the dropout mask.
        dropout: dropout rate; 0 for none.
        product: matrix product with the kernel of the large dense layer.
    """
    own = weights.conv1[0].dtype
    x = tf.reshape(x, (tf.shape(x)[0], math.prod(x.shape[1:])))
    with tf.name_scope("dense1"):
        kernel, bias = _cast(weights.dense1, x.dtype)
        x = tf.cast(tf.nn.relu(tf.nn.bias_add(product(x, kernel), bias)), own)
    if dropout:
        with tf.name_scope("dropout"):
            x = tf.nn.experimental.stateless_dropout(x, dropout, seed, rng_alg="philox")
    with tf.name_scope("dense2"):
        return tf.nn.bias_add(tf.matmul(x, weights.dense2[0]), weights.dense2[1])


def _cast(variables: Sequence[tf.Variable], kind: tf.DType) -> list[tf.Tensor]:
    return [tf.cast(variable, kind) for variable in variables]
