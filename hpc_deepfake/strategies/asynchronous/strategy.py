"""Asynchronous data parallel training with parameter servers.

Workers fetch weights and send gradients without waiting for each other, and servers apply each
gradient as it arrives: Downpour SGD (Dean et al. 2012, "Large scale distributed deep networks").
The age of gradients can be bounded, as with stale-synchronous parallel clocks (Ho et al. 2013), and
can scale the learning rate (Zhang et al. 2016, "Staleness-aware async-SGD").
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import keras
import numpy as np
import tensorflow as tf
from mpi4py import MPI

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.mpi import wait
from hpc_deepfake.network.base import refuse_constraints
from hpc_deepfake.network.optimizer import Optimizer, optimizer_of
from hpc_deepfake.network.settings import Course, Settings
from hpc_deepfake.strategies.asynchronous.link import Link
from hpc_deepfake.strategies.asynchronous.server import Server
from hpc_deepfake.strategies.asynchronous.wire import Wire
from hpc_deepfake.strategies.base import DIVERGED, Arrays, Batch, Done, R, T
from hpc_deepfake.strategies.layout import Layout
from hpc_deepfake.strategies.sequential import INPUTS, Sequential


class Async(Sequential):
    """The first ranks are servers, the others are workers; evaluation uses all ranks.

    A step is one worker's gradient over ``batch_size × accumulate`` rows. The first server hands
    out the steps of an epoch in order, so a fast worker takes more of them. While a worker
    computes, a thread of it sends the previous gradient and fetches the weights for the next step.
    Between rounds (at the end of an epoch, for a checkpoint, to stop) no message is under way.
    """

    name = "async"
    lockstep = False

    def __init__(self, model: keras.Model, settings: Settings, comm: MPI.Comm,
                 layout: Layout | None = None) -> None:
        super().__init__(model, settings, comm, layout)
        refuse_constraints(self.weights, self.name)
        if MPI.Query_thread() != MPI.THREAD_MULTIPLE:
            raise InputError("this MPI does not support calls from several threads, which "
                             "--strategy async needs: use sync or local-sgd", everywhere=True)
        self.share = 0, 1
        self._talk = comm.Dup()  # so that its messages can't be mistaken for others
        self._wire = Wire(self.weights.trainable, self.layout.servers, settings.compression)
        own = self._wire.own.as_numpy_dtype
        statistics = sum(v.shape.num_elements() for v in self.weights.moving)
        # buffers for flat weights: the kernel, and the rest with the moving statistics
        self._kernel = np.empty(self._wire.bounds[-1], own)
        self._rest = np.empty(self._wire.rest + statistics, own)
        self._server: Server | None = None
        self._link: Link | None = None
        self._idle_since = 0.0
        if comm.rank < self.layout.servers:
            self._server = Server(self._talk, self._wire, settings, self.layout, self.weights)
        else:
            self._link = Link(self._talk, self._wire, self.layout.servers, self._kernel,
                              self._rest[:self._wire.rest])

    def _optimizer(self) -> Optimizer:
        """One of no weights: the servers update them."""
        return optimizer_of(self.settings, [], 1)

    def begin(self, course: Course) -> None:
        if self._server is not None:
            self._server.optimizer.schedule.begin(course)

    def swap(self) -> None:
        if self._server is not None:
            self._server.optimizer.swap()
        self._spread()

    def deal(self, items: Sequence[T], load: Callable[[T], R],
             first: int) -> Iterator[tuple[int, R | None]]:
        if self._server is not None:
            for number in self._server.serve(len(items), first, self.wishes):
                yield number, None
        elif self._link is not None:
            yield from self._work(self._link, items, load)

    def _work(self, link: Link, items: Sequence[T],
              load: Callable[[T], R]) -> Iterator[tuple[int, R]]:
        """``deal`` on a worker."""
        with ThreadPoolExecutor(1) as pool:
            def begin(number: int) -> Future[R]:
                return pool.submit(load, items[number])

            link.ask(begin)
            while True:
                began = time.perf_counter()
                work = link.next()
                if work is None:
                    self._idle_since = began
                    return
                self._set(tf.constant(self._kernel), tf.constant(self._rest[:self._wire.rest]))
                link.ask(begin)
                self.idle = time.perf_counter() - began
                yield work.number, work.rows.result()

    def launch(self, batches: Sequence[Batch], rows: int, step: int, wishes: int = 0) -> Done:
        return self.step(batches, rows, step, wishes)

    def landed(self) -> None:
        """Nothing: a gradient is waited for, since it is sent from the host's memory."""

    def step(self, batches: Sequence[Batch], rows: int, step: int, wishes: int = 0) -> Done:
        self._facts.tell(rows=rows, wishes=wishes)
        *earlier, last = batches
        for batch in earlier:
            self._hold(*self._inputs(batch))
        kernel, rest = self._gradient(*self._inputs(last))
        if self._link is not None:  # a server's ``deal`` gives nothing to compute
            sent = rest.numpy()
            if sent[-2] >= DIVERGED and self.diverged_at is None:
                self.diverged_at = step
            self._link.push(np.asarray(memoryview(kernel)), sent)
        return Done()  # ``settle`` reports what the servers did with it

    def settle(self, spent: dict[str, float]) -> tuple[Done, dict[str, float]]:
        wait(self._talk.Ibarrier())  # by polling: a slow worker may take long
        server = self._server
        if server is None:  # up to here, so that the stages of all workers add up to the same time
            spent["communication"] += time.perf_counter() - self._idle_since
        updates, rows, loss, right, wishes, staleness, applying = self._talk.bcast(server and (
            server.updates, *server.sums.tolist(),
            {str(age): count for age, count in sorted(server.staleness.items())},
            server.applying))
        local = np.array(list(spent.values())) * (server is None)
        total = np.empty_like(local)
        self._talk.Allreduce(local, total)
        self._spread()
        counts = {"staleness": staleness, "server": {"applying_s": applying}}
        workers = self._talk.size - self.layout.servers
        return (Done(updates, round(rows), loss, right, round(wishes), counts=counts),
                dict(zip(spent, (total / workers).tolist(), strict=True)))

    def finite(self) -> bool:
        slots = [slot for slots in self._moments() for slot in slots]
        return super().finite() and all(np.isfinite(slot.numpy()).all() for slot in slots)

    def state(self) -> Arrays:
        arrays = self.whole()
        for kernel, *rest in self._moments():
            flat = self._collect(kernel)
            if rest:  # the first server
                arrays += [tensor.numpy() for tensor in self._wire.shaped(flat, rest[0])]
        return arrays

    def load(self, state: Arrays | None) -> None:
        trained = len(self.weights.trainable)
        moments = []
        if state is not None:
            weights = len(self.variables)
            for variable, value in zip(self.variables, state[:weights], strict=True):
                variable.assign(value)
            moments = [state[at:at + trained] for at in range(weights, len(state), trained)]
        if self._talk.rank == 0:
            self._fill(*self._wire.flat(self.weights.trainable))
        wait(self._talk.Ibcast(self._kernel))
        wait(self._talk.Ibcast(self._rest))
        self._assign()
        for variable in self.weights.fixed:
            value = variable.numpy()
            wait(self._talk.Ibcast(value))
            variable.assign(value)
        if self._server is not None:
            values = self._kernel[self._wire.piece(self._talk.rank)], self._rest[:self._wire.rest]
            for variable, value in zip(self._server.weights, values, strict=False):
                variable.assign(value)
        if self._talk.bcast(bool(moments)):
            for number, (kernel, *rest) in enumerate(self._moments()):
                flat = self._wire.flat(moments[number]) if moments else (None, None)
                self._hand_out(kernel, flat[0])
                for variable in rest:
                    variable.assign(flat[1])

    def _moments(self) -> list[list[tf.Variable]]:
        """The optimizer's state as this server's flat variables; nothing on workers.

        Each item is a kernel piece, on the first server followed by the rest."""
        if self._server is None:
            return []
        each, slots = len(self._server.weights), self._server.optimizer.slots
        return [list(slots[at:at + each]) for at in range(0, len(slots), each)]

    def _collect(self, piece: tf.Variable) -> np.ndarray | None:
        """On the first server, the whole of a kernel from the servers' pieces; collective among
        them."""
        if self._talk.rank:
            wait(self._talk.Isend(piece.numpy(), 0))
            return None
        whole = np.empty_like(self._kernel)
        whole[self._wire.piece(0)] = piece.numpy()
        for place in range(1, self.layout.servers):
            wait(self._talk.Irecv(whole[self._wire.piece(place)], place))
        return whole

    def _hand_out(self, piece: tf.Variable, whole: tf.Tensor) -> None:
        """The inverse of ``_collect``; ``whole`` is used on the first server only."""
        values = np.empty(piece.shape, self._kernel.dtype)
        if self._talk.rank:
            wait(self._talk.Irecv(values, 0))
        else:
            kernel = whole.numpy()
            values[:] = kernel[self._wire.piece(0)]
            for place in range(1, self.layout.servers):
                wait(self._talk.Isend(kernel[self._wire.piece(place)], place))
        piece.assign(values)

    def _spread(self) -> None:
        """Give all ranks the servers' weights; collective."""
        if self._server is not None:
            kernel, *rest = self._server.weights
            self._kernel[self._wire.piece(self._talk.rank)] = kernel.numpy()
            if rest:
                self._fill(None, rest[0])
        for place in range(self.layout.servers):
            wait(self._talk.Ibcast(self._kernel[self._wire.piece(place)], place))
        wait(self._talk.Ibcast(self._rest))
        self._assign()

    def _fill(self, kernel: tf.Tensor | None, rest: tf.Tensor) -> None:
        """Copy flat weights and this rank's moving statistics into the buffers."""
        if kernel is not None:
            self._kernel[:] = kernel.numpy()
        self._rest[:] = np.concatenate([rest.numpy(), *(v.numpy() for v in self.weights.moving)])

    def _assign(self) -> None:
        """Set the weights to those in the buffers, moving statistics included."""
        rest, moving = np.split(self._rest, [self._wire.rest])
        self._set(tf.constant(self._kernel), tf.constant(rest))
        ends = np.cumsum([v.shape.num_elements() for v in self.weights.moving])
        for variable, value in zip(self.weights.moving, np.split(moving, ends)[:-1], strict=True):
            variable.assign(value)

    @tf.function(autograph=False)
    def _set(self, kernel: tf.Tensor, rest: tf.Tensor) -> None:
        for variable, value in zip(self.weights.trainable, self._wire.shaped(kernel, rest),
                                   strict=True):
            variable.assign(value)

    @tf.function(autograph=False, input_signature=INPUTS)
    def _gradient(self, *batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """A gradient as it is sent: the kernel, and the rest with batch statistics, sums and the
        kernel's scale."""
        now = self._facts.now()
        rows = tf.cast(now.rows, self._own)
        parts = self._total(self._parts(*batch), now.wishes)
        kernel, rest = self._wire.flat(self._clip(parts.gradients))
        kernel, scale = self._wire.pack(kernel)
        return kernel, tf.concat([rest, *parts.batch, tf.stack([rows, *parts.sums, scale])], 0)
