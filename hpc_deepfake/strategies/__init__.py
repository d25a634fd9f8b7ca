"""How the ranks work together: each strategy gives the training step and the collective sums."""

from __future__ import annotations

from typing import TYPE_CHECKING

from preprocessing.errors import InputError

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.settings import Layout, Settings
    from hpc_deepfake.strategies.base import Strategy

NAMES = ("sequential", "sync", "hybrid")


def choose(name: str, ranks: int, layout: Layout | None = None) -> str:
    """Strategy for ``auto``, or ``name`` itself if it works on so many ranks.

    Raises:
        InputError: it doesn't.
    """
    if name == "auto":
        name = "sequential" if ranks == 1 else "sync"
    if name == "sequential" and ranks > 1:
        raise InputError(f"--strategy sequential runs on one rank, not {ranks}: leave mpirun out, "
                         "or take --strategy sync", everywhere=True)
    group = layout.shard_group if layout else 0
    if group and name != "hybrid":
        raise InputError(f"--shard-group {group} is for --strategy hybrid", everywhere=True)
    if group and ranks % group:
        sizes = ", ".join(str(size) for size in range(1, ranks + 1) if ranks % size == 0)
        raise InputError(f"--shard-group {group} doesn't divide {ranks} ranks into equal groups; "
                         f"sizes that do: {sizes}", everywhere=True)
    return name


def check(name: str, settings: Settings) -> None:
    """Raise InputError if the strategy doesn't know a setting; a lone rank may ignore some."""
    other = {"sync": "bf16", "hybrid": "fp16"}.get(name)
    if settings.compression == other:
        raise InputError(f"--compression {other} is not for --strategy {name}: fp16 is of sync's "
                         "gradients, bf16 of hybrid's activations", everywhere=True)


def get(name: str) -> type[Strategy]:
    """The strategy's class; imports what it needs."""
    if name == "sync":
        from hpc_deepfake.strategies.sync import Sync

        return Sync
    if name == "hybrid":
        from hpc_deepfake.strategies.hybrid import Hybrid

        return Hybrid
    from hpc_deepfake.strategies.sequential import Sequential

    return Sequential


def prepare(name: str, comm: Comm, gpu: bool, layout: Layout | None = None,
            stall_warning: float = 60, stall_limit: float = 600) -> None:
    """Start what the strategy needs besides MPI; collective. Seconds as in ``train --help``."""
    if name == "sync":
        from hpc_deepfake.strategies.collectives import start

        start(comm, gpu, stall_warning, stall_limit)
    elif name == "hybrid":
        from hpc_deepfake.strategies.collectives import start
        from hpc_deepfake.strategies.groups import group_size, groups, peers

        size = group_size(comm, layout.shard_group if layout else 0)
        start(comm, gpu, stall_warning, stall_limit,
              [*groups(comm.size, size), *peers(comm.size, size)], cycle=1)
