"""Groups of ranks that hold one kernel together, with data parallelism around them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hpc_deepfake.device import local_ranks

if TYPE_CHECKING:
    from mpi4py.MPI import Comm


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
