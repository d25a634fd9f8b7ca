"""Which ranks are on which nodes."""

from __future__ import annotations

from dataclasses import dataclass
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
