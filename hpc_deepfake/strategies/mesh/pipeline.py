"""One rank's part in a pipeline: a schedule's operations, with neighbours' messages meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc_deepfake.core.mpi import wait
from hpc_deepfake.strategies.mesh.mover import Mover
from hpc_deepfake.strategies.mesh.schedule import Operation

if TYPE_CHECKING:
    from mpi4py.MPI import Comm, Request

    from hpc_deepfake.strategies.mesh.trace import Trace

_AHEAD = 2  # receives posted at a time: one arrives while the one before is worked on

# (micro-batch, what the neighbour sent or None) → what the other neighbour gets, or None
Work = Callable[[int, "np.ndarray | None"], "np.ndarray | None"]
# (rank, seconds that it was waited for so far)
Overdue = Callable[[int, float], None]
# micro-batch → an empty array for what will be received
Room = Callable[[int], np.ndarray]


class Pipeline:
    """Activations go to the stage after, gradients to the one before, by non-blocking MPI.

    Receives are posted before they are needed and sends are waited for only at the step's end, so
    a message travels while both ends compute. MPI sees host memory only: what a stage gives is
    copied from a GPU.

    Attributes:
        live: micro-batches that went forward and not yet back. most_live: so far, at a time.
        waited: seconds that the last step waited for neighbours. sent: its bytes.
    """

    def __init__(self, comm: Comm, before: int | None, after: int | None,
                 trace: Trace | None = None, overdue: Overdue | None = None) -> None:
        """``comm`` is for this alone; ``before`` and ``after`` are ranks there, of the neighbour
        stages; None at the ends. ``overdue`` hears of one that is waited for too long."""
        self._overdue = overdue
        self.comm, self.before, self.after, self.trace = comm, before, after, trace
        self._mover = None if before is after is None else Mover(comm)
        self.live: set[int] = set()
        self.most_live = self._messages = 0
        self.waited, self.sent = 0.0, 0

    def run(self, order: Sequence[Operation], forward: Work, backward: Work | None,
            activation: Room, gradient: Room | None = None) -> None:
        """Do the operations; a list of forward passes alone is one for validation."""
        self.waited, self.sent = 0.0, 0
        wanted = [op for op in order if self._giver(op) is not None]
        coming: list[_Message] = []
        going: list[_Message] = []
        for op in order:
            while wanted and len(coming) < _AHEAD:
                room = activation if wanted[0].kind == "forward" else gradient
                coming.append(self._receive(wanted[0], room(wanted[0].micro)))
                wanted.pop(0)
            given = None
            if coming and coming[0].operation == op:
                given = self._finish(coming.pop(0))
            began = time.perf_counter()
            if op.kind == "forward" and backward is not None:
                self.live.add(op.micro)
                self.most_live = max(self.most_live, len(self.live))
            with self._mover if coming or going else nullcontext():
                made = (forward if op.kind == "forward" else backward)(op.micro, given)
            if op.kind == "backward":
                self.live.discard(op.micro)
            if self.trace is not None:
                self.trace.work(op.kind, began, time.perf_counter(), micro=op.micro)
            taker = self.after if op.kind == "forward" else self.before
            if taker is not None:
                going.append(self._send(op, made, taker))
            going = [message for message in going if not self._gone(message)]
        for message in going:
            self._finish(message)

    def _giver(self, operation: Operation) -> int | None:
        return self.before if operation.kind == "forward" else self.after

    def _receive(self, operation: Operation, room: np.ndarray) -> _Message:
        request = self.comm.Irecv(as_bytes(room), self._giver(operation), _tag(operation))
        return _Message(operation, "receive", self._giver(operation), room, request)

    def _send(self, operation: Operation, values: np.ndarray, taker: int) -> _Message:
        values = np.ascontiguousarray(values)
        self.sent += values.nbytes
        return _Message(operation, "send", taker, values,
                        self.comm.Isend(as_bytes(values), taker, _tag(operation)))

    def _finish(self, message: _Message) -> np.ndarray:
        peer, micro, what = message.peer, message.operation.micro, message.what
        began = time.perf_counter()
        self.waited += wait(message.request, overdue=partial(self._overdue, peer)
                            if self._overdue else None)
        self._note(message)
        if self.trace is not None:
            self.trace.work("wait", began, time.perf_counter(), peer=peer, what=what, micro=micro)
        return message.values

    def _gone(self, message: _Message) -> bool:
        """Whether a send is through; asking also lets MPI move the others."""
        done = message.request.Test()
        if done:
            self._note(message)
        return done

    def _note(self, message: _Message) -> None:
        if self.trace is not None:
            self._messages += 1
            self.trace.flight(f"{message.way} {message.what}", self._messages, message.began,
                              time.perf_counter(), micro=message.operation.micro,
                              peer=message.peer, bytes=message.values.nbytes)


class _Message:
    """One under way. The array must live until it is through."""

    def __init__(self, operation: Operation, way: str, peer: int, values: np.ndarray,
                 request: Request) -> None:
        self.operation, self.way, self.peer = operation, way, peer
        self.values, self.request = values, request
        self.what = "activations" if operation.kind == "forward" else "gradients"
        self.began = time.perf_counter()


def as_bytes(values: np.ndarray) -> Any:
    """A buffer for MPI of an array of any type (MPI knows no bfloat16)."""
    return values.reshape(-1).view(np.uint8)


def _tag(operation: Operation) -> int:
    return 2 * operation.micro + (operation.kind == "backward")
