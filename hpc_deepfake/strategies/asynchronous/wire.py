"""The weights as two flat vectors, the servers' pieces of them, and their form in messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.strategies import compression


class Wire:
    """Two vectors: the large weights one after the other, such as the large dense kernel, cut into
    a piece for each server, and the rest, which is small. The first server holds the rest and a
    shorter piece.

    A gradient is sent as pieces of the large vector, each to its server, with ``--compression
    fp16`` in 16 bits; the rest, followed by the batch statistics, the sums and the scale of the 16
    bits, goes to the first server.

    Attributes:
        trainable: the weights.
        large: places of the large weights among them: as few of the largest as leave the first
            server no more than its share.
        small: the other weights.
        own: type of the weights.
        half: whether gradients of the large weights are sent in 16 bits.
        rest: length of the rest.
        bounds: where the pieces of the large vector begin, and its length.

    Raises:
        InputError: there are more servers than pieces.
    """

    def __init__(self, trainable: Sequence[tf.Variable], servers: int, compression: str) -> None:
        self.trainable = trainable
        sizes = [variable.shape.num_elements() for variable in trainable]
        each = sum(sizes) / servers
        by_size = sorted(range(len(sizes)), key=lambda place: -sizes[place])
        count = next((count for count in range(1, len(sizes))
                      if sum(sizes[place] for place in by_size[count:]) <= each), 0)
        if not count or each < 1:
            raise InputError(f"{sum(sizes):,} weights of the network can't be cut into pieces for "
                             f"{servers} servers: use fewer --servers", everywhere=True)
        self.large = sorted(by_size[:count])
        self.small = [trainable[place] for place in sorted(by_size[count:])]
        self.own = trainable[0].dtype
        self.half = compression == "fp16"
        self.rest = sum(sizes[place] for place in by_size[count:])
        ends = [round(each * (place + 1) - self.rest) for place in range(servers)]
        self.bounds = [0, *ends[:-1], sum(sizes) - self.rest]

    def piece(self, place: int) -> slice:
        """The piece of the flat kernel that server ``place`` holds."""
        return slice(self.bounds[place], self.bounds[place + 1])

    @property
    def kernel_type(self) -> np.dtype[Any]:
        """Type in which the kernel of a gradient is sent."""
        return np.dtype(np.float16 if self.half else self.own.as_numpy_dtype)

    def flat(self, values: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """The large weights and the rest as vectors, from tensors in the order of ``trainable``."""
        large, rest = ([tf.reshape(value, [-1]) for place, value in enumerate(values)
                        if (place in self.large) == chosen] for chosen in (True, False))
        return large[0] if len(large) == 1 else tf.concat(large, 0), tf.concat(rest, 0)

    def shaped(self, kernel: tf.Tensor, rest: tf.Tensor) -> list[tf.Tensor]:
        """The inverse of ``flat``."""
        variables = self.trainable
        large = iter([kernel] if len(self.large) == 1 else tf.split(kernel, [
            variables[place].shape.num_elements() for place in self.large]))
        small = iter(tf.split(rest, [v.shape.num_elements() for v in self.small]))
        return [tf.reshape(next(large if place in self.large else small), variable.shape)
                for place, variable in enumerate(variables)]

    def pack(self, kernel: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The kernel of a gradient as it is sent, and its scale, a power of two."""
        if not self.half:
            return kernel, tf.ones((), self.own)
        scale = compression.scale(compression.largest(kernel))
        return compression.to_half(kernel, scale), tf.cast(scale, self.own)

    def unpack(self, kernel: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        """The inverse of ``pack``."""
        return compression.from_half(kernel, scale, self.own) if self.half else kernel
