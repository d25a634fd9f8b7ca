"""How the ranks work together: each strategy gives the training step and the collective sums."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.strategies.layout import Layout

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.strategies.base import Strategy

NAMES = ("sequential", "sync", "async", "local-sgd", "hybrid", "mesh")
# those that exchange large messages of their own while they compute
POLLING = ("async", "mesh")


def choose(name: str, ranks: int, settings: Settings | None = None,
           layout: Layout | None = None) -> str:
    """Strategy for ``auto``, or ``name`` itself if it works on so many ranks and so set.

    Raises:
        InputError: it doesn't.
    """
    settings, layout = settings or Settings(), layout or Layout()
    if layout.mesh and name == "auto":
        name = "mesh"
    if name == "auto":
        name = "sequential" if ranks == 1 else "sync"

    def refuse(why: str) -> NoReturn:
        raise InputError(f"--strategy {name} {why}", everywhere=True)

    if layout.mesh and name != "mesh":
        refuse(f"knows no --mesh {layout.mesh}: leave it out, or take --strategy mesh")
    if name == "mesh":
        from hpc_deepfake.strategies.mesh import check

        check(layout, ranks)
        if settings.compression != "none":
            refuse("knows no --compression: leave it out, or take --strategy sync")
    if name == "sequential" and ranks > 1:
        refuse(f"runs on one rank, not {ranks}: leave mpirun out, or take --strategy sync")
    if name == "async" and ranks <= layout.servers:
        refuse(f"needs a rank for each server and one worker at least, {layout.servers + 1} in "
               f"all, not {ranks}: mpirun -np {layout.servers + 2} …, or fewer --servers")
    if name in ("async", "local-sgd") and settings.sync_bn:
        refuse("has no step in which all ranks meet, as --sync-bn needs: leave one of them out")
    if name == "local-sgd" and settings.compression != "none":
        refuse("averages weights, which --compression would round: leave it out, or raise "
               "--sync-every")
    if name in ("sync", "async") and settings.compression == "bf16":
        refuse("exchanges no activations, which --compression bf16 is for: take fp16, or "
               "--strategy hybrid")
    if name == "hybrid" and settings.compression == "fp16":
        refuse("exchanges activations, for which fp16 is too narrow: take --compression bf16")
    group = layout.shard_group
    if group and name != "hybrid":
        refuse(f"knows no --shard-group {group}: leave it out, or take --strategy hybrid")
    if group and ranks % group:
        sizes = ", ".join(str(size) for size in range(1, ranks + 1) if ranks % size == 0)
        refuse(f"needs groups of the same size: --shard-group {group} doesn't divide {ranks} "
               f"ranks, {sizes} do")
    return name


def get(name: str) -> type[Strategy]:
    """The strategy's class; imports what it needs."""
    if name == "sync":
        from hpc_deepfake.strategies.sync import Sync

        return Sync
    if name == "async":
        from hpc_deepfake.strategies.asynchronous.strategy import Async

        return Async
    if name == "local-sgd":
        from hpc_deepfake.strategies.local import LocalSGD

        return LocalSGD
    if name == "hybrid":
        from hpc_deepfake.strategies.hybrid import Hybrid

        return Hybrid
    if name == "mesh":
        from hpc_deepfake.strategies.mesh.strategy import Mesh

        return Mesh
    from hpc_deepfake.strategies.sequential import Sequential

    return Sequential


def prepare(name: str, comm: Comm, gpu: bool, layout: Layout | None = None,
            stall_warning: float = 60, stall_limit: float = 600) -> None:
    """Start what the strategy needs besides MPI; collective. Seconds as in ``train --help``."""
    if name in ("sync", "local-sgd"):
        from hpc_deepfake.strategies.collectives import start

        start(comm, gpu, stall_warning, stall_limit)
    elif name == "hybrid":
        from hpc_deepfake.strategies.collectives import start
        from hpc_deepfake.strategies.layout import group_size, groups, peers

        size = group_size(comm, layout.shard_group if layout else 0)
        start(comm, gpu, stall_warning, stall_limit,
              [*groups(comm.size, size), *peers(comm.size, size)], cycle=1)
    elif name == "mesh":
        from hpc_deepfake.strategies.mesh.shape import parse

        groups = parse(layout.mesh, comm.size).groups()
        if groups:  # else all goes from neighbour to neighbour
            from hpc_deepfake.strategies.collectives import start

            start(comm, gpu, stall_warning, stall_limit, groups)
