"""Measures what a graph sends to other ranks, and how long it waits for them."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

KINDS = ("allreduce", "alltoall", "allgather")


class Meter:
    """Filled while a graph is built; ``total`` is a tensor of that graph.

    On a GPU the seconds are NaN: its work is only queued when the graph reads the clock.
    """

    def __init__(self, cpu: bool) -> None:
        self._cpu = cpu
        self._sent: dict[str, list[tf.Tensor | float]] = {kind: [] for kind in KINDS}
        self._waited: list[tf.Tensor] = []

    def sends(self, kind: str, size: tf.Tensor | float) -> None:
        """Note that this rank sends ``size`` bytes in a collective operation of a ``kind``."""
        self._sent[kind].append(size)

    def waits(self, after: Sequence[tf.Tensor], until: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Measure from the time when ``after`` are computed to the time when ``until`` are.

        Returns:
            ``until``, as tensors that are available only after the clock was read.
        """
        if not self._cpu:
            with tf.device("CPU:0"):
                self._waited.append(tf.constant(float("nan"), tf.float64))
            return list(until)
        begin, end = clock(after), clock(until)  # TensorFlow keeps their order
        self._waited.append(tf.maximum(end - begin, 0))
        with tf.control_dependencies([end]):
            return [tf.identity(tensor) for tensor in until]

    def total(self) -> tf.Tensor:
        """float64 (1 + kinds), on the host: seconds waited, and bytes sent of each kind. What it
        adds up is known there, so that nothing waits for a GPU."""
        with tf.device("CPU:0"):
            zero = tf.zeros((), tf.float64)
            return tf.stack([sum(self._waited, zero), *(
                sum((tf.cast(size, tf.float64) for size in sizes), zero)
                for sizes in self._sent.values())])


def on_cpu(variable: tf.Variable) -> bool:
    """Whether what computes with it runs on a CPU."""
    return bool(variable.device.endswith("CPU:0"))


def clock(after: Sequence[tf.Tensor], cpu: bool = True) -> tf.Tensor:
    """The time in seconds when the tensors are computed; NaN on a GPU."""
    if not cpu:
        with tf.device("CPU:0"):
            return tf.constant(float("nan"), tf.float64)
    with tf.control_dependencies(after):
        return tf.timestamp()
