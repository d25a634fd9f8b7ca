"""One progress line for all ranks, on rank 0."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from hpc_deepfake.core.mpi import wait

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

_TAG_COUNT, _TAG_LAST = 1, 2


class Progress:
    """Counts over all ranks without making anyone wait.

    The ranks send their running counts to rank 0, which looks for them between two pieces of its
    own work. On a terminal the line is rewritten twice a second; elsewhere a plain line comes
    every ``interval`` seconds.
    """

    def __init__(self, comm: Comm, total: int, unit: str, interval: float = 10.0) -> None:
        self._comm = comm.Dup()
        self._counts = [0] * comm.size
        self._finished = 1
        self._total, self._unit = total, unit
        self._terminal = comm.rank == 0 and sys.stderr.isatty()
        self._every = 0.5 if comm.rank or self._terminal else interval
        self._sent: list = []
        self._start = self._last = time.monotonic()

    def advance(self, count: int = 1) -> None:
        """Note ``count`` more pieces done by this rank."""
        rank = self._comm.rank
        self._counts[rank] += count
        now = time.monotonic()
        if now - self._last >= self._every:  # seldom: a look into MPI may yield the core
            self._last = now
            if rank == 0:
                self._receive()
                self._show()
            else:
                self._send(_TAG_COUNT)

    def close(self) -> None:
        """Wait, without using the core, until all ranks are done; collective."""
        if self._comm.rank:
            self._send(_TAG_LAST)
            while not all(request.Test() for request in self._sent):
                time.sleep(0.01)
        else:
            while self._finished < self._comm.size:
                self._receive()
                time.sleep(0.01)
                if time.monotonic() - self._last >= self._every:
                    self._last = time.monotonic()
                    self._show()
            if self._terminal:
                print("\r\033[K", end="", file=sys.stderr, flush=True)
        wait(self._comm.Ibarrier())
        self._comm.Free()

    def _send(self, tag: int) -> None:
        self._sent = [request for request in self._sent if not request.Test()]
        self._sent.append(self._comm.isend(self._counts[self._comm.rank], 0, tag))

    def _receive(self) -> None:
        from mpi4py import MPI

        status = MPI.Status()
        while self._comm.iprobe(MPI.ANY_SOURCE, MPI.ANY_TAG, status):
            source, tag = status.Get_source(), status.Get_tag()
            self._counts[source] = self._comm.recv(None, source, tag)
            self._finished += tag == _TAG_LAST

    def _show(self) -> None:
        done = sum(self._counts)
        seconds = time.monotonic() - self._start
        rate = done / seconds
        left = f"{(self._total - done) / rate:.0f} s left" if done else ""
        line = (f"{done:,} of {self._total:,} {self._unit} "
                f"({100 * done / max(self._total, 1):.0f}%)  {rate:,.0f}/s  {left}")
        if self._terminal:
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)
