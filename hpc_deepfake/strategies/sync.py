"""Synchronous data parallel training: Horovod's ring-allreduce (Sergeev & Del Balso 2018)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import horovod.tensorflow as hvd
import tensorflow as tf
from horovod.tensorflow.mpi_ops import _allreduce

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network.base import Network
from hpc_deepfake.strategies import compression, traffic
from hpc_deepfake.strategies.sequential import Parts, Sequential

if TYPE_CHECKING:
    import keras


class Sync(Sequential):
    """A reduction for each bucket of gradients as soon as they are computed, and one of the rest.

    The table network has one bucket, the large dense kernel. The rest, with batch statistics, sums
    and requests, is one flat tensor. With ``--compression fp16`` a bucket's reduction is an
    all-to-all, an addition, and an all-gather.
    """

    name = "sync"

    def _take(self, model: keras.Model) -> Network:
        network = super()._take(model)
        if self.settings.compression == "fp16" and len(network.buckets) < 2:
            raise InputError("--compression fp16 has nothing to do: the gradient of what is "
                             "trained is so small that it is reduced with the sums; leave it out",
                             everywhere=True)
        return network

    def broadcast(self) -> None:
        hvd.broadcast_variables([*self.variables, *self.slots], root_rank=0)

    def _reduce(self, parts: Parts) -> Parts:
        gradients = list(parts.gradients)
        *early, last = self.weights.buckets
        for number, places in enumerate(early):
            name = "dense_kernel" if self.weights.large is not None and number == 0 \
                else f"bucket{number}"
            for place, total in zip(places, self._reduce_bucket(
                    [gradients[place] for place in places], name), strict=True):
                gradients[place] = total
        others = [*parts.batch, *parts.sums]
        rest = self._reduce_flat([*(gradients[place] for place in last), *others], "rest",
                                 self._allreduce)
        for place in last:
            gradients[place] = rest.pop(0)
        statistics = len(parts.batch)
        return Parts(gradients, rest[:statistics], rest[statistics:])

    def _reduce_bucket(self, gradients: list[tf.Tensor], name: str) -> list[tf.Tensor]:
        """Sums over the ranks of a bucket of gradients; one alone isn't copied."""
        if len(gradients) == 1:
            return [self._reduce_kernel(gradients[0], name)]
        return self._reduce_flat(gradients, name, self._reduce_kernel)

    @staticmethod
    def _reduce_flat(values: list[tf.Tensor], name: str,
                     reduce: Callable[[tf.Tensor, str], tf.Tensor]) -> list[tf.Tensor]:
        """Sums over the ranks of several tensors, as one flat tensor."""
        flat = reduce(tf.concat([tf.reshape(value, [-1]) for value in values], 0), name)
        pieces = tf.split(flat, [value.shape.num_elements() for value in values])
        return [tf.reshape(piece, value.shape)
                for piece, value in zip(pieces, values, strict=True)]

    def _reduce_kernel(self, gradient: tf.Tensor, name: str) -> tf.Tensor:
        """Sum over the ranks of a large gradient."""
        if self.settings.compression == "fp16":
            return self._reduce_as_half(gradient, name)
        return self._allreduce(gradient, name)

    def _reduce_as_half(self, gradient: tf.Tensor, name: str) -> tf.Tensor:
        """The sum over the ranks in the bytes of a ring: each rank receives one piece of all
        gradients, and sends its sum to all. So each number is rounded twice, however many ranks
        there are."""
        ranks, own = hvd.size(), hvd.rank()
        numbers = gradient.shape.num_elements()
        pieces = [numbers * (rank + 1) // ranks - numbers * rank // ranks for rank in range(ranks)]
        scale = compression.scale(self._allreduce(compression.largest(gradient), f"{name}_bound"))
        half = compression.to_half(tf.reshape(gradient, [-1]), scale)
        received, _ = hvd.alltoall(tf.bitcast(half, tf.uint16), pieces, name, True)
        self._meter.sends("alltoall", (numbers - pieces[own]) * half.dtype.size)
        halves = tf.reshape(tf.bitcast(received, tf.float16), (ranks, pieces[own]))
        total = compression.add_halves(halves, gradient.dtype)
        every = hvd.allgather(tf.bitcast(total, tf.uint16), f"{name}_sums", True)
        self._meter.sends("allgather", (ranks - 1) * pieces[own] * half.dtype.size)
        every = tf.bitcast(tf.reshape(every, gradient.shape), tf.float16)
        return compression.from_half(every, scale, gradient.dtype)

    def _allreduce(self, value: tf.Tensor, name: str) -> tf.Tensor:
        return self._sum(value, name, hvd.global_process_set)

    def _sum(self, value: tf.Tensor, name: str, ranks: hvd.ProcessSet) -> tf.Tensor:
        """Sum over a set of ranks."""
        size = value.shape.num_elements() * value.dtype.size
        self._meter.sends("allreduce", traffic.allreduce(size, ranks.size()))
        return _allreduce(value, name, hvd.Sum, ignore_name_scope=True, process_set=ranks)
