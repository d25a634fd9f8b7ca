"""What a step must know beside its rows, in the memory of the device that computes it.

A number that is passed to a GPU is copied to it, and TensorFlow's copies wait until the GPU has
done all that it was given before. So these numbers lie there, count themselves, and are written
only when they differ from what the host knows to be there: at the last step of an epoch, for a
wish.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

TO_HOST = "to_host"  # name of the operations that copy from the device


class Now(NamedTuple):
    """Of the step that a graph computes; float64 scalars, which hold all counts exactly.

    Attributes:
        rows: in all shares and micro-batches of the step.
        present: 1, or 0 if this rank has no rows in the micro-batch.
        step: its number, from 0.
        wishes: requests of this rank.
    """

    rows: tf.Tensor
    present: tf.Tensor
    step: tf.Tensor
    wishes: tf.Tensor


class Told:
    """Numbers that a graph tells the host: a variable in the host's memory. What a graph returns
    lies on its device, wherever it was computed."""

    def __init__(self, count: int) -> None:
        """
        Args:
            count: of the numbers, float64.
        """
        with tf.device("CPU:0"):
            self._variable = tf.Variable(np.zeros(count), trainable=False, dtype=tf.float64)

    def tell(self, numbers: tf.Tensor) -> None:
        """Within a graph: copy the numbers to the host."""
        with tf.device("CPU:0"):
            self._variable.assign(tf.identity(numbers, TO_HOST))

    def read(self) -> list[float]:
        """What the graph that was launched last told."""
        found: list[float] = self._variable.numpy().tolist()
        return found


class Facts:
    """The numbers of ``Now`` on the device, and what the host knows of them."""

    def __init__(self) -> None:
        self._known = np.zeros(len(Now._fields))
        self._variable = tf.Variable(self._known, trainable=False, dtype=tf.float64)

    def tell(self, **numbers: float) -> None:
        """Set some of ``Now``, by name."""
        told = self._known.copy()
        for name, number in numbers.items():
            told[Now._fields.index(name)] = number
        if (told != self._known).any():
            self._variable.assign(told)
            self._known = told

    def now(self) -> Now:
        """Within a graph, the numbers as tensors."""
        return Now(*tf.unstack(self._variable.read_value()))

    def count(self) -> None:
        """Within a graph: the next step follows. After each call of it the host calls
        ``counted``."""
        self._variable.assign_add([float(name == "step") for name in Now._fields])

    def counted(self) -> None:
        """The graph that counts was launched."""
        self._known[Now._fields.index("step")] += 1
