"""What one graph of a step sends to other ranks, and how long it waits for them."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

KINDS = ("allreduce", "alltoall", "allgather")


class Meter:
    """Noted while the graph is built, summed up when it runs; seconds are NaN on a GPU, whose work
    is only queued when the graph gets there."""

    def __init__(self, cpu: bool) -> None:
        self._cpu = cpu
        self._sent: dict[str, list[tf.Tensor | float]] = {kind: [] for kind in KINDS}
        self._waited: list[tf.Tensor] = []

    def sends(self, kind: str, size: tf.Tensor | float) -> None:
        """``size`` bytes, of this rank."""
        self._sent[kind].append(size)

    def waits(self, after: Sequence[tf.Tensor], until: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """From when the one tensors are there to when the others are, if those come later.

        Returns:
            The others, for what is to be computed from them after the clock was read.
        """
        if not self._cpu:
            self._waited.append(tf.constant(float("nan"), tf.float64))
            return list(until)
        begin, end = clock(after), clock(until)  # TensorFlow keeps their order
        self._waited.append(tf.maximum(end - begin, 0))
        with tf.control_dependencies([end]):
            return [tf.identity(one) for one in until]

    def total(self) -> tf.Tensor:
        """float64 (1 + kinds): seconds waited, bytes sent of each kind."""
        zero = tf.zeros((), tf.float64)
        return tf.stack([sum(self._waited, zero), *(
            sum((tf.cast(size, tf.float64) for size in sizes), zero)
            for sizes in self._sent.values())])


def clock(after: Sequence[tf.Tensor], cpu: bool = True) -> tf.Tensor:
    """Seconds, once the tensors are there; NaN on a GPU, whose work is only queued then."""
    if not cpu:
        return tf.constant(float("nan"), tf.float64)
    with tf.control_dependencies(after):
        return tf.timestamp()
