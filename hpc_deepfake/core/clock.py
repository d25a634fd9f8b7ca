"""The difference between the clocks of two ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

_TAG = 11
_ROUNDS = 8


def answer(comm: Comm, now: Callable[[], float]) -> None:
    """Answer rank 0, which calls ``ask`` at the same time, with this rank's clock."""
    for _ in range(_ROUNDS):
        comm.recv(source=0, tag=_TAG)
        comm.send(now(), 0, _TAG)


def ask(comm: Comm, rank: int, now: Callable[[], float]) -> float:
    """Seconds by which the clock of ``rank`` is ahead of rank 0's, from the fastest of eight
    exchanges. Called on rank 0, while ``rank`` calls ``answer``."""
    return min(_exchange(comm, rank, now) for _ in range(_ROUNDS))[1]


def _exchange(comm: Comm, rank: int, now: Callable[[], float]) -> tuple[float, float]:
    """Duration of one exchange and the lead of that rank's clock over this one's, in seconds."""
    sent = now()
    comm.send(None, rank, _TAG)
    remote = comm.recv(source=rank, tag=_TAG)
    received = now()
    return received - sent, remote - (sent + received) / 2
