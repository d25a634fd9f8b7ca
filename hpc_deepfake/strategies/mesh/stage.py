"""The computation of one stage of a mesh: graphs over this rank's shards of the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from hpc_deepfake.network.batchnorm import Statistics, by_moving, normaliser, update_moving
from hpc_deepfake.network.optimizer import Optimizer
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.strategies import clipping
from hpc_deepfake.strategies.layout import Layout
from hpc_deepfake.strategies.mesh import layers
from hpc_deepfake.strategies.mesh.regions import Group
from hpc_deepfake.strategies.mesh.shape import Place, Shape
from hpc_deepfake.strategies.mesh.shards import output_shape
from hpc_deepfake.strategies.meter import clock
from preprocessing.ela import SIZE

LARGE = 1 << 20  # elements from which a gradient is reduced by itself


class Local(NamedTuple):
    """This rank's contribution to the sums of a step.

    Attributes:
        gradients: of its weights.
        batch: batch statistics, weighted by rows.
    """

    gradients: list[tf.Tensor]
    batch: list[tf.Tensor]


class Stage:
    """Consecutive blocks of the network on this rank, which has one shard of each weight.

    Attributes:
        blocks: their names.
        first: whether this stage takes the pictures.
        last: whether this stage takes the labels.
        received: shape and type of the input from the previous stage in training.
        evaluated: the same in evaluation.
        sent_shape: shape of the output to the next stage in training, for one picture.
        sent_type: its type.
        tensor: ranks that share the layers.
        data: ranks that hold the same weights.
        batch: the same ranks, for the statistics of each micro-batch.
        forward: a graph, ``_forward``.
        evaluate: a graph, ``_evaluate``.
        reduced: a graph, ``_reduce``.
        finish: a graph, ``_reduce_and_update``.
        squares: a graph, ``_squares``.
        update: a graph, ``_update``.
    """

    def __init__(self, stages: Sequence[tuple[str, ...]], shape: Shape, place: Place,
                 weights: Mapping[str, tf.Variable], optimizer: Optimizer, settings: Settings,
                 layout: Layout, cut: Sequence[bool]) -> None:
        """
        Args:
            stages: blocks of all stages.
            shape: of the mesh.
            place: of this rank.
            weights: this rank's shards, by the names of ``shards.parameters``.
            optimizer: updates them.
            settings: what the run computes.
            layout: how the ranks share the work.
            cut: for each trained weight, whether this rank has only a shard of it.
        """
        self._cut = cut
        self._shape, self._place, self._weights = shape, place, weights
        self._optimizer, self._settings = optimizer, settings
        self._tensor_layout = layout.tensor_layout
        self.blocks = stages[place.stage]
        self.first, self.last = place.stage == 0, place.stage == len(stages) - 1
        self._own = tf.float64 if settings.precision == "float64" else tf.float32
        self._compute = tf.bfloat16 if settings.precision == "bfloat16" else self._own
        self.tensor = Group(shape.tensor_group(place), place.tensor)
        self.data = Group(shape.data_group(place), place.data)
        self.batch = Group(shape.data_group(place), place.data)
        previous = None if self.first else stages[place.stage - 1][-1]
        self.received, self.evaluated = (self._input(previous, kind)
                                         for kind in (self._compute, self._own))
        self.sent_shape = output_shape(self.blocks[-1], self._tensor_layout, place.tensor,
                                       shape.tensor)
        self.sent_type = self._own if self.blocks[-1] == "dense1" else self._compute
        self.forward = tf.function(self._forward, autograph=False, input_signature=(
            self.received, tf.TensorSpec((None,), tf.uint8), tf.TensorSpec((2,), tf.int32),
            tf.TensorSpec((), tf.int64), tf.TensorSpec((), tf.bool)))
        self.evaluate = tf.function(self._evaluate, autograph=False,
                                    input_signature=(self.evaluated,))
        self.reduced = tf.function(self._reduce, autograph=False)
        self.finish = tf.function(self._reduce_and_update, autograph=False)
        self.squares = tf.function(self._squares, autograph=False)
        self.update = tf.function(self._update, autograph=False)

    def _input(self, previous: str | None, compute: tf.DType) -> tf.TensorSpec:
        """Of the pictures, or of the output of the previous block."""
        if previous is None:
            return tf.TensorSpec((None, SIZE, SIZE, 3), tf.uint8)
        shape = output_shape(previous, self._tensor_layout, self._place.tensor, self._shape.tensor)
        return tf.TensorSpec((None, *shape), self._own if previous == "dense1" else compute)

    def _forward(self, x: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, rows: tf.Tensor,
                     present: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]:
        """Forward pass of a micro-batch.

        Returns:
            The output to the next stage, or the loss divided by ``rows``; this batch's part of the
            step's batch statistics; sums of losses and of correct classifications.
        """
        own = self._own
        present, rows = tf.cast(present, own), tf.cast(rows, own)

        normalise = normaliser(own, self._settings.sync_bn, present, self.batch.allreduce)
        how = layers.Pass(self.tensor, self._tensor_layout, own, self._compute, normalise,
                          self._settings.dropout, seed)
        y, statistics = layers.stage(self.blocks, x, self._weights, how)
        share = present * tf.cast(tf.size(labels), own) / rows
        batch = [value * share for pair in statistics for value in pair]
        if not self.last:
            return y, batch, tf.zeros((2,), own)
        labels = tf.cast(labels, tf.int32)
        loss = present * tf.reduce_sum(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels, y))
        right = tf.cast(tf.equal(tf.argmax(y, 1, tf.int32), labels), own)
        return loss / rows, batch, tf.stop_gradient(
            tf.stack([loss, present * tf.reduce_sum(right)]))

    def _reduce(self, gradients: list[tf.Tensor], batch: list[tf.Tensor]) -> Local:
        """Sum over the ranks that hold the same weights: a large kernel by itself, the rest as one
        flat tensor."""
        values = [*gradients, *batch]
        large = [value.shape.num_elements() >= LARGE for value in values]
        rest = [value for value, alone in zip(values, large, strict=True) if not alone]
        flat = self.data.allreduce(
            tf.concat([tf.reshape(value, [-1]) for value in rest], 0), "rest")
        pieces = iter(tf.split(flat, [value.shape.num_elements() for value in rest]))
        values = [self.data.allreduce(value, "dense_kernel") if alone
                  else tf.reshape(next(pieces), value.shape)
                  for value, alone in zip(values, large, strict=True)]
        return Local(values[:len(gradients)], values[len(gradients):])

    def _reduce_and_update(self, gradients: list[tf.Tensor], batch: list[tf.Tensor],
                           step: tf.Tensor) -> tf.Tensor:
        """Reduce and update; returns the seconds of the reduction (NaN on a GPU)."""
        on_cpu = next(iter(self._weights.values())).device.endswith("CPU:0")
        computed = clock(gradients, on_cpu)
        reduced = self._reduce(gradients, batch)
        seconds = clock([*reduced.gradients, *reduced.batch], on_cpu) - computed
        self._apply(reduced.gradients, reduced.batch, step)
        return seconds

    def _apply(self, gradients: list[tf.Tensor], batch: list[tf.Tensor], step: tf.Tensor) -> None:
        self._optimizer.apply(gradients, step)
        moving = [value for pair in self._statistics().values() for value in pair]
        update_moving(moving, batch, step + 1)

    def _squares(self, gradients: list[tf.Tensor]) -> tf.Tensor:
        """This rank's part of the sum of squares of the whole reduced gradient: of weights that
        every rank of the tensor group has whole, only the first rank counts them."""
        return clipping.squares([gradient for gradient, cut in zip(
            gradients, self._cut, strict=True) if cut or self._place.tensor == 0])

    def _update(self, gradients: list[tf.Tensor], batch: list[tf.Tensor], step: tf.Tensor,
                squares: tf.Tensor) -> None:
        """Update with reduced gradients, clipped by the sum of squares of the whole gradient."""
        self._apply(clipping.clipped(gradients, squares, self._settings.clip_norm), batch, step)

    def _evaluate(self, x: tf.Tensor) -> tf.Tensor:
        """The output to the next stage, or the probabilities of authentic and tampered."""
        group = Group(self._shape.tensor_group(self._place), self._place.tensor, "evaluate_")
        how = layers.Pass(group, self._tensor_layout, self._own, self._own,
                          by_moving(self._statistics()))
        y, _ = layers.stage(self.blocks, x, self._weights, how)
        return tf.nn.softmax(y) if self.last else y

    def _statistics(self) -> dict[str, Statistics]:
        """Moving statistics of this stage's batch normalisations."""
        return {block: Statistics(self._weights[f"{block}/mean"],
                                  self._weights[f"{block}/variance"])
                for block in self.blocks if block.startswith("bn")}
