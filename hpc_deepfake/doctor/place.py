"""Where the ranks are, and names for some of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from hpc_deepfake.core import mpi
from hpc_deepfake.doctor.deadline import Deadline

if TYPE_CHECKING:
    from mpi4py.MPI import Comm


@dataclass(frozen=True)
class Place:
    """This rank among all and on its node.

    Attributes:
        comm: all ranks. node: those of this node. hosts: by rank. nodes: by rank, the lowest rank
        of its node. deadline: knows when this rank waits for others.
    """

    comm: Comm
    node: Comm
    hosts: tuple[str, ...]
    nodes: tuple[int, ...]
    deadline: Deadline

    @property
    def first(self) -> bool:
        """Whether this is the lowest rank of its node."""
        return self.node.rank == 0

    @property
    def leaders(self) -> list[int]:
        """The lowest rank of each node, in rank order."""
        return sorted(set(self.nodes))

    def meet(self) -> None:
        """Wait for all ranks, without using the core."""
        with self.deadline.waiting():
            mpi.wait(self.comm.Ibarrier())

    def agreed(self, well: bool) -> bool:
        """Whether all ranks are well; collective."""
        self.meet()
        return all(self.comm.allgather(well))


def find(comm: Comm, deadline: Deadline) -> Place:
    """Collective."""
    node = node_of(comm)
    hosts, nodes = zip(*comm.allgather((host_name(), node.bcast(comm.rank))), strict=True)
    return Place(comm, node, hosts, nodes, deadline)


def node_of(comm: Comm) -> Comm:
    """The ranks that share memory with this one; collective."""
    from mpi4py import MPI

    return comm.Split_type(MPI.COMM_TYPE_SHARED, comm.rank)


def host_name() -> str:
    """As MPI calls this node."""
    from mpi4py import MPI

    return MPI.Get_processor_name()


def label(ranks: Iterable[int], hosts: tuple[str, ...], nodes: tuple[int, ...]) -> str:
    """``n02`` for all ranks of a node, ``rank 3 on n02`` for some of them; at most 4 nodes."""
    by_node: dict[int, list[int]] = {}
    for rank in sorted(ranks):
        by_node.setdefault(nodes[rank], []).append(rank)
    sizes = Counter(nodes)
    names = [hosts[node] if len(some) == sizes[node]
             else f"rank{'s' * (len(some) > 1)} {ranges(some)} on {hosts[node]}"
             for node, some in by_node.items()]
    more = f" and {len(names) - 4} nodes more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


def ranges(numbers: Iterable[int]) -> str:
    """``0-3, 7`` for 0, 1, 2, 3, 7."""
    runs = [[n for _, n in run] for _, run in
            groupby(enumerate(sorted(numbers)), key=lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def count(number: int, what: str) -> str:
    """``1 rank``, ``2 ranks``."""
    return f"{number:,} {what}{'s' * (number != 1)}"
