"""One rank's part in a pipeline: a schedule's operations, and messages with its neighbours."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hpc_deepfake.core.mpi import wait
from hpc_deepfake.strategies.mesh.mover import PAUSE, Mover
from hpc_deepfake.strategies.mesh.schedule import Operation

if TYPE_CHECKING:
    from mpi4py.MPI import Comm, Request

    from hpc_deepfake.strategies.mesh.trace import Trace

_AHEAD = 2  # receives posted at a time: one message arrives while the one before is worked on


class Direction(NamedTuple):
    """What a stage does in forward or backward passes.

    Attributes:
        work: computes a micro-batch, given its number and what a neighbour sent (None at the end
            of the pipeline); returns what the other neighbour receives (None at the end).
        buffer: an empty array to receive into, given the number of the micro-batch.
    """

    work: Callable[[int, np.ndarray | None], np.ndarray | None]
    buffer: Callable[[int], np.ndarray]


class Pipeline:
    """Sends activations to the next stage and gradients to the previous one, by non-blocking MPI.

    Receives are posted early and sends are waited for only at the end of the step, so a message
    travels while both ends compute. MPI sees host memory only: the output of a stage is copied
    from a GPU.

    Attributes:
        comm: for these messages only.
        before: rank of the previous stage; None at the start.
        after: rank of the next stage; None at the end.
        live: micro-batches whose backward pass has not followed yet.
        most_live: maximum number of these at the same time, so far.
        waited: seconds that the last step waited for neighbours.
        sent: bytes that it sent.
    """

    def __init__(self, comm: Comm, before: int | None, after: int | None,
                 trace: Trace | None = None, pause: float = PAUSE) -> None:
        """
        Args:
            comm: for these messages only.
            before: rank of the previous stage; None at the start.
            after: rank of the next stage; None at the end.
            trace: records the work and the messages.
            pause: of ``Mover``.
        """
        self.comm, self.before, self.after, self.trace = comm, before, after, trace
        self._mover: AbstractContextManager[None] = \
            nullcontext() if before is after is None else Mover(comm, pause)
        self.live: set[int] = set()
        self.most_live = self._messages = 0
        self.waited, self.sent = 0.0, 0

    def run(self, order: Sequence[Operation], directions: Mapping[str, Direction]) -> None:
        """Do the operations.

        Args:
            order: the operations; only forward passes in evaluation.
            directions: what to do in ``forward`` and ``backward`` passes.
        """
        self.waited, self.sent = 0.0, 0
        training = "backward" in directions
        expected = [(op, source) for op in order if (source := self._source(op)) is not None]
        incoming: list[_Message] = []
        outgoing: list[_Message] = []
        for op in order:
            direction = directions[op.kind]
            while expected and len(incoming) < _AHEAD:
                incoming.append(self._receive(*expected.pop(0), directions))
            received = None
            if incoming and incoming[0].operation == op:
                received = self._finish(incoming.pop(0))
            began = time.perf_counter()
            if op.kind == "forward" and training:
                self.live.add(op.micro)
                self.most_live = max(self.most_live, len(self.live))
            with self._mover if incoming or outgoing else nullcontext():
                output = direction.work(op.micro, received)
            if op.kind == "backward":
                self.live.discard(op.micro)
            if self.trace is not None:
                self.trace.work(op.kind, began, time.perf_counter(), micro=op.micro)
            target = self.after if op.kind == "forward" else self.before
            if target is not None:
                assert output is not None, "only the stages at the ends have no output"
                outgoing.append(self._send(op, output, target))
            outgoing = [message for message in outgoing if not self._gone(message)]
        for message in outgoing:
            self._finish(message)

    def _source(self, operation: Operation) -> int | None:
        """The neighbour whose message an operation needs."""
        return self.before if operation.kind == "forward" else self.after

    def _receive(self, operation: Operation, source: int,
                 directions: Mapping[str, Direction]) -> _Message:
        buffer = directions[operation.kind].buffer(operation.micro)
        request = self.comm.Irecv(as_bytes(buffer), source, _tag(operation))
        return _Message(operation, "receive", source, buffer, request)

    def _send(self, operation: Operation, values: np.ndarray, target: int) -> _Message:
        values = np.ascontiguousarray(values)
        self.sent += values.nbytes
        return _Message(operation, "send", target, values,
                        self.comm.Isend(as_bytes(values), target, _tag(operation)))

    def _finish(self, message: _Message) -> np.ndarray:
        """Wait for a message; its array."""
        peer, micro, what = message.peer, message.operation.micro, message.what
        began = time.perf_counter()
        self.waited += wait(message.request)
        self._note(message)
        if self.trace is not None:
            self.trace.work("wait", began, time.perf_counter(), peer=peer, what=what, micro=micro)
        return message.values

    def _gone(self, message: _Message) -> bool:
        """Whether a message was sent; the test also lets MPI move the others."""
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
    """A message under way. Its array must exist until the request is complete."""

    def __init__(self, operation: Operation, way: str, peer: int, values: np.ndarray,
                 request: Request) -> None:
        self.operation, self.way, self.peer = operation, way, peer
        self.values, self.request = values, request
        self.what = "activations" if operation.kind == "forward" else "gradients"
        self.began = time.perf_counter()


def as_bytes(values: np.ndarray) -> Any:
    """A buffer for MPI of an array of any type, as MPI does not support bfloat16."""
    return values.reshape(-1).view(np.uint8)


def _tag(operation: Operation) -> int:
    return 2 * operation.micro + (operation.kind == "backward")
