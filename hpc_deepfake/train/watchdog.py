"""Names a rank that others wait for, and ends the job if they wait too long."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from hpc_deepfake.core.log import log
from hpc_deepfake.core.mpi import report, wait

if TYPE_CHECKING:
    from mpi4py.MPI import Comm, Request

_PERIOD = 1.0  # seconds between two signs of life
_TAG = 7


class Watchdog:
    """A thread on each rank that watches the next rank.

    Every second it sends the number of the step that its own rank has entered to the previous rank.
    If the watched rank stays a step behind for ``warn`` seconds, or sends nothing at all (a stopped
    process, a dead node), it is named; after ``limit`` seconds the whole job is aborted. This can't
    be a collective operation, since those are what hangs.
    """

    def __init__(self, comm: Comm, warn: float, limit: float) -> None:
        """Collective.

        Args:
            comm: all ranks.
            warn: seconds after which a rank is named; 0: never.
            limit: seconds after which the job is aborted; 0: never.
        """
        from mpi4py import MPI

        self._comm = comm.Dup()
        self._warn, self._limit = warn, limit
        self._hosts = comm.allgather(MPI.Get_processor_name())
        self._step = 0
        self._waited = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        # without full thread support MPI must not be called from another thread
        self._active = (comm.size > 1 and bool(warn or limit)
                        and MPI.Query_thread() == MPI.THREAD_MULTIPLE)
        if self._active:
            self._thread.start()

    def entered(self) -> None:
        """This rank has entered its next step or evaluation."""
        self._step += 1

    def overdue(self, rank: int, seconds: float) -> None:
        """Report a wait that this class can't see itself.

        Args:
            rank: the rank that this one waits for.
            seconds: how long, so far.
        """
        if self._warn and seconds >= self._warn > self._waited:
            self._name(rank, seconds, True)
        if self._limit and seconds >= self._limit:
            self._end(rank, seconds, True)
        self._waited = seconds

    def close(self) -> None:
        """Stop watching; collective, when no rank has to wait for another any more."""
        wait(self._comm.Ibarrier())
        if self._active:
            self._over.set()
            self._thread.join()
        self._comm.Free()

    def _watch(self) -> None:
        comm = self._comm
        watched, watcher = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
        received = np.zeros(1, np.int64)
        sent: list[tuple[Request, np.ndarray]] = []
        since, seen, named = time.monotonic(), (0, 0), False
        while not self._over.wait(_PERIOD):
            sent = [(request, value) for request, value in sent if not request.Test()]
            if len(sent) < 10:  # a rank that receives nothing is sent nothing more
                value = np.array([self._step], np.int64)
                sent.append((comm.Isend(value, watcher, _TAG), value))
            heard = False
            while comm.Iprobe(watched, _TAG):
                comm.Recv(received, watched, _TAG)
                heard = True
            now = time.monotonic()
            state = (int(received[0]), self._step)
            if state != seen or (heard and received[0] >= self._step):
                since, seen, named = now, state, False
            elif self._warn and now - since >= self._warn and not named:
                named = True
                self._name(watched, now - since, heard)
            if self._limit and now - since >= self._limit:
                self._end(watched, now - since, heard)
        for request, _ in sent:
            request.Cancel()
            request.Free()

    def _name(self, rank: int, seconds: float, heard: bool) -> None:
        log.warning(self._text(rank, seconds, heard))

    def _end(self, rank: int, seconds: float, heard: bool) -> None:
        report(f"{self._text(rank, seconds, heard)}; ending the job")
        self._comm.Abort(1)

    def _text(self, rank: int, seconds: float, heard: bool) -> str:
        state = "has not reached the next step" if heard else "gives no sign of life"
        return f"rank {rank} on {self._hosts[rank]} {state} for {seconds:.0f} s"
