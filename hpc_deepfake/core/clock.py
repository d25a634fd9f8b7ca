"""How far the clocks of two ranks are apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

_TAG = 11
_ROUNDS = 8


def answer(comm: Comm, now: Callable[[], float]) -> None:
    """Rank 0's questions."""
    for _ in range(_ROUNDS):
        comm.recv(source=0, tag=_TAG)
        comm.send(now(), 0, _TAG)


def ask(comm: Comm, rank: int, now: Callable[[], float]) -> float:
    """Seconds by which the clock of ``rank``, which answers, is ahead of rank 0's: those of the
    quickest exchange."""
    return min(_exchange(comm, rank, now) for _ in range(_ROUNDS))[1]


def _exchange(comm, rank: int, now: Callable[[], float]) -> tuple[float, float]:
    """Seconds the exchange took, and by how much that rank's clock is ahead of this one's."""
    sent = now()
    comm.send(None, rank, _TAG)
    theirs = comm.recv(source=rank, tag=_TAG)
    back = now()
    return back - sent, theirs - (sent + back) / 2
