"""Which ranks are on which nodes, and names for groups of them."""

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
    """This rank among all ranks and on its node.

    Attributes:
        comm: all ranks.
        node: the ranks of this node.
        hosts: host name of each rank.
        nodes: number of each rank's node: its lowest rank.
        deadline: is told when this rank waits for others.
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

    def agreed(self, success: bool) -> bool:
        """Whether all ranks succeeded; collective."""
        self.meet()
        return all(self.comm.allgather(success))


def find(comm: Comm, deadline: Deadline) -> Place:
    """The place of this rank; collective."""
    node = node_of(comm)
    hosts, nodes = zip(*comm.allgather((host_name(), node.bcast(comm.rank))), strict=True)
    return Place(comm, node, hosts, nodes, deadline)


def node_of(comm: Comm) -> Comm:
    """The ranks that share memory with this one; collective."""
    from mpi4py import MPI

    return comm.Split_type(MPI.COMM_TYPE_SHARED, comm.rank)


def host_name() -> str:
    """MPI's name for this node."""
    from mpi4py import MPI

    return MPI.Get_processor_name()


def label(ranks: Iterable[int], hosts: tuple[str, ...], nodes: tuple[int, ...]) -> str:
    """``n02`` for all ranks of a node, ``rank 3 on n02`` for some of them; names up to 4 nodes."""
    by_node: dict[int, list[int]] = {}
    for rank in sorted(ranks):
        by_node.setdefault(nodes[rank], []).append(rank)
    sizes = Counter(nodes)
    names = [hosts[node] if len(group) == sizes[node]
             else f"rank{'s' * (len(group) > 1)} {ranges(group)} on {hosts[node]}"
             for node, group in by_node.items()]
    more = f" and {len(names) - 4} more nodes" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


def ranges(numbers: Iterable[int]) -> str:
    """``0-3, 7`` for 0, 1, 2, 3, 7."""
    runs = [[n for _, n in run] for _, run in
            groupby(enumerate(sorted(numbers)), key=lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
