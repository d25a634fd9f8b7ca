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
    fp16`` one number is reduced before, which the scale depends on.
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
            scale = compression.scale(
                self._allreduce(compression.largest(gradient), "kernel_bound"))
            half = self._allreduce(compression.to_half(gradient, scale), "dense_kernel")
            return compression.from_half(half, scale, gradient.dtype)
        return self._allreduce(gradient, "dense_kernel")

    def _allreduce(self, value: tf.Tensor, name: str) -> tf.Tensor:
        return self._sum(value, name, hvd.global_process_set)

    def _sum(self, value: tf.Tensor, name: str, ranks: hvd.ProcessSet) -> tf.Tensor:
        """Sum over a set of ranks."""
        size = value.shape.num_elements() * value.dtype.size
        self._meter.sends("allreduce", traffic.allreduce(size, ranks.size()))
        return _allreduce(value, name, hvd.Sum, ignore_name_scope=True, process_set=ranks)
