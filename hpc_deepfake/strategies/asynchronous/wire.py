"""The weights as two flat vectors, the servers' pieces of them, and their form in messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from hpc_deepfake.strategies import compression


class Wire:
    """Two vectors: the large dense kernel, cut into a piece for each server, and the rest, which is
    small. The first server holds the rest and a shorter piece of the kernel.

    A gradient is sent as pieces of the kernel, each to its server, with ``--compression fp16`` in
    16 bits; the rest, followed by the batch statistics, the sums and the scale of the 16 bits, goes
    to the first server.

    Attributes:
        trainable: the weights.
        large: index of the large kernel among them.
        small: the other ones.
        own: type of the weights.
        half: whether kernel gradients are sent in 16 bits.
        rest: length of the rest.
        bounds: where the pieces of the kernel begin, and its length.
    """

    def __init__(self, trainable: Sequence[tf.Variable], servers: int, compression: str) -> None:
        self.trainable = trainable
        self.large = max(range(len(trainable)), 
                         key=lambda index: trainable[index].shape.num_elements())
        self.small = [v for index, v in enumerate(trainable) if index != self.large]
        self.own = trainable[0].dtype
        self.half = compression == "fp16"
        kernel = trainable[self.large].shape.num_elements()
        self.rest = sum(v.shape.num_elements() for v in self.small)
        each = (kernel + self.rest) / servers
        ends = [round(each * (place + 1) - self.rest) for place in range(servers)]
        self.bounds = [0, *ends[:-1], kernel]

    def piece(self, place: int) -> slice:
        """The piece of the flat kernel that server ``place`` holds."""
        return slice(self.bounds[place], self.bounds[place + 1])

    @property
    def kernel_type(self) -> np.dtype[Any]:
        """Type in which the kernel of a gradient is sent."""
        return np.dtype(np.float16 if self.half else self.own.as_numpy_dtype)

    def flat(self, values: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Kernel and rest as vectors, from tensors in the order of ``trainable``."""
        rest = [tf.reshape(v, [-1]) for index, v in enumerate(values) if index != self.large]
        return tf.reshape(values[self.large], [-1]), tf.concat(rest, 0)

    def shaped(self, kernel: tf.Tensor, rest: tf.Tensor) -> list[tf.Tensor]:
        """The inverse of ``flat``."""
        pieces = tf.split(rest, [v.shape.num_elements() for v in self.small])
        shaped = [tf.reshape(piece, v.shape) for piece, v in zip(pieces, self.small, strict=True)]
        shaped.insert(self.large, tf.reshape(kernel, self.trainable[self.large].shape))
        return shaped

    def pack(self, kernel: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The kernel of a gradient as it is sent, and its scale, a power of two."""
        if not self.half:
            return kernel, tf.ones((), self.own)
        scale = compression.scale(compression.largest(kernel))
        return compression.to_half(kernel, scale), tf.cast(scale, self.own)

    def unpack(self, kernel: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        """The inverse of ``pack``."""
        return compression.from_half(kernel, scale, self.own) if self.half else kernel


def bits(values: np.ndarray) -> np.ndarray:
    """A view for MPI, which does not support 16-bit floats: as integers."""
    return values.view(np.uint16) if values.itemsize == 2 else values
