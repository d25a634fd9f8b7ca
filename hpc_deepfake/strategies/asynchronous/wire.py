"""The weights as two flat vectors, cut into the parameter servers' pieces, and their messages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from hpc_deepfake.strategies.traffic import FP16_SCALE


class Wire:
    """The large dense kernel by itself, cut into a piece for each server, and everything else in
    one small vector, the rest, which the first server holds beside a shorter piece.

    A gradient travels as its kernel pieces, each straight to its server, in 16 bits if asked for,
    and the rest, followed by the batch statistics and the sums, to the first server.
    """

    def __init__(self, trainable: Sequence[tf.Variable], servers: int, compression: str) -> None:
        self.trainable = trainable
        self.large = max(range(len(trainable)), key=lambda i: trainable[i].shape.num_elements())
        self.small = [v for i, v in enumerate(trainable) if i != self.large]
        self.own = trainable[0].dtype
        self.half = compression == "fp16"
        kernel = trainable[self.large].shape.num_elements()
        self.rest = sum(v.shape.num_elements() for v in self.small)
        each = (kernel + self.rest) / servers
        ends = [round(each * (place + 1) - self.rest) for place in range(servers)]
        self.bounds = [0, *ends[:-1], kernel]

    def piece(self, place: int) -> slice:
        """Of the flat kernel, that server's."""
        return slice(self.bounds[place], self.bounds[place + 1])

    @property
    def kernel_type(self) -> np.dtype:
        """In which the pieces of a gradient travel."""
        return np.dtype(np.float16 if self.half else self.own.as_numpy_dtype)

    def flat(self, values: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Kernel and rest of tensors in the order of the trainable variables."""
        rest = [tf.reshape(v, [-1]) for i, v in enumerate(values) if i != self.large]
        return tf.reshape(values[self.large], [-1]), tf.concat(rest, 0)

    def shaped(self, kernel: tf.Tensor, rest: tf.Tensor) -> list[tf.Tensor]:
        """What ``flat`` was made from."""
        pieces = tf.split(rest, [v.shape.num_elements() for v in self.small])
        shaped = [tf.reshape(one, v.shape) for one, v in zip(pieces, self.small, strict=True)]
        shaped.insert(self.large, tf.reshape(kernel, self.trainable[self.large].shape))
        return shaped

    def pack(self, kernel: tf.Tensor) -> tf.Tensor:
        """A gradient's kernel as it travels."""
        return tf.cast(kernel * FP16_SCALE, tf.float16) if self.half else kernel

    def unpack(self, kernel: tf.Tensor) -> tf.Tensor:
        """As it was before ``pack``."""
        return tf.cast(kernel, self.own) / FP16_SCALE if self.half else kernel


def bits(values: np.ndarray) -> np.ndarray:
    """For MPI, which knows no 16-bit floats: as integers."""
    return values.view(np.uint16) if values.itemsize == 2 else values
