"""How the ranks work together: each strategy is a way to take a training step on all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.strategies.layout import Layout
from hpc_deepfake.strategies.traffic import MOST_SERVERS

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.strategies.base import StrategyClass

NAMES = ("sequential", "sync", "async", "local-sgd", "hybrid", "mesh")
# strategies that exchange large point-to-point messages while they compute
POLLING = ("async", "mesh")


def choose(name: str, ranks: int, settings: Settings | None = None,
           layout: Layout | None = None) -> str:
    """The strategy for ``auto``, or ``name`` itself.

    Raises:
        InputError: it does not support this number of ranks or these options.
    """
    settings, layout = settings or Settings(), layout or Layout()
    if layout.mesh and name == "auto":
        name = "mesh"
    if name == "auto":
        name = "sequential" if ranks == 1 else "sync"

    def refuse(why: str) -> NoReturn:
        raise InputError(f"--strategy {name} {why}", everywhere=True)

    if layout.mesh and name != "mesh":
        refuse(f"does not support --mesh {layout.mesh}: leave it out, or use --strategy mesh")
    if layout.stages and name != "mesh":
        refuse(f"has no stages for --stages {layout.stages}: leave it out, or give --mesh "
               "pipeline=P too")
    if layout.sync_every != Layout.sync_every and name != "local-sgd":
        refuse(f"does not support --sync-every {layout.sync_every}: leave it out, or use "
               "--strategy local-sgd")
    if name == "mesh":
        from hpc_deepfake.strategies.mesh import check

        check(layout, ranks, settings.network)
        if settings.compression != "none":
            refuse("does not support --compression: leave it out, or use --strategy sync")
    if name == "sequential" and ranks > 1:
        refuse(f"runs on one rank, not {ranks}: leave mpirun out, or use --strategy sync")
    if name == "sequential" and settings.compression != "none":
        refuse(f"exchanges nothing that --compression {settings.compression} could shorten: leave "
               "it out; fp16 is for sync and async, bf16 for hybrid, on several ranks")
    if name == "async" and settings.network == "table" and layout.servers > MOST_SERVERS:
        refuse(f"can cut the weights into pieces for at most {MOST_SERVERS} servers, not "
               f"{layout.servers}: use fewer --servers (one for every few workers is plenty)")
    if name == "async" and settings.scale_rate != "none":
        refuse(f"does not support --scale-rate {settings.scale_rate}: each of its updates uses the "
               "batch of one worker, however many there are. Leave it out; --staleness-rate makes "
               "the learning rate follow the gradients' age")
    if name == "async" and settings.optimizer == "lamb":
        refuse("does not support --optimizer lamb, which needs the norm of each layer's weights: "
               "its servers hold flat pieces of all layers and update them one after the other. "
               "Use adamw, or another strategy")
    if name == "async" and ranks <= layout.servers:
        refuse(f"needs a rank for each server and at least one worker, {layout.servers + 1} in "
               f"total, not {ranks}: start it with mpirun -np {layout.servers + 1} or more, or use "
               "fewer --servers")
    if name in ("async", "local-sgd") and settings.sync_bn:
        refuse("has no step that all ranks take together, which --sync-bn needs: leave one of the "
               "two options out")
    if name == "local-sgd" and settings.compression != "none":
        refuse("averages weights, which --compression would round: leave it out; a larger "
               "--sync-every also reduces traffic")
    if name in ("sync", "async") and settings.compression == "bf16":
        refuse("exchanges no activations, which --compression bf16 is for: use fp16, or "
               "--strategy hybrid")
    if name == "hybrid" and settings.compression == "fp16":
        refuse("exchanges activations, whose range is too large for fp16: use --compression bf16")
    group = layout.shard_group
    if group and name != "hybrid":
        refuse(f"does not support --shard-group {group}: leave it out, or use --strategy hybrid")
    if group and ranks % group:
        sizes = ", ".join(str(size) for size in range(1, ranks + 1) if ranks % size == 0)
        refuse(f"needs groups of the same size, and --shard-group {group} does not divide {ranks} "
               f"ranks: use one of {sizes}")
    return name


def get(name: str) -> StrategyClass:
    """A strategy's class; imports only what that strategy needs."""
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
    """Start Horovod if the strategy needs it; collective.

    Args:
        name: of the strategy.
        comm: all ranks.
        gpu: whether this rank computes on a GPU.
        layout: how the ranks share the work.
        stall_warning: seconds after which a missing rank is named; 0: never.
        stall_limit: seconds after which the job ends; 0: never.
    """
    layout = layout or Layout()
    if name in ("sync", "local-sgd"):
        from hpc_deepfake.strategies.collectives import start

        start(comm, gpu, stall_warning, stall_limit)
    elif name == "hybrid":
        from hpc_deepfake.strategies.collectives import start
        from hpc_deepfake.strategies.layout import group_size, groups, peers

        size = group_size(comm, layout.shard_group)
        start(comm, gpu, stall_warning, stall_limit,
              [*groups(comm.size, size), *peers(comm.size, size)], wake=1)
    elif name == "mesh":
        from hpc_deepfake.strategies.mesh.shape import parse

        reducing = parse(layout.mesh, comm.size).groups()
        if reducing:  # in a mesh that is only a pipeline, neighbours exchange all messages
            from hpc_deepfake.strategies.collectives import start

            start(comm, gpu, stall_warning, stall_limit, reducing)
