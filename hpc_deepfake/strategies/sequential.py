"""Training on one rank; what the data-parallel strategies have in common."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from hpc_deepfake.network import Weights, forward, update_moving
from hpc_deepfake.optimizer import Adam
from preprocessing.ela import SIZE

_PICTURES = tf.TensorSpec((None, SIZE, SIZE, 3), tf.uint8)
_LABELS = tf.TensorSpec((None,), tf.uint8)
_COUNT = tf.TensorSpec((), tf.int64)
_SEED = tf.TensorSpec((2,), tf.int32)


class Sequential:
    """One rank has all rows of a batch; ``_reduce`` makes it data parallel.

    Gradients are those of the sum of the rows' cross-entropies over the number of rows in the
    global batch, so that ranks may have any number of them.
    """

    name = "sequential"

    def __init__(self, model: keras.Model, rate: float, decay: float, dropout: float) -> None:
        self.model = model
        self.weights = Weights(model)
        self.optimizer = Adam(self.weights.trainable, rate, decay)
        self.dropout = dropout

    def step(self, pictures: np.ndarray, labels: np.ndarray, rows: int, step: int,
             seed: Sequence[int]) -> tf.Tensor:
        """One optimizer step; collective.

        Args:
            pictures: this rank's share, uint8 (n, 128, 128, 3); n may be 0. labels: uint8 (n).
            rows: in the global batch. step: from 0. seed: two int32, of the dropout mask.

        Returns:
            float64 (3): over the global batch the sum of the losses and the number of right
            answers, and the seconds this rank waited for the reduction.
        """
        rows, step = tf.constant(rows, tf.int64), tf.constant(step, tf.int64)
        if len(labels) == 0:
            return self._step_without_rows(step)
        return self._step(tf.constant(pictures), tf.constant(labels), rows, step,
                          tf.constant(seed, tf.int32))

    def probabilities(self, pictures: np.ndarray) -> np.ndarray:
        """Of "tampered", float32 (n), for uint8 (n, 128, 128, 3); not collective."""
        return self._predict(tf.constant(pictures)).numpy()

    def broadcast(self) -> None:
        """Give all ranks rank 0's weights; collective."""

    def close(self) -> None:
        """Leave the other ranks in good order; collective, before MPI ends."""

    @tf.function(autograph=False, input_signature=(_PICTURES, _LABELS, _COUNT, _COUNT, _SEED))
    def _step(self, pictures: tf.Tensor, labels: tf.Tensor, rows: tf.Tensor, step: tf.Tensor,
              seed: tf.Tensor) -> tf.Tensor:
        labels = tf.cast(labels, tf.int32)
        with tf.GradientTape() as tape:
            logits, statistics = forward(self.weights, pictures, seed, self.dropout)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_sum(losses)
            mean = loss / tf.cast(rows, loss.dtype)
        gradients = tape.gradient(mean, self.weights.trainable)
        share = tf.cast(tf.size(labels) / tf.cast(rows, tf.int32), loss.dtype)
        batch = [value * share for pair in statistics for value in pair]
        right = tf.equal(tf.argmax(logits, 1, tf.int32), labels)
        sums = [loss, tf.reduce_sum(tf.cast(right, loss.dtype))]
        return self._finish(gradients, batch, sums, step)

    @tf.function(autograph=False, input_signature=(_COUNT,))
    def _step_without_rows(self, step: tf.Tensor) -> tf.Tensor:
        """A rank without rows contributes zeros to every sum."""
        kind = self.weights.trainable[0].dtype
        return self._finish([tf.zeros_like(v) for v in self.weights.trainable],
                            [tf.zeros_like(v) for v in self.weights.moving],
                            [tf.zeros((), kind), tf.zeros((), kind)], step)

    def _finish(self, gradients: list[tf.Tensor], batch: list[tf.Tensor], sums: list[tf.Tensor],
                step: tf.Tensor) -> tf.Tensor:
        computed = self._clock(gradients)
        gradients, batch, sums = self._reduce(gradients, batch, sums)
        reduced = self._clock(gradients)
        self.optimizer.apply(gradients, step)
        update_moving(self.weights.moving, batch, step + 1)
        return tf.stack([*(tf.cast(value, tf.float64) for value in sums), reduced - computed])

    def _clock(self, after: list[tf.Tensor]) -> tf.Tensor:
        """Seconds, once the tensors are there; NaN on a GPU, whose work is only queued then."""
        if self.weights.trainable[0].device.endswith("CPU:0"):
            with tf.control_dependencies(after):
                return tf.timestamp()
        return tf.constant(float("nan"), tf.float64)

    def _reduce(self, gradients: list[tf.Tensor], batch: list[tf.Tensor],
                sums: list[tf.Tensor]) -> tuple[list[tf.Tensor], list[tf.Tensor], list[tf.Tensor]]:
        """Sums over the ranks."""
        return gradients, batch, sums

    @tf.function(autograph=False, input_signature=(_PICTURES,))
    def _predict(self, pictures: tf.Tensor) -> tf.Tensor:
        return self.model(pictures, training=False)[:, 1]
