"""How the ranks share the work of a training."""

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
    """Options of ``train`` by the same names; a resumed run may change them.

    Attributes:
        servers: number of parameter servers (``async``).
        max_staleness: maximum age of a gradient in updates; None: unlimited (``async``).
        staleness_rate: divide the learning rate by that age (``async``).
        sync_every: steps between two averages (``local-sgd``).
        shard_group: number of ranks that hold the large kernel together; 0: those of a node
            (``hybrid``).
        mesh: size of each axis, such as ``data=2,tensor=2`` (``mesh``).
        stages: first block of each stage after the first; None: balanced (``mesh``).
        schedule: order of micro-batches, ``gpipe`` or ``1f1b`` (``mesh``).
        tensor_layout: how the large kernel is cut, ``row`` or ``column`` (``mesh``).
        trace: file for a trace; None: no trace (``mesh``).
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
        """The layout that a command line asks for."""
        return from_options(cls, options)


def group_size(comm: Comm, size: int) -> int:
    """``size``, or for 0 the number of ranks per node; if nodes have different numbers of ranks,
    the greatest common divisor. Collective."""
    return size or math.gcd(*comm.allgather(local_ranks(comm)[1]))


def groups(ranks: int, size: int) -> list[range]:
    """The ranks that hold the kernel together: neighbours, which launchers place on one node."""
    return [range(first, first + size) for first in range(0, ranks, size)]


def peers(ranks: int, size: int) -> list[range]:
    """The ranks that hold the same rows of the kernel, one of each group."""
    return [range(place, ranks, size) for place in range(size)]
