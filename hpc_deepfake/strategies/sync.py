"""Synchronous data parallel training: Horovod's ring-allreduce (Sergeev & Del Balso 2018)."""

from __future__ import annotations

import horovod.tensorflow as hvd
import tensorflow as tf
from horovod.tensorflow.mpi_ops import _allreduce

from hpc_deepfake.strategies import compression, traffic
from hpc_deepfake.strategies.sequential import Parts, Sequential


class Sync(Sequential):
    """Two reductions per step: the large dense kernel's gradient as soon as it is computed, and the
    rest.

    The rest, with batch statistics, sums and requests, is one flat tensor. With ``--compression
    fp16`` the kernel's reduction is an all-to-all, an addition, and an all-gather.
    """

    name = "sync"

    def broadcast(self) -> None:
        hvd.broadcast_variables([*self.variables, *self.slots], root_rank=0)

    def _reduce(self, parts: Parts) -> Parts:
        values = [value for part in parts for value in part]
        large = next(place for place, variable in enumerate(self.weights.trainable)
                     if variable is self.weights.dense1[0])
        kernel = self._reduce_kernel(values[large])
        rest = values[:large] + values[large + 1:]
        flat = self._allreduce(tf.concat([tf.reshape(value, [-1]) for value in rest], 0), "rest")
        pieces = tf.split(flat, [value.shape.num_elements() for value in rest])
        rest = [tf.reshape(piece, value.shape)
                for piece, value in zip(pieces, rest, strict=True)]
        whole = iter([*rest[:large], kernel, *rest[large:]])
        return Parts(*([next(whole) for _ in part] for part in parts))

    def _reduce_kernel(self, gradient: tf.Tensor) -> tf.Tensor:
        """Sum over the ranks of the large kernel's gradient."""
        if self.settings.compression == "fp16":
            return self._reduce_as_half(gradient)
        return self._allreduce(gradient, "dense_kernel")

    def _reduce_as_half(self, gradient: tf.Tensor) -> tf.Tensor:
        """The sum over the ranks in the bytes of a ring: each rank receives one piece of all
        gradients, and sends its sum to all. So each number is rounded twice, however many ranks
        there are."""
        ranks, own = hvd.size(), hvd.rank()
        numbers = gradient.shape.num_elements()
        pieces = [numbers * (rank + 1) // ranks - numbers * rank // ranks for rank in range(ranks)]
        scale = compression.scale(self._allreduce(compression.largest(gradient), "kernel_bound"))
        half = compression.to_half(tf.reshape(gradient, [-1]), scale)
        received, _ = hvd.alltoall(tf.bitcast(half, tf.uint16), pieces, "dense_kernel", True)
        self._meter.sends("alltoall", (numbers - pieces[own]) * half.dtype.size)
        halves = tf.reshape(tf.bitcast(received, tf.float16), (ranks, pieces[own]))
        total = compression.add_halves(halves, gradient.dtype)
        every = hvd.allgather(tf.bitcast(total, tf.uint16), "kernel_sums", True)
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
