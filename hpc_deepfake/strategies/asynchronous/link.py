"""A worker's connection to the parameter servers: a thread beside the one that computes."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from hpc_deepfake.core import watchdog

if TYPE_CHECKING:
    from mpi4py.MPI import Comm, Request

# Tags of messages. Kernel pieces go between a worker and each server; the others between a worker
# and the first server. The other servers send their requests (WISH) to the first.
ASK, GRANT, KERNEL, REST, WEIGHTS, SMALL, ORDER, WISH = range(1, 9)
OVER = -1  # sent in place of a step's number: there is no more work in this round
_PAUSE = 0.0001, 0.001  # seconds between two polls: at first, and at most


class Cut(Protocol):
    """How the flat kernel is cut, as ``Wire`` does it."""

    def piece(self, place: int) -> slice:
        """The piece that server ``place`` holds."""


class Work(NamedTuple):
    """The next step of a worker; its weights are in the link's buffers.

    Attributes:
        number: of the step.
        rows: its rows, which may still be loading.
    """

    number: int
    rows: Future[Any]


class Link(threading.Thread):
    """A thread that asks for work, receives weights and sends gradients."""

    def __init__(self, comm: Comm, wire: Cut, servers: int, kernel: np.ndarray,
                 rest: np.ndarray) -> None:
        """Start the thread.

        Args:
            comm: for this link's messages only.
            wire: how the weights are cut.
            servers: number of parameter servers.
            kernel: buffer for the flat kernel; it holds the weights between ``next`` and ``ask``.
            rest: buffer for the other weights, likewise.
        """
        super().__init__(name="link", daemon=True)
        self._comm, self._wire, self._servers = comm, wire, servers
        self._kernel, self._rest = kernel, rest
        self._to_do: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Work | BaseException | None] = queue.SimpleQueue()
        self._sends: list[tuple[Request, np.ndarray]] = []
        # requests, and what to call once they are complete
        self._waits: list[tuple[list[Request], Callable[[], None]]] = []
        self.start()

    def ask(self, load: Callable[[int], Future[Any]]) -> None:
        """Ask for the next step; its rows start loading as soon as its number is known."""
        self._to_do.put(lambda: self._ask(load))

    def push(self, kernel: np.ndarray, rest: np.ndarray) -> None:
        """Send a gradient; its arrays must not be changed."""
        self._to_do.put(lambda: self._push(kernel, rest))

    def close(self) -> None:
        """End the thread, when all that was pushed has arrived."""
        self._to_do.put(sys.exit)

    @watchdog.waits
    def next(self) -> Work | None:
        """Wait for the work that was asked for, with its weights; None when the round is over."""
        while True:
            try:
                work = self._done.get(timeout=0.2)  # short, so that signals are handled
            except queue.Empty:
                continue
            if isinstance(work, BaseException):
                raise work
            return work

    def run(self) -> None:
        """The thread's loop."""
        try:
            pause = _PAUSE[0]
            while True:
                idle = not self._sends and not self._waits
                try:
                    self._to_do.get(block=idle)()
                    pause = _PAUSE[0]
                    continue
                except queue.Empty:
                    pass
                if self._progress():
                    pause = _PAUSE[0]
                else:
                    time.sleep(pause)
                    pause = min(2 * pause, _PAUSE[1])
        except BaseException as error:
            self._done.put(error)

    def _progress(self) -> bool:
        """Test all requests; whether any is complete."""
        before = len(self._sends), len(self._waits)
        self._sends = [sent for sent in self._sends if not sent[0].Test()]
        for waiting in list(self._waits):
            requests, then = waiting
            if all(request.Test() for request in requests):
                self._waits.remove(waiting)
                then()
        return (len(self._sends), len(self._waits)) != before

    def _ask(self, load: Callable[[int], Future[Any]]) -> None:
        grant, nothing = np.empty(1, np.int64), np.empty(0, np.int64)
        self._sends.append((self._comm.Isend(nothing, 0, ASK), nothing))

        def granted() -> None:
            number = int(grant[0])
            if number == OVER:
                self._done.put(None)
                return
            work = Work(number, load(number))
            receive = [self._comm.Irecv(self._kernel[self._wire.piece(place)], place, WEIGHTS)
                       for place in range(self._servers)]
            receive.append(self._comm.Irecv(self._rest, 0, SMALL))
            self._waits.append((receive, lambda: self._done.put(work)))

        self._waits.append(([self._comm.Irecv(grant, 0, GRANT)], granted))

    def _push(self, kernel: np.ndarray, rest: np.ndarray) -> None:
        for place in range(self._servers):
            piece = kernel[self._wire.piece(place)]
            self._sends.append((self._comm.Isend(bits(piece), place, KERNEL), piece))
        self._sends.append((self._comm.Isend(rest, 0, REST), rest))


def bits(values: np.ndarray) -> np.ndarray:
    """A view for MPI, which does not support 16-bit floats: as integers."""
    return values.view(np.uint16) if values.itemsize == 2 else values
