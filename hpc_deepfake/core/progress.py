"""Progress of long work: one line rewritten on a terminal, a plain line at intervals elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from hpc_deepfake.core import quiet, watchdog
from hpc_deepfake.core.mpi import wait

if TYPE_CHECKING:
    from mpi4py.MPI import Comm, Request

T = TypeVar("T")
_TAG_COUNT, _TAG_LAST = 1, 2
_TERMINAL_INTERVAL = 0.5  # seconds


class Line:
    """A line on standard error: rewritten on a terminal, printed as a new line elsewhere."""

    def __init__(self, shown: bool = True, interval: float = 10.0) -> None:
        """
        Args:
            shown: whether this process shows a line at all.
            interval: seconds between two plain lines; 0 to show the line on a terminal only.
        """
        self.terminal = shown and sys.stderr.isatty()
        self.interval = _TERMINAL_INTERVAL if self.terminal else interval
        self._on = shown and self.interval > 0
        self._last = time.monotonic()
        self._open = False

    def due(self) -> bool:
        """Whether it is time for the next line; if so, the interval starts again."""
        watchdog.advance()
        now = time.monotonic()
        if not self._on or now - self._last < self.interval:
            return False
        self._last = now
        return True

    def show(self, text: str) -> None:
        """Replace the line on a terminal; print it elsewhere."""
        if self.terminal:
            print(f"\r\033[K{text}", end="", file=quiet.stderr(), flush=True)
            self._open = True
        elif self._on:
            print(text, file=quiet.stderr(), flush=True)

    def clear(self) -> None:
        """Remove the line from the terminal."""
        if self._open:
            print("\r\033[K", end="", file=quiet.stderr(), flush=True)
            self._open = False


def counted(items: Iterable[T], total: int, unit: str, shown: bool = True) -> Iterator[T]:
    """``items``, with a progress line about how many of ``total`` are done."""
    line, start = Line(shown), time.monotonic()
    for done, item in enumerate(items):
        if line.due():
            line.show(_text(done, total, unit, time.monotonic() - start))
        yield item
    line.clear()


class Count:
    """A count of pieces of work, with progress lines."""

    def __init__(self, total: int, unit: str, line: Line) -> None:
        """
        Args:
            total: number of pieces.
            unit: what a piece is called, in the plural.
            line: shows the count.
        """
        self._total, self._unit, self._line = total, unit, line
        self._done, self._start = 0, time.monotonic()

    def advance(self, count: int = 1) -> None:
        """Count ``count`` more pieces as done."""
        self._done += count
        if self._line.due():
            self._show()

    def close(self) -> None:
        """The work is over."""
        self._line.clear()

    def _show(self) -> None:
        self._line.show(_text(self._done, self._total, self._unit,
                              time.monotonic() - self._start))


class Progress(Count):
    """A count over all ranks that makes no rank wait.

    The ranks send their counts to rank 0, which receives them between two pieces of its own work.
    """

    def __init__(self, comm: Comm, total: int, unit: str, interval: float = 10.0) -> None:
        """Collective.

        Args:
            comm: the ranks that work; it is duplicated.
            total: number of pieces over all ranks.
            unit: what a piece is called, in the plural.
            interval: seconds between two plain lines.
        """
        super().__init__(total, unit, Line(comm.rank == 0, interval))
        self._comm = comm.Dup()
        self._counts = [0] * comm.size
        self._finished = 1
        self._every = _TERMINAL_INTERVAL if comm.rank else self._line.interval
        self._sent: list[Request] = []
        self._last = self._start

    def advance(self, count: int = 1) -> None:
        """Count ``count`` more pieces as done by this rank."""
        watchdog.advance()
        rank = self._comm.rank
        self._counts[rank] += count
        now = time.monotonic()
        if now - self._last >= self._every:  # rarely, since polling MPI may yield the core
            self._last = now
            if rank == 0:
                self._receive()
                self._show()
            else:
                self._send(_TAG_COUNT)

    @watchdog.waits
    def close(self) -> None:
        """Wait, without using the core, until all ranks are done. Collective."""
        if self._comm.rank:
            self._send(_TAG_LAST)
            while not all(request.Test() for request in self._sent):
                time.sleep(0.01)
        else:
            while self._finished < self._comm.size:
                self._receive()
                time.sleep(0.01)
                watchdog.polled()
                if time.monotonic() - self._last >= self._every:
                    self._last = time.monotonic()
                    self._show()
            self._line.clear()
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
        self._done = sum(self._counts)
        super()._show()


def _text(done: int, total: int, unit: str, seconds: float) -> str:
    rate = done / max(seconds, 1e-9)
    left = f"{(total - done) / rate:.0f} s left" if done else ""
    return (f"{done:,} of {total:,} {unit} ({100 * done / max(total, 1):.0f}%)  "
            f"{rate:,.0f}/s  {left}").rstrip()
