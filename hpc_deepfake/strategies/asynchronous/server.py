"""A parameter server, which holds a piece of the weights and applies gradients as they arrive."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from hpc_deepfake.core import watchdog
from hpc_deepfake.core.mpi import wait
from hpc_deepfake.network.batchnorm import update_moving
from hpc_deepfake.network.optimizer import Decays, decay_mask, decaying, optimizer_of
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.strategies.asynchronous.admission import Admission
from hpc_deepfake.strategies.asynchronous.link import (
    ASK,
    GRANT,
    KERNEL,
    ORDER,
    OVER,
    REST,
    SMALL,
    WEIGHTS,
    WISH,
    bits,
)
from hpc_deepfake.strategies.asynchronous.wire import Wire
from hpc_deepfake.strategies.layout import Layout

if TYPE_CHECKING:
    from mpi4py.MPI import Comm, Request

    from hpc_deepfake.network.base import Network

_END, _SEND, _APPLY = range(3)  # what the first server orders the others to do
_PAUSE = 0.0001, 0.001  # seconds between two polls: at first, and at most
_BUFFERS = 2  # number of gradients that can be received while another is applied


@dataclass
class _Push:
    """A gradient that a worker has sent.

    Attributes:
        worker: its rank.
        job: number of the step in this round.
        rest: received; with batch statistics, sums and the kernel's scale behind.
        kernel: buffer and request of the kernel's piece, once they are posted.
    """

    worker: int
    job: int
    rest: np.ndarray
    kernel: tuple[np.ndarray, Request] | None = None


class Server:
    """Holds one piece of the kernel; the first server also holds the rest and decides for all.

    All servers apply the same gradients in the same order, which the first server dictates. So a
    version of the weights is the same on all servers, a worker receives all pieces in one version,
    and staleness is a single number.

    Attributes:
        weights: flat variables: the piece of the kernel, and on the first server the rest.
        optimizer: updates them.
        sums: rows, losses, correct classifications and requests of the last round.
        staleness: number of updates of the last round, by their staleness.
        updates: number of updates of the last round.
        applying: seconds that they took.
    """

    def __init__(self, comm: Comm, wire: Wire, settings: Settings, layout: Layout,
                 network: Network) -> None:
        self._comm, self._wire, self._layout, self._network = comm, wire, layout, network
        self._first = comm.rank == 0
        self._workers = range(layout.servers, comm.size)
        piece = wire.piece(comm.rank)
        sizes = [piece.stop - piece.start] + [wire.rest] * self._first
        self.weights = [tf.Variable(tf.zeros(size, wire.own), trainable=False) for size in sizes]
        large = [wire.trainable[place] for place in wire.large]
        decays: list[Decays] = [decaying(large[0]) if len(large) == 1
                                else decay_mask(large)[piece],
                                *[decay_mask(wire.small)] * self._first]
        self.optimizer = optimizer_of(settings, self.weights, 1, decays)
        self._statistics = sum(v.shape.num_elements() for v in network.moving)
        self._free = [self._buffer() for _ in range(_BUFFERS)]
        self._sends: list[tuple[Request, np.ndarray]] = []
        self._version: list[np.ndarray] = []  # the current weights, once a worker has got them
        self.sums = np.zeros(4)
        self.staleness: Counter[int] = Counter()
        self.updates = 0
        self.applying = 0.0

    def serve(self, count: int, first: int, wishes: Callable[[], int]) -> Iterator[int]:
        """Serve one round: until all steps, or after a request of a rank the running ones, are
        applied.

        Args:
            count: number of steps in the round.
            first: number of its first step.
            wishes: returns this rank's requests.

        Yields:
            On the first server, the number of each update.
        """
        self.sums, self.staleness, self.updates, self.applying = np.zeros(4), Counter(), 0, 0.0
        self._version = []
        if self._first:
            yield from self._lead(count, first, wishes)
        else:
            self._follow(wishes)
        for request, _ in self._sends:
            wait(request)
        self._sends = []

    @watchdog.waits
    def _lead(self, count: int, first: int, wishes: Callable[[], int]) -> Iterator[int]:
        """``serve`` on the first server."""
        admission = Admission(self._layout.max_staleness)
        running: dict[int, deque[int]] = {worker: deque() for worker in self._workers}
        asking: deque[int] = deque()
        arrived: list[_Push] = []
        granted, over, pause = 0, 0, _PAUSE[0]
        while over < len(self._workers) or admission.begun:
            moved = self._receive(asking, arrived, running)
            for push in arrived:
                if admission.may_apply(push.job):
                    arrived.remove(push)
                    self._apply_here(push, first + admission.version,
                                     admission.version - admission.begun[push.job])
                    self.staleness[admission.apply(push.job)] += 1
                    running[push.worker].remove(push.job)
                    moved = True
                    yield self.updates - 1
                    break
            requested = wishes() or self.sums[3]
            for worker in list(asking):
                if requested or granted == count:
                    self._post(np.array([OVER], np.int64), worker, GRANT)
                    over += 1
                # at most one job that is computed and one whose weights are fetched, so that
                # gradients don't pile up; near the end only one, since a slow worker with two jobs
                # would hold up the others
                elif len(running[worker]) < 1 + (count - granted > len(self._workers)) \
                        and admission.may_begin():
                    admission.begin(granted)
                    running[worker].append(granted)
                    self._post(np.array([granted], np.int64), worker, GRANT)
                    self._order(_SEND, worker)
                    self._send(worker)
                    granted += 1
                else:
                    continue
                asking.remove(worker)
                moved = True
            self._sends = [sent for sent in self._sends if not sent[0].Test()]
            if moved:
                pause = _PAUSE[0]
                continue
            time.sleep(pause)
            pause = min(2 * pause, _PAUSE[1])
        self.sums[3] += wishes()
        self._order(_END, 0)

    def _receive(self, asking: deque[int], arrived: list[_Push],
                 running: dict[int, deque[int]]) -> bool:
        """Receive what has arrived; whether anything has."""
        from mpi4py import MPI

        status, moved, wish = MPI.Status(), False, np.empty(1, np.int64)
        while self._comm.Iprobe(MPI.ANY_SOURCE, WISH):
            self._comm.Recv(wish, MPI.ANY_SOURCE, WISH)
            self.sums[3] += wish[0]
        while self._comm.Iprobe(MPI.ANY_SOURCE, ASK, status):
            self._comm.Recv(np.empty(0, np.int64), status.source, ASK)
            asking.append(status.source)
            moved = True
        while self._comm.Iprobe(MPI.ANY_SOURCE, REST, status):
            worker = status.source
            rest = np.empty(self._wire.rest + self._statistics + 5, self._wire.own.as_numpy_dtype)
            self._comm.Recv(rest, worker, REST)
            # a worker's gradients come in the order in which it began them
            before = sum(push.worker == worker for push in arrived)
            arrived.append(_Push(worker, running[worker][before], rest))
            moved = True
        for push in arrived:
            if push.kernel is None and self._free:
                self._fetch(push, self._free.pop())
        return moved

    @watchdog.works
    def _apply_here(self, push: _Push, step: int, staleness: int) -> None:
        """Apply a gradient on this server, and order the other servers to do so."""
        scale = push.rest[-1]
        self._order(_APPLY, push.worker, step, staleness, round(math.log2(scale)))
        # without a request all buffers are in use by gradients that have to wait
        kernel, request = push.kernel or self._fetch(push, self._buffer())
        wait(request, 0.001)
        rest, statistics, sums = np.split(
            push.rest[:-1], [self._wire.rest, self._wire.rest + self._statistics])
        began = time.perf_counter()
        self._update([self._in(kernel, scale), tf.constant(rest)], tf.constant(statistics), step,
                     staleness)
        self.applying += time.perf_counter() - began
        if len(self._free) < _BUFFERS:
            self._free.append(kernel)
        self.sums += sums
        self.updates += 1

    @watchdog.waits
    def _follow(self, wishes: Callable[[], int]) -> None:
        """``serve`` on the other servers: follow the first server's orders."""
        order, requested = np.empty(5, np.int64), False
        while True:
            request = self._comm.Irecv(order, 0, ORDER)
            pause = _PAUSE[0]
            while not request.Test():
                if wishes() and not requested:
                    self._post(np.array([wishes()], np.int64), 0, WISH)
                    requested = True
                time.sleep(pause)
                pause = min(2 * pause, _PAUSE[1])
            what, worker, step, staleness, power = order.tolist()
            if what == _END:
                return
            if what == _SEND:
                self._send(worker)
                self._sends = [sent for sent in self._sends if not sent[0].Test()]
            else:
                kernel = self._free[0]
                wait(self._comm.Irecv(bits(kernel), worker, KERNEL), 0.001)
                self._update([self._in(kernel, 2.0**power)], tf.zeros(0, self._wire.own), step,
                             staleness)

    def _update(self, gradients: list[tf.Tensor], statistics: tf.Tensor, step: int,
                staleness: int) -> None:
        """Make the next version of the weights."""
        self._version = []
        self._sends = [sent for sent in self._sends if not sent[0].Test()]  # held no longer
        self._apply(gradients, statistics, tf.constant(step, tf.int64), self._factor(staleness))

    def _order(self, what: int, worker: int, step: int = 0, staleness: int = 0,
               power: int = 0) -> None:
        """Order the other servers to do something; ``power`` of two is the gradient's scale."""
        for other in range(1, self._layout.servers):
            self._post(np.array([what, worker, step, staleness, power], np.int64), other, ORDER)

    def _send(self, worker: int) -> None:
        """Send this server's part of the current weights.

        They are not copied, however many workers get the same version: an update writes into new
        memory while somebody holds the old one (TensorFlow copies on write)."""
        if not self._version:
            self._version = [np.asarray(memoryview(variable.read_value()))
                             for variable in self.weights]
        for values, tag in zip(self._version, (WEIGHTS, SMALL), strict=False):
            self._post(values, worker, tag)

    def _post(self, values: np.ndarray, rank: int, tag: int) -> None:
        self._sends.append((self._comm.Isend(values, rank, tag), values))

    def _fetch(self, push: _Push, buffer: np.ndarray) -> tuple[np.ndarray, Request]:
        """Start to receive the kernel's piece of a gradient."""
        push.kernel = buffer, self._comm.Irecv(bits(buffer), push.worker, KERNEL)
        return push.kernel

    def _buffer(self) -> np.ndarray:
        return np.empty(self.weights[0].shape[0], self._wire.kernel_type)

    def _in(self, kernel: np.ndarray, scale: float) -> tf.Tensor:
        return self._wire.unpack(tf.constant(kernel), tf.constant(scale, self._wire.own))

    def _factor(self, staleness: int) -> tf.Tensor:
        """Factor on the learning rate: with ``--staleness-rate`` one over the staleness (Zhang et
        al. 2016)."""
        divide = self._layout.staleness_rate
        return tf.constant(1 / max(staleness, 1) if divide else 1.0, tf.float64)

    @tf.function(autograph=False)
    def _apply(self, gradients: list[tf.Tensor], statistics: tf.Tensor, step: tf.Tensor,
               factor: tf.Tensor) -> None:
        self.optimizer.apply(gradients, step, factor)
        moving = self._network.moving
        if self._first and moving:
            pieces = tf.split(statistics, [v.shape[0] for v in moving])
            update_moving(moving, pieces, step + 1, self._network.momenta)
