"""Horovod: its start, with settings for CPU or GPU ranks, and its process sets."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import horovod.tensorflow as hvd

from hpc_deepfake.core.log import log
from hpc_deepfake.network import cycle

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

_sets: dict[tuple[int, ...], hvd.ProcessSet] = {}


def start(comm: Comm, gpu: bool, stall_warning: float, stall_limit: float,
          sets: Sequence[Sequence[int]] = (), wake: float = cycle.ON_CPU) -> None:
    """Start Horovod on MPI's world; collective.

    Fusion is off, so that the layout of the reductions, and with it the order of summation, does
    not depend on timing. Environment variables override these settings.

    Args:
        comm: all ranks.
        gpu: whether this rank computes on a GPU.
        stall_warning: seconds after which Horovod names ranks that are missing in a reduction; 0:
            never.
        stall_limit: seconds after which Horovod fails; 0: never.
        sets: groups of ranks that reduce among themselves, the same list on all ranks; see
            ``process_set``.
        wake: milliseconds between two wake-ups of Horovod's thread, on CPU ranks.

    Raises:
        RuntimeError: Horovod is running with other groups, or was built for another MPI.
    """
    os.environ.setdefault("HOROVOD_FUSION_THRESHOLD", "0")
    log.debug("Horovod wakes up every %s", cycle.choose(bool(gpu and hvd.nccl_built()), wake))
    os.environ.setdefault("HOROVOD_STALL_CHECK_TIME_SECONDS", str(math.ceil(stall_warning)))
    if stall_limit:
        os.environ.setdefault("HOROVOD_STALL_SHUTDOWN_TIME_SECONDS",
                              str(math.ceil(max(stall_limit, stall_warning + 1))))
    if not stall_warning:
        os.environ.setdefault("HOROVOD_STALL_CHECK_DISABLE", "1")
    groups = {tuple(sorted(ranks)) for ranks in sets if 1 < len(ranks) < comm.size}
    if not hvd.is_initialized():
        _sets.update({ranks: hvd.ProcessSet(ranks) for ranks in groups})
        hvd.init(process_sets=[_sets[ranks] for ranks in sorted(_sets)])
    if not groups <= set(_sets):
        raise RuntimeError("Horovod was started in this process with other groups of ranks")
    if (hvd.size(), hvd.rank()) != (comm.size, comm.rank):
        raise RuntimeError(f"Horovod sees rank {hvd.rank()} of {hvd.size()}, MPI rank {comm.rank} "
                           f"of {comm.size}: Horovod was built for another MPI; run env/setup.sh")


def process_set(ranks: Sequence[int]) -> hvd.ProcessSet | None:
    """Horovod's set of these ranks, which ``start`` must have been given; None for a single rank,
    which reduces with no other."""
    if len(ranks) == 1:
        return None
    return hvd.global_process_set if len(ranks) == hvd.size() else _sets[tuple(sorted(ranks))]
