"""Names a rank that others wait for, and ends the job if it stays away."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from hpc_deepfake.core.mpi import report, wait

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

_PERIOD = 1.0  # seconds between two signs of life
_TAG = 7


class Watchdog:
    """A thread on each rank that watches the next one.

    Every second it sends the number of the step that its rank has entered to the rank before it.
    If that neighbour stays a step behind for ``warn`` seconds, or gives no sign at all (a stopped
    process, a dead node), it is named; after ``limit`` seconds the whole job is aborted. A
    collective can't do this: it is what hangs.
    """

    def __init__(self, comm: Comm, warn: float, limit: float) -> None:
        """Collective; ``warn`` and ``limit`` in seconds, 0 for never."""
        from mpi4py import MPI

        self._comm = comm.Dup()
        self._warn, self._limit = warn, limit
        self._hosts = comm.allgather(MPI.Get_processor_name())
        self._step = 0
        self._waited = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        # without full thread support MPI must not be called from here
        self._active = (comm.size > 1 and bool(warn or limit)
                        and MPI.Query_thread() == MPI.THREAD_MULTIPLE)
        if self._active:
            self._thread.start()

    def entered(self) -> None:
        """This rank has come to its next collective piece of work."""
        self._step += 1

    def overdue(self, rank: int, seconds: float) -> None:
        """A rank is waited for, and has been for so long; for waits that this class can't see."""
        if self._warn and seconds >= self._warn > self._waited:
            self._say(rank, seconds, True)
        if self._limit and seconds >= self._limit:
            self._say(rank, seconds, True, "; ending the job")
            self._comm.Abort(1)
        self._waited = seconds

    def close(self) -> None:
        """Collective; call when no rank has anything more to wait for."""
        wait(self._comm.Ibarrier())
        if self._active:
            self._over.set()
            self._thread.join()
        self._comm.Free()

    def _watch(self) -> None:
        comm = self._comm
        watched, watcher = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
        theirs, sent = np.zeros(1, np.int64), []
        since, seen, named = time.monotonic(), (0, 0), False
        while not self._over.wait(_PERIOD):
            sent = [(request, value) for request, value in sent if not request.Test()]
            if len(sent) < 10:  # one that takes nothing in gets nothing more
                value = np.array([self._step], np.int64)
                sent.append((comm.Isend(value, watcher, _TAG), value))
            heard = False
            while comm.Iprobe(watched, _TAG):
                comm.Recv(theirs, watched, _TAG)
                heard = True
            now = time.monotonic()
            state = (int(theirs[0]), self._step)
            if state != seen or (heard and theirs[0] >= self._step):
                since, seen, named = now, state, False
            elif self._warn and now - since >= self._warn and not named:
                named = True
                self._say(watched, now - since, heard)
            if self._limit and now - since >= self._limit:
                self._say(watched, now - since, heard, "; ending the job")
                comm.Abort(1)
        for request, _ in sent:
            request.Cancel()
            request.Free()

    def _say(self, rank: int, seconds: float, heard: bool, more: str = "") -> None:
        how = "has not come to the next step" if heard else "gives no sign of life"
        text = f"rank {rank} on {self._hosts[rank]} {how} for {seconds:.0f} s{more}"
        if more:
            report(text)
        else:
            print(text, file=sys.stderr, flush=True)
