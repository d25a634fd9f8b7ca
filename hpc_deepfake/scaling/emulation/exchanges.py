"""The messages of one training step, really sent, with waiting in place of computing.

What is sent, in which order and beside which computing, is that of the strategies: ``sync``
(strategies/sync.py), with ``--compression fp16``, ``hybrid`` (strategies/sharded.py) and
``local-sgd`` (strategies/local.py); those of meshes are in ``meshes.py``. Horovod's thread calls
MPI's blocking collectives one after the other while the rank computes; so does a thread here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from hpc_deepfake.scaling.emulation.plan import CYCLE, Task

if TYPE_CHECKING:
    from mpi4py.MPI import Comm, Intracomm


class Steps:
    """One rank's part in the steps of a task: waiting in place of computing, and a thread that
    calls MPI as Horovod's does.

    Attributes:
        waited: seconds that this rank waited for messages.
    """

    def __init__(self, comm: Intracomm, task: Task) -> None:
        """Collective."""
        self._comm, self._task = comm, task
        self._pool = ThreadPoolExecutor(1)
        self._bits = np.zeros(2, np.int64), np.zeros(2, np.int64)
        self.waited = 0.0

    def step(self, number: int) -> None:
        """Take a step; collective."""
        raise NotImplementedError

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()

    def _start(self, call: Callable[[], None], comm: Comm | None = None) -> Future[None]:
        """Have the thread make a collective call of the ranks of ``comm`` (default: all), after
        those that it was given before."""
        return self._pool.submit(self._call, call, comm or self._comm)

    def _call(self, call: Callable[[], None], comm: Comm) -> None:
        cycle = CYCLE * self._task.slow
        time.sleep(cycle - time.monotonic() % cycle)
        comm.Allreduce(*self._bits)  # the ranks agree on what all have
        call()

    def _wait(self, *calls: Future[None]) -> None:
        began = time.perf_counter()
        for call in calls:
            call.result()
        self.waited += time.perf_counter() - began

    def _busy(self, seconds: float) -> None:
        """Wait in place of computing."""
        time.sleep(seconds * self._task.slow)


class Exchange(Steps):
    """Steps of the data parallel strategies."""

    def __init__(self, comm: Intracomm, task: Task) -> None:
        """Collective; allocates what is sent and received."""
        super().__init__(comm, task)
        sizes = task.sizes
        self._kernel, self._sum = np.ones(sizes.kernel, np.float32), np.ones(
            sizes.kernel, np.float32)
        rest = sizes.rest + (sizes.small * task.moments if task.strategy == "local-sgd" else 0)
        self._rest = np.ones(rest, np.float32), np.empty(rest, np.float32)

    def step(self, number: int) -> None:
        if self._task.strategy == "hybrid":
            self._hybrid()
        elif self._task.strategy == "local-sgd":
            self._local(number)
        else:
            self._sync()

    def _sync(self) -> None:
        compute = self._task.compute
        self._busy(compute.total - compute.update - compute.beside)
        reductions = [self._start(self._reduce_kernel)] if self._task.strategy == "sync" \
            else self._reduce_as_half()
        self._busy(compute.beside)
        self._wait(*reductions, self._start(self._reduce_rest))
        self._busy(compute.update)

    def _reduce_as_half(self) -> list[Future[None]]:
        """Start the reduction of the kernel's gradient as float16, as ``Sync._reduce_as_half``."""
        ranks, rank, numbers = self._comm.size, self._comm.rank, self._task.sizes.kernel
        pieces = [numbers * (place + 1) // ranks - numbers * place // ranks
                  for place in range(ranks)]
        half, every = self._kernel.view(np.uint16), self._sum.view(np.uint16)
        bound = np.zeros(1, np.float32)
        own = half[:pieces[rank]]

        def gather() -> None:
            self._comm.Allgatherv(own, [every[:numbers], pieces])

        return [self._start(lambda: self._comm.Allreduce(bound, np.empty_like(bound))),
                self._start(lambda: self._all_to_all(half, pieces, [pieces[rank]] * ranks)),
                self._start(gather)]

    def _hybrid(self) -> None:
        """A step whose kernel is sharded over all ranks, as ``Sharded.product``."""
        task, compute, ranks = self._task, self._task.compute, self._comm.size
        features, units, rows = task.sizes.features, task.sizes.units, task.batch
        widths = [len(part) for part in np.array_split(np.empty((features, 0)), ranks)]
        own = widths[self._comm.rank]
        gradient = np.ones(rows * units, np.float32)
        theirs, mine = [rows * width for width in widths], [rows * own] * ranks
        self._busy(compute.forward)
        self._wait(self._start(lambda: self._all_to_all(self._kernel, theirs, mine)))
        self._busy(compute.product)
        sums = [rows * units] * ranks
        self._wait(self._start(lambda: self._all_to_all(self._kernel, sums, sums)))
        self._busy(compute.head)
        self._wait(self._start(lambda: self._comm.Allgather(gradient, self._sum[:sum(sums)])))
        self._busy(compute.product)
        backward = self._start(lambda: self._all_to_all(self._kernel, mine, theirs))
        self._busy(compute.product)
        self._wait(backward)
        self._busy(compute.backward)
        self._wait(self._start(self._reduce_rest))
        share = task.sizes.kernel / (task.sizes.kernel + task.sizes.small)
        self._busy(compute.update * (1 - share * (1 - 1 / ranks)))  # of the own rows

    def _local(self, number: int) -> None:
        self._busy(self._task.compute.total)
        if (number + 1) % self._task.every == 0:
            averages = [self._start(self._reduce_rest)]
            averages += [self._start(self._reduce_kernel) for _ in range(1 + self._task.moments)]
            self._wait(*averages)

    def _reduce_kernel(self) -> None:
        self._comm.Allreduce(self._kernel, self._sum)

    def _reduce_rest(self) -> None:
        self._comm.Allreduce(*self._rest)

    def _all_to_all(self, values: np.ndarray, to: list[int], of: list[int]) -> None:
        """Exchange the first numbers of ``values``, ``to`` numbers for each rank; ``of`` each come.
        """
        counts = np.array(to, np.int32)
        self._comm.Alltoall(counts, np.empty_like(counts))  # Horovod asks what will come
        received = self._sum.view(values.dtype)
        self._comm.Alltoallv([values[:sum(to)], to], [received[:sum(of)], of])
