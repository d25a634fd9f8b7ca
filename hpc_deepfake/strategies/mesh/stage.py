"""The computation of one stage of a mesh: graphs over this rank's part of the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from hpc_deepfake.network.batchnorm import rows_of, update_moving
from hpc_deepfake.network.loss import ClassWeights, classes, losses
from hpc_deepfake.network.optimizer import Optimizer
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.strategies import clipping, meter
from hpc_deepfake.strategies.mesh.part import Groups, Part

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
    """One stage on this rank: its part of the network, the loss at the end, reductions, the update.

    Attributes:
        first: whether this stage takes the pictures.
        last: whether this stage takes the labels.
        forward: a graph, ``_forward``.
        evaluate: a graph, ``Part.evaluate``.
        reduced: a graph, ``_reduce``.
        finish: a graph, ``_reduce_and_update``.
        squares: a graph, ``_squares``.
        update: a graph, ``_update``.
        class_weights: as of ``Strategy``.
    """

    class_weights: ClassWeights | None = None

    def __init__(self, part: Part, groups: Groups, first: bool, last: bool, optimizer: Optimizer,
                 settings: Settings, counted: Sequence[bool]) -> None:
        """
        Args:
            part: what this rank holds.
            groups: the ranks that it works with.
            first: whether this stage takes the pictures.
            last: whether this stage takes the labels.
            optimizer: updates this rank's weights.
            settings: what the run computes.
            counted: for each trained weight, whether this rank counts its squares for the norm of
                the whole gradient: of those that every rank of the tensor group has whole, only the
                first does.
        """
        self._part, self._data, self._counted = part, groups.data, counted
        self._optimizer, self._settings = optimizer, settings
        self.first, self.last = first, last
        self._own = tf.float64 if settings.precision == "float64" else tf.float32
        self.forward = tf.function(self._forward, autograph=False, input_signature=(
            part.received, tf.TensorSpec((None,), tf.float32), tf.TensorSpec((2,), tf.int32),
            tf.TensorSpec((), tf.int64), tf.TensorSpec((), tf.bool)))
        self.evaluate = tf.function(part.evaluate, autograph=False,
                                    input_signature=(part.evaluated,))
        self.reduced = tf.function(self._reduce, autograph=False)
        self.finish = tf.function(self._reduce_and_update, autograph=False)
        self.squares = tf.function(self._squares, autograph=False)
        self.update = tf.function(self._update, autograph=False)

    def _forward(self, x: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, rows: tf.Tensor,
                 present: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor,
                                              tf.Tensor | None]:
        """Forward pass of a micro-batch.

        Returns:
            The output to the next stage, or the loss divided by ``rows``, with this stage's
            penalty; this batch's part of the step's batch statistics; sums of losses and of correct
            classifications; this batch's part of the step's penalty, None in the last stage and
            where there is none.
        """
        own = self._own
        present, rows = tf.cast(present, own), tf.cast(rows, own)
        out = self._part.train(x, seed, present)
        share = present * rows_of(labels, own) / rows
        batch = [value * share for value in out.statistics]
        penalty = None if out.penalty is None else share * out.penalty
        if not self.last:
            return out.y, batch, tf.zeros((2,), own), penalty
        if not self._settings.soft_labels:
            labels = tf.cast(labels, tf.int64)
        loss = present * tf.reduce_sum(losses(out.y, labels, self._settings, self.class_weights))
        right = tf.cast(tf.equal(tf.argmax(out.y, 1), classes(labels)), own)
        mean = loss / rows if penalty is None else loss / rows + penalty
        return mean, batch, tf.stop_gradient(
            tf.stack([loss, present * tf.reduce_sum(right)])), None

    def _reduce(self, gradients: list[tf.Tensor], batch: list[tf.Tensor]) -> Local:
        """Sum over the ranks that hold the same weights: large kernels by themselves, the rest as
        one flat tensor."""
        values = [*gradients, *batch]
        large = [place for place, value in enumerate(values)
                 if value.shape.num_elements() >= LARGE]
        rest = [place for place in range(len(values)) if place not in large]
        if rest:
            flat = self._data.allreduce(
                tf.concat([tf.reshape(values[place], [-1]) for place in rest], 0), "rest")
            sizes = [values[place].shape.num_elements() for place in rest]
            for place, piece in zip(rest, tf.split(flat, sizes), strict=True):
                values[place] = tf.reshape(piece, values[place].shape)
        for place in large:
            name = "dense_kernel" if place == large[0] else f"large{place}"
            values[place] = self._data.allreduce(values[place], name)
        return Local(values[:len(gradients)], values[len(gradients):])

    def _reduce_and_update(self, gradients: list[tf.Tensor], batch: list[tf.Tensor],
                           step: tf.Tensor) -> tf.Tensor:
        """Reduce and update; returns the seconds of the reduction (NaN on a GPU)."""
        cpu = meter.on_cpu(next(iter(self._part.weights.values()), step))
        computed = meter.clock(gradients, cpu)
        reduced = self._reduce(gradients, batch)
        reduction = meter.clock([*reduced.gradients, *reduced.batch], cpu)
        with tf.device("CPU:0"):
            seconds = reduction - computed
        self._apply(reduced.gradients, reduced.batch, step)
        return seconds

    def _apply(self, gradients: list[tf.Tensor], batch: list[tf.Tensor], step: tf.Tensor) -> None:
        if gradients:
            self._optimizer.apply(gradients, step)
        update_moving(self._part.moving, batch, step + 1, self._part.momenta)

    def _squares(self, gradients: list[tf.Tensor]) -> tf.Tensor:
        """This rank's part of the sum of squares of the whole reduced gradient."""
        return clipping.squares([gradient for gradient, counts in zip(
            gradients, self._counted, strict=True) if counts])

    def _update(self, gradients: list[tf.Tensor], batch: list[tf.Tensor], step: tf.Tensor,
                squares: tf.Tensor) -> None:
        """Update with reduced gradients, clipped by the sum of squares of the whole gradient."""
        self._apply(clipping.clipped(gradients, squares, self._settings.clip_norm), batch, step)
