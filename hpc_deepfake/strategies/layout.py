"""How the ranks share a training's work."""

from __future__ import annotations

import math
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpc_deepfake.network.device import local_ranks
from hpc_deepfake.network.settings import from_options

if TYPE_CHECKING:
    from mpi4py.MPI import Comm


@dataclass(frozen=True)
class Layout:
    """How the ranks share the work: options of ``train`` of the same names, which a resumed run
    may change.

    Attributes:
        servers: parameter servers of asynchronous training. max_staleness: bound on a gradient's
        age in updates, None for any. staleness_rate: divide the learning rate by that age.
        sync_every: steps between two averages of local SGD.
        shard_group: ranks that hold the large kernel together in ``hybrid``; 0: those of a node.
        mesh, stages, schedule, tensor_layout: of ``--strategy mesh``. trace: file for its trace.
    """

    servers: int = 1
    max_staleness: int | None = None
    staleness_rate: bool = False
    sync_every: int = 8
    shard_group: int = 0
    mesh: str | None = None
    stages: str | None = None
    schedule: str = "1f1b"
    tensor_layout: str = "row"
    trace: Path | None = None

    @classmethod
    def of(cls, options: Namespace) -> Layout:
        """That of a command line."""
        return from_options(cls, options)


def group_size(comm: Comm, wanted: int) -> int:
    """``wanted``, or if that is 0 the ranks of a node; where nodes have different numbers, the
    largest that divides all. Collective."""
    return wanted or math.gcd(*comm.allgather(local_ranks(comm)[1]))


def groups(ranks: int, size: int) -> list[range]:
    """Ranks that hold the kernel together: neighbours, which launchers put on one node."""
    return [range(first, first + size) for first in range(0, ranks, size)]


def peers(ranks: int, size: int) -> list[range]:
    """Ranks that hold the same rows of the kernel, one of each group."""
    return [range(place, ranks, size) for place in range(size)]
