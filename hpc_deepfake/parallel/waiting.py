"""Waiting for a message of another rank, so that signals get through and a stall is named."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

from preprocessing.mpi import report

if TYPE_CHECKING:
    from mpi4py.MPI import Comm, Request

_NEVER_SENT = 32_000  # MPI allows tags up to 32,767 at least
_seconds = {"warning": 60.0, "limit": 600.0}


def patience(warning: float, limit: float) -> None:
    """Seconds of waiting until the rank that is waited for is named, and until the job is ended;
    0 for never. The watchdog can't see this: all ranks are within the same step."""
    _seconds.update(warning=warning, limit=limit)


def wait(request: Request, comm: Comm, what: str) -> float:
    """Poll until it is done; returns the seconds that it took.

    A large message may take as many polls as it has pieces, and a neighbour is mostly a few
    milliseconds away: pauses are short at first, and a hundredth of what was waited later.
    """
    began, waited, named = time.perf_counter(), 0.0, False
    while not request.Test():
        time.sleep(min(max(5e-5, waited / 100), 0.01))
        waited = time.perf_counter() - began
        if _seconds["warning"] and waited >= _seconds["warning"] and not named:
            named = True
            print(f"rank {comm.rank} has waited {waited:.0f} s for {what}", file=sys.stderr,
                  flush=True)
        if _seconds["limit"] and waited >= _seconds["limit"]:
            report(f"rank {comm.rank} has waited {waited:.0f} s for {what}; ending the job")
            comm.Abort(1)
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
