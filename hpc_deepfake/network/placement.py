"""Whether the ranks can train together on the devices where they are: read before the first
collective, where a wrong place would be a hang or a message of NCCL's. The doctor says the same.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from hpc_deepfake.core import mpi
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.log import log
from hpc_deepfake.core.nodes import label, ranges
from hpc_deepfake.core.text import plural

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.network.device import Device
    from hpc_deepfake.network.gpus import Gpu

# NCCL's own switch for several ranks on one GPU, from version 2.31 on
SHARING = "NCCL_MULTI_RANK_GPU_ENABLE"


class Seat(NamedTuple):
    """What a rank says of its device to the others.

    Attributes:
        host: name of the rank's node.
        node: number of its node: its lowest rank.
        kind: ``CPU`` or ``GPU:i``.
        name: model name of the processor or GPU.
        own: the GPU; None without one, or if it is unknown.
        seen: all GPUs that it may use; empty if unknown.
        setting: its CUDA_VISIBLE_DEVICES.
        why: why it computes on a CPU.
        sharing: whether it allows NCCL to share a GPU.
    """

    host: str
    node: int
    kind: str
    name: str = ""
    own: Gpu | None = None
    seen: tuple[Gpu, ...] = ()
    setting: str | None = None
    why: str = ""
    sharing: bool = False

    @property
    def gpu(self) -> bool:
        """Whether this rank computes on a GPU."""
        return self.kind != "CPU"

    @property
    def key(self) -> str:
        """Equal for ranks that compute on the same GPU, as far as is known."""
        return self.own.uuid if self.own else f"{self.node} {self.setting} {self.kind}"


class Fault(NamedTuple):
    """What is wrong with where the ranks are.

    Attributes:
        what: the subject, in a few words.
        text: the finding, with ranks and hosts.
        todo: what to do; lines that begin with two spaces are commands to paste.
        refused: whether ranks can't reduce together so.
    """

    what: str
    text: str
    todo: str
    refused: bool = True


def seats(comm: Comm, device: Device, choice: str) -> list[Seat]:
    """All ranks' seats, in rank order; collective.

    Args:
        comm: all ranks.
        device: of this rank.
        choice: value of --device.
    """
    from mpi4py import MPI

    from hpc_deepfake.network.device import why_no_gpu

    why = "" if device.gpu else "--device cpu"
    if not device.gpu and choice != "cpu":
        import tensorflow as tf

        why = why_no_gpu(tf)
    node = comm.Split_type(MPI.COMM_TYPE_SHARED, comm.rank)
    try:
        lowest = node.bcast(comm.rank)
    finally:
        node.Free()
    return mpi.gather(comm, Seat(
        MPI.Get_processor_name(), lowest, device.kind, device.name, device.own, device.seen,
        os.environ.get("CUDA_VISIBLE_DEVICES"), why,
        os.environ.get(SHARING, "0") not in ("", "0")))


def check(comm: Comm, device: Device, choice: str, reducing: bool = True) -> None:
    """Refuse a placement with which ranks can't train together, and warn of a slow one; collective.

    Args:
        comm: all ranks.
        device: of this rank.
        choice: value of --device.
        reducing: whether the ranks reduce tensors of their devices. Otherwise they exchange
            messages by MPI, from the host's memory, and nothing is refused.

    Raises:
        InputError: the ranks can't train so; the same on all ranks.
    """
    if not any(mpi.gather(comm, device.gpu)):
        return
    for fault in judge(seats(comm, device, choice)):
        if fault.refused and reducing:
            raise InputError(f"{fault.text}. {fault.todo}", everywhere=True)
        if comm.rank == 0:
            log.warning("warning: %s. %s", fault.text, fault.todo)


def judge(seats: Sequence[Seat]) -> list[Fault]:
    """What is wrong with the ranks' places, the worst first."""
    on_gpu = [rank for rank, seat in enumerate(seats) if seat.gpu]
    if not on_gpu:
        return []
    faults = [_kinds(seats, on_gpu), _shared(seats, on_gpu), _models(seats, on_gpu)]
    return sorted(filter(None, faults), key=lambda fault: not fault.refused)


def _label(ranks: Sequence[int], seats: Sequence[Seat]) -> str:
    return label(ranks, [seat.host for seat in seats], [seat.node for seat in seats])


