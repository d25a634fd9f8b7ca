"""How the ranks work together: each strategy gives the training step and the collective sums."""

from __future__ import annotations

from typing import TYPE_CHECKING

from preprocessing.errors import InputError

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.settings import Layout
    from hpc_deepfake.strategies.base import Strategy

NAMES = ("sequential", "sync", "mesh")


def choose(name: str, ranks: int, layout: Layout | None = None) -> str:
    """Strategy for ``auto``, or ``name`` itself if it works on so many ranks.

    Raises:
        InputError: it doesn't.
    """
    if layout and layout.mesh and name not in ("auto", "mesh"):
        raise InputError(f"--mesh {layout.mesh} is for --strategy mesh, not {name}",
                         everywhere=True)
    if name == "mesh" or (layout and layout.mesh):
        from hpc_deepfake.parallel import check

        check(layout, ranks)
        return "mesh"
    if name == "auto":
        return "sequential" if ranks == 1 else "sync"
    if name == "sequential" and ranks > 1:
        raise InputError(f"--strategy sequential runs on one rank, not {ranks}: leave mpirun out, "
                         "or take --strategy sync", everywhere=True)
    return name


def get(name: str) -> type[Strategy]:
    """The strategy's class; imports what it needs."""
    if name == "sync":
        from hpc_deepfake.strategies.sync import Sync

        return Sync
    if name == "mesh":
        from hpc_deepfake.strategies.mesh import Mesh

        return Mesh
    from hpc_deepfake.strategies.sequential import Sequential

    return Sequential


def prepare(name: str, comm: Comm, gpu: bool, layout: Layout | None = None,
            stall_warning: float = 60, stall_limit: float = 600) -> None:
    """Start what the strategy needs besides MPI; collective. Seconds as in ``train --help``."""
    if name == "sync":
        from hpc_deepfake.strategies.collectives import start

        start(comm, gpu, stall_warning, stall_limit)
    if name == "mesh":
        from hpc_deepfake.parallel.shape import parse
        from hpc_deepfake.parallel.waiting import patience

        patience(stall_warning, stall_limit)
        groups = parse(layout.mesh, comm.size).groups()
        if groups:  # else all goes from neighbour to neighbour
            from hpc_deepfake.strategies.collectives import start

            start(comm, gpu, stall_warning, stall_limit, groups)
