"""Synchronous data parallel training: Horovod's ring-allreduce (Sergeev & Del Balso 2018)."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import horovod.tensorflow as hvd
import tensorflow as tf
from horovod.tensorflow.mpi_ops import _allreduce

from hpc_deepfake.strategies.sequential import Parts, Sequential

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

# float16 ends at 6e-8 below and 65,504 above; gradients of the large kernel lie well under 1
_FP16_SCALE = 1024.0


def start_horovod(comm: Comm, gpu: bool, stall_warning: float, stall_limit: float) -> None:
    """Start Horovod on MPI's world with settings for where it runs; collective.

    Without fusion the reductions' layout, and with it the order of summation, doesn't depend on
    timing. On CPU ranks Horovod's thread shares the cores with the computation: it is woken every
    few milliseconds instead of every one. What the environment says wins. Horovod names ranks
    that are missing in a reduction after ``stall_warning`` seconds and fails after ``stall_limit``.
    """
    os.environ.setdefault("HOROVOD_FUSION_THRESHOLD", "0")
    if not gpu:
        os.environ.setdefault("HOROVOD_CYCLE_TIME", "2")
    os.environ.setdefault("HOROVOD_STALL_CHECK_TIME_SECONDS", str(math.ceil(stall_warning)))
    if stall_limit:
        os.environ.setdefault("HOROVOD_STALL_SHUTDOWN_TIME_SECONDS",
                              str(math.ceil(max(stall_limit, stall_warning + 1))))
    if not stall_warning:
        os.environ.setdefault("HOROVOD_STALL_CHECK_DISABLE", "1")
    hvd.init()
    if (hvd.size(), hvd.rank()) != (comm.size, comm.rank):
        raise RuntimeError(f"Horovod sees rank {hvd.rank()} of {hvd.size()}, MPI rank {comm.rank} "
                           f"of {comm.size}: Horovod was built for another MPI; run env/setup.sh")


class Sync(Sequential):
    """Two reductions a step: the large dense kernel as soon as backward has it, and the rest.

    The rest, with batch statistics, sums and the stop flag, travels as one flat tensor.
    """

    name = "sync"

    def broadcast(self) -> None:
        hvd.broadcast_variables([*self.variables, *self.slots], root_rank=0)

    def _reduce(self, parts: Parts) -> Parts:
        values = [value for part in parts for value in part]
        large = max(range(len(values)), key=lambda i: values[i].shape.num_elements())
        kernel = self._reduce_kernel(values[large])
        rest = values[:large] + values[large + 1:]
        flat = self._allreduce(tf.concat([tf.reshape(value, [-1]) for value in rest], 0), "rest")
        pieces = tf.split(flat, [value.shape.num_elements() for value in rest])
        rest = [tf.reshape(piece, value.shape)
                for piece, value in zip(pieces, rest, strict=True)]
        whole = iter([*rest[:large], kernel, *rest[large:]])
        return Parts(*([next(whole) for _ in part] for part in parts))

    def _reduce_kernel(self, gradient: tf.Tensor) -> tf.Tensor:
        if self.settings.compression == "fp16":
            small = tf.cast(gradient * _FP16_SCALE, tf.float16)
            return tf.cast(self._allreduce(small, "dense_kernel"), gradient.dtype) / _FP16_SCALE
        return self._allreduce(gradient, "dense_kernel")

    def _allreduce(self, value: tf.Tensor, name: str) -> tf.Tensor:
        return _allreduce(value, name, hvd.Sum, ignore_name_scope=True)
