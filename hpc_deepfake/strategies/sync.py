"""Synchronous data parallel training: Horovod's ring-allreduce (Sergeev & Del Balso 2018)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import horovod.tensorflow as hvd
import tensorflow as tf
from horovod.tensorflow.mpi_ops import _allreduce as allreduce

from hpc_deepfake.strategies.sequential import Sequential

if TYPE_CHECKING:
    from mpi4py.MPI import Comm


def start_horovod(comm: Comm, gpu: bool) -> None:
    """Start Horovod on MPI's world with settings for where it runs; collective.

    Without fusion the reductions' layout, and with it the order of summation, doesn't depend on
    timing. On CPU ranks Horovod's thread shares the cores with the computation: it is woken every
    few milliseconds instead of every one. What the environment says wins.
    """
    os.environ.setdefault("HOROVOD_FUSION_THRESHOLD", "0")
    if not gpu:
        os.environ.setdefault("HOROVOD_CYCLE_TIME", "2")
    os.environ.setdefault("HOROVOD_STALL_CHECK_TIME_SECONDS", "30")
    hvd.init()
    if (hvd.size(), hvd.rank()) != (comm.size, comm.rank):
        raise RuntimeError(f"Horovod sees rank {hvd.rank()} of {hvd.size()}, MPI rank {comm.rank} "
                           f"of {comm.size}: Horovod was built for another MPI; run env/setup.sh")


class Sync(Sequential):
    """Two reductions a step: the large dense kernel as soon as backward has it, and the rest."""

    name = "sync"

    def broadcast(self) -> None:
        hvd.broadcast_variables(self.weights.all, root_rank=0)

    def close(self) -> None:
        hvd.shutdown()

    def _reduce(self, gradients: list[tf.Tensor], batch: list[tf.Tensor],
                sums: list[tf.Tensor]) -> tuple[list[tf.Tensor], list[tf.Tensor], list[tf.Tensor]]:
        large = max(range(len(gradients)), key=lambda i: gradients[i].shape.num_elements())
        kernel = allreduce(gradients[large], "dense_kernel", hvd.Sum, ignore_name_scope=True)
        rest = [*gradients[:large], *gradients[large + 1:], *batch, *sums]
        flat = tf.concat([tf.reshape(value, [-1]) for value in rest], 0)
        flat = allreduce(flat, "rest", hvd.Sum, ignore_name_scope=True)
        parts = tf.split(flat, [value.shape.num_elements() for value in rest])
        rest = [tf.reshape(part, value.shape) for part, value in zip(parts, rest, strict=True)]
        gradients = [*rest[:large], kernel, *rest[large:len(gradients) - 1]]
        batch_end = len(gradients) - 1 + len(batch)
        return gradients, rest[len(gradients) - 1:batch_end], rest[batch_end:]
