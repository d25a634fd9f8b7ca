"""Waiting for a message of another rank, so that signals get through and a stall is named."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from preprocessing.mpi import report

if TYPE_CHECKING:
    from mpi4py.MPI import Comm, Request

_seconds = {"warning": 60.0, "limit": 600.0}


def patience(warning: float, limit: float) -> None:
    """Seconds of waiting until the rank that is waited for is named, and until the job is ended;
    0 for never. The watchdog can't see this: all ranks are within the same step."""
    _seconds.update(warning=warning, limit=limit)


def wait(request: Request, comm: Comm, what: str) -> float:
    """Poll until it is done. A neighbour is mostly a few milliseconds away, and cores may be
    shared: the pauses grow from 50 µs to 1 ms. Returns the seconds that it took."""
    began, pause, named = time.perf_counter(), 5e-5, False
    while not request.Test():
        time.sleep(pause)
        pause = min(1.5 * pause, 1e-3)
        waited = time.perf_counter() - began
        if _seconds["warning"] and waited >= _seconds["warning"] and not named:
            named = True
            print(f"rank {comm.rank} has waited {waited:.0f} s for {what}", file=sys.stderr,
                  flush=True)
        if _seconds["limit"] and waited >= _seconds["limit"]:
            report(f"rank {comm.rank} has waited {waited:.0f} s for {what}; ending the job")
            comm.Abort(1)
    return time.perf_counter() - began