def _kinds(seats: Sequence[Seat], on_gpu: Sequence[int]) -> Fault | None:
    """Ranks on CPUs beside those on GPUs."""
    others = sorted(set(range(len(seats))) - set(on_gpu))
    if not others:
        return None
    reasons = ", ".join(sorted({seats[rank].why for rank in others} - {""}))
    return Fault("devices", f"computing on CPUs: {_label(others, seats)} ({reasons}); on GPUs: "
                 f"{_label(on_gpu, seats)}; such ranks can't reduce together",
                 "Give every rank a GPU, or use --device cpu for all of them")


def _shared(seats: Sequence[Seat], on_gpu: Sequence[int]) -> Fault | None:
    """Several ranks on one GPU, or on parts of one."""
    ranks_on: dict[str, list[int]] = {}
    for rank in on_gpu:
        ranks_on.setdefault(seats[rank].key, []).append(rank)
    shared = [ranks for ranks in ranks_on.values() if len(ranks) > 1]
    if not shared:
        return _parts(seats, on_gpu)
    node = seats[shared[0][0]].node
    here = [rank for rank, seat in enumerate(seats) if seat.node == node]
    there = len({gpu.uuid for rank in here for gpu in seats[rank].seen}) or \
        len({seats[rank].key for rank in here})
    named = "; ".join(f"ranks {ranges(ranks)} on {_name(seats[ranks[0]])}" for ranks in shared[:4])
    more = f" and {plural(len(shared) - 4, 'more GPU')}" if len(shared) > 4 else ""
    allowed = all(seats[rank].sharing for ranks in shared for rank in ranks)
    todo = (f"Start one rank per GPU on each node: #SBATCH --ntasks-per-node={there} "
            f"--gpus-per-node={there}, or mpirun --map-by ppr:{there}:node; or use --device cpu"
            if there < len(here) else
            "There are enough GPUs, but the launcher shows these ranks too few: let each see all "
            "of its node (srun --gpu-bind=none), or one of its own (srun --gpus-per-task=1)")
    return Fault("GPU per rank", f"{seats[node].host} has {plural(len(here), 'rank')} and "
                 f"{plural(there, 'GPU')}: {named}{more}. They would take turns"
                 + ", and NCCL refuses it" * (not allowed), todo, not allowed)


def _parts(seats: Sequence[Seat], on_gpu: Sequence[int]) -> Fault | None:
    """Several ranks on parts (MIG) of one GPU, which NCCL takes for one (NVIDIA/nccl#1716)."""
    on_bus: dict[tuple[int, str], list[int]] = {}
    for rank in on_gpu:
        own = seats[rank].own
        if own is not None and own.bus:
            on_bus.setdefault((seats[rank].node, own.bus), []).append(rank)
    shared = [(bus, ranks) for (_, bus), ranks in on_bus.items() if len(ranks) > 1
              and not all(seats[rank].sharing for rank in ranks)]
    if not shared:
        return None
    bus, ranks = shared[0]
    return Fault("GPU per rank", f"ranks {ranges(ranks)} on {seats[ranks[0]].host}: on parts (MIG) "
                 f"of one GPU, {bus}, which NCCL takes for the same GPU and refuses",
                 "Start one rank per GPU, or one rank alone on a part; NCCL 2.31 and newer accept "
                 f"it with {SHARING}=1")


def _models(seats: Sequence[Seat], on_gpu: Sequence[int]) -> Fault | None:
    """GPUs of different models. They reduce together correctly, so that this is no reason to
    refuse a job: it is slower than it looks, and no other job's bits."""
    ranks_on: dict[str, list[int]] = {}
    for rank in on_gpu:
        ranks_on.setdefault(seats[rank].name, []).append(rank)
    if len(ranks_on) == 1:
        return None
    named = "; ".join(f"{name}: {_label(ranks, seats)}" for name, ranks in ranks_on.items())
    return Fault("GPU models", f"different GPUs ({named}): each step waits for the slowest, and "
                 "the last bits of results are those of this mixture",
                 "Request one model, such as with --constraint or --gres=gpu:MODEL:N", False)


def _name(seat: Seat) -> str:
    """A GPU in words: its address, or its number if that is unknown."""
    own = seat.own
    return f"{own.uuid}" + f" at {own.bus}" * bool(own.bus) if own else seat.kind
