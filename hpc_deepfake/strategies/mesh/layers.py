"""The blocks of the network as layers whose weights may be shards, or whole in a group of one rank.

"Column" and "row" are those of a dense kernel (inputs, outputs), as in Megatron-LM (Shoeybi et al.
2019). Convolutions are cut by output channel; Krizhevsky 2014 cut only the dense layers of a
convolutional network and left the convolutions data parallel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import tensorflow as tf

from hpc_deepfake.network.batchnorm import Normalise, Statistics
from hpc_deepfake.network.shapes import CHANNELS, UNITS
from hpc_deepfake.strategies.mesh.regions import (
    Group,
    copy_to,
    gather_from,
    reduce_from,
    scatter_to,
)

Weights = Mapping[str, tf.Variable]  # by the names of shards.parameters


def convolution(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, group: Group,
                name: str) -> tf.Tensor:
    """3×3, valid, ReLU: x (n, h, w, all channels), the same on all ranks → (n, h - 2, w - 2, this
    rank's output channels)."""
    x = copy_to(x, group, name)
    return tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, "VALID"), bias))


def column_dense(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, group: Group,
                 name: str) -> tf.Tensor:
    """x (n, all inputs), the same on all ranks → (n, this rank's outputs)."""
    return tf.nn.bias_add(tf.matmul(copy_to(x, group, name), kernel), bias)


def row_dense(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, group: Group,
              name: str) -> tf.Tensor:
    """x (n, this rank's inputs) → (n, all outputs), the same on all ranks, as ``bias`` is."""
    return tf.nn.bias_add(reduce_from(tf.matmul(x, kernel), group, name), bias)


@dataclass(frozen=True)
class Pass:
    """How a pass computes, in training or in evaluation.

    Attributes:
        group: ranks that share the layers.
        layout: how the kernel of dense1 is cut, ``row`` or ``column``.
        own: type of the weights.
        compute: type of convolutions and of the large product.
        normalise: batch normalisation; by moving statistics in evaluation.
        dropout: rate; 0: no dropout.
        seed: of the dropout mask, int32 (2).
    """

    group: Group
    layout: str
    own: tf.DType
    compute: tf.DType
    normalise: Normalise
    dropout: float = 0.0
    seed: tf.Tensor | None = None


def stage(blocks: tuple[str, ...], x: tf.Tensor, weights: Weights,
          how: Pass) -> tuple[tf.Tensor, list[Statistics]]:
    """Apply consecutive blocks.

    Args:
        blocks: their names.
        x: pictures, uint8 (n, 128, 128, 3), for the first block; else the output of the previous
            block on a rank with the same tensor index, shaped as ``shards.output_shape``.
        weights: this rank's shards by name.
        how: how to compute.

    Returns:
        The output, and the batch statistics of the normalisations.
    """
    statistics: list[Statistics] = []
    for block in blocks:
        x = _BLOCKS[block](x, weights, how, statistics)
    return x, statistics


def _conv1(x: tf.Tensor, weights: Weights, how: Pass, _: list[Statistics]) -> tf.Tensor:
    x = tf.cast(tf.cast(x, how.own) * (1 / 255), how.compute)
    return convolution(x, *_cast(weights, "conv1", how.compute), how.group, "conv1")


def _conv2(x: tf.Tensor, weights: Weights, how: Pass, _: list[Statistics]) -> tf.Tensor:
    x = gather_from(x, how.group, CHANNELS["conv1"], "conv2")
    return convolution(x, *_cast(weights, "conv2", how.compute), how.group, "conv2")


def _bn(name: str) -> Callable[..., tf.Tensor]:
    def block(x: tf.Tensor, weights: Weights, how: Pass,
              statistics: list[Statistics]) -> tf.Tensor:
        x, batch = how.normalise(x, weights[f"{name}/gamma"], weights[f"{name}/beta"], name)
        statistics.append(batch)
        return tf.nn.max_pool2d(x, 2, 2, "VALID")

    return block


def _dense1(x: tf.Tensor, weights: Weights, how: Pass, _: list[Statistics]) -> tf.Tensor:
    group = how.group
    kernel, bias = _cast(weights, "dense1", how.compute)
    if how.layout == "column":
        x = gather_from(x, group, CHANNELS["conv2"], "dense1")
    x = tf.reshape(x, (tf.shape(x)[0], kernel.shape[0]))
    dense = column_dense if how.layout == "column" else row_dense
    x = tf.cast(tf.nn.relu(dense(x, kernel, bias, group, "dense1")), how.own)
    if not how.dropout:
        return x
    if x.shape[-1] == UNITS:
        return tf.nn.experimental.stateless_dropout(x, how.dropout, how.seed, rng_alg="philox")
    mask = tf.nn.experimental.stateless_dropout(  # of all units, the same on every rank
        tf.ones((tf.shape(x)[0], UNITS), how.own), how.dropout, how.seed, rng_alg="philox")
    return x * group.shard(mask)


def _dense2(x: tf.Tensor, weights: Weights, how: Pass, _: list[Statistics]) -> tf.Tensor:
    if how.layout == "row":
        x = scatter_to(x, how.group, "dense2")
    return row_dense(x, weights["dense2/kernel"], weights["dense2/bias"], how.group, "dense2")


_BLOCKS = {"conv1": _conv1, "bn1": _bn("bn1"), "conv2": _conv2, "bn2": _bn("bn2"),
           "dense1": _dense1, "dense2": _dense2}


def _cast(weights: Weights, block: str, kind: tf.DType) -> tuple[tf.Tensor, tf.Tensor]:
    """Kernel and bias of a block as ``kind``."""
    return tf.cast(weights[f"{block}/kernel"], kind), tf.cast(weights[f"{block}/bias"], kind)
