"""Waiting for a message of another rank, so that signals get through and a stall is seen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py.MPI import Comm, Request

_NEVER_SENT = 32_000  # MPI allows tags up to 32,767 at least

# (rank, seconds that it was waited for so far)
Overdue = Callable[[int, float], None]


def wait(request: Request, peer: int | None = None, overdue: Overdue | None = None) -> float:
    """Poll until it is done; returns the seconds that it took.

    A large message may take as many polls as it has pieces, and a neighbour is mostly a few
    milliseconds away: pauses are short at first, and a hundredth of what was waited later.

    Args:
        peer: whom the request is with. overdue: told of it, after half a second.
    """
    began, waited = time.perf_counter(), 0.0
    while not request.Test():
        time.sleep(min(max(5e-5, waited / 100), 0.01))
        waited = time.perf_counter() - began
        if overdue is not None and waited > 0.5:
            overdue(peer, waited)
    return time.perf_counter() - began


class Mover:
    """A thread that calls MPI while this rank computes, if messages are under way.

    Few MPI libraries move a large message unless both ends call them; Open MPI on one node without
    cross-memory attach does not.
    """

    def __init__(self, comm: Comm) -> None:
        from mpi4py import MPI

        self._comm, self._on = comm, threading.Event()
        # without full thread support MPI must not be called from here
        if MPI.Query_thread() == MPI.THREAD_MULTIPLE:
            threading.Thread(target=self._move, name="mover", daemon=True).start()

    def __enter__(self) -> None:
        self._on.set()

    def __exit__(self, *_: object) -> None:
        self._on.clear()

    def _move(self) -> None:
        while self._on.wait():
            self._comm.Iprobe(tag=_NEVER_SENT)
            time.sleep(2.5e-4)
