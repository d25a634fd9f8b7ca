"""Horovod, started with settings for where it runs, and its process sets."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import horovod.tensorflow as hvd

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

_sets: dict[tuple[int, ...], hvd.ProcessSet] = {}


def start(comm: Comm, gpu: bool, stall_warning: float, stall_limit: float,
          sets: Sequence[Sequence[int]] = ()) -> None:
    """Start Horovod on MPI's world; collective.

    Without fusion the reductions' layout, and with it the order of summation, doesn't depend on
    timing. On CPU ranks Horovod's thread shares the cores with the computation: it is woken every
    few milliseconds instead of every one. What the environment says wins. Horovod names ranks
    that are missing in a reduction after ``stall_warning`` seconds and fails after ``stall_limit``.

    Args:
        sets: groups of ranks that reduce among themselves, of all ranks' wishes together and the
            same on all; see ``process_set``.
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
    wanted = {tuple(sorted(one)) for one in sets if 1 < len(one) < comm.size}
    if not hvd.is_initialized():
        _sets.update({ranks: hvd.ProcessSet(ranks) for ranks in wanted})
        hvd.init(process_sets=[_sets[ranks] for ranks in sorted(_sets)])
    if not wanted <= set(_sets):
        raise RuntimeError("Horovod was started in this process with other groups of ranks")
    if (hvd.size(), hvd.rank()) != (comm.size, comm.rank):
        raise RuntimeError(f"Horovod sees rank {hvd.rank()} of {hvd.size()}, MPI rank {comm.rank} "
                           f"of {comm.size}: Horovod was built for another MPI; run env/setup.sh")


def process_set(ranks: Sequence[int]) -> hvd.ProcessSet | None:
    """The set of these ranks, which ``start`` was told of; None for a lone rank, which has nobody
    to reduce with."""
    if len(ranks) == 1:
        return None
    return hvd.global_process_set if len(ranks) == hvd.size() else _sets[tuple(sorted(ranks))]
