"""The messages of asynchronous training between one server and its workers, really sent.

Workers use the strategy's own ``Link``. The server follows ``Server._lead``, with the same messages
and the same admission; it waits in place of applying gradients.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING

import numpy as np

from hpc_deepfake.core.mpi import wait
from hpc_deepfake.scaling.emulation.plan import Task
from hpc_deepfake.strategies.asynchronous.admission import Admission
from hpc_deepfake.strategies.asynchronous.link import (
    ASK,
    GRANT,
    KERNEL,
    OVER,
    REST,
    SMALL,
    WEIGHTS,
    Link,
)

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm, Request

_PAUSE = 0.0001, 0.001  # seconds between two polls: at first, and at most


class _Whole:
    """The cut of weights that one server holds; see ``Wire``."""

    def __init__(self, numbers: int) -> None:
        self._numbers = numbers

    def piece(self, place: int) -> slice:
        """All of the kernel."""
        return slice(0, self._numbers)


def work(comm: Intracomm, task: Task) -> float:
    """Compute what the server deals out, until it has no more; seconds waited for weights."""
    sizes, waited = task.sizes, 0.0
    kernel, rest = np.ones(sizes.kernel, np.float32), np.ones(sizes.small, np.float32)
    gradient = np.ones(sizes.kernel, np.float32)
    small = np.ones(sizes.rest + 2, np.float32)  # with statistics, and rows and scale of the step
    loaded: Future[None] = Future()
    loaded.set_result(None)
    link = Link(comm, _Whole(sizes.kernel), 1, kernel, rest)
    link.ask(lambda number: loaded)
    began = time.perf_counter()
    while link.next() is not None:
        waited += time.perf_counter() - began
        link.ask(lambda number: loaded)
        time.sleep((task.compute.total - task.compute.update) * task.slow)
        link.push(gradient, small)
        began = time.perf_counter()
    wait(comm.Ibarrier())  # the server has received all
    link.close()
    return waited


def serve(comm: Intracomm, task: Task, count: int) -> list[float]:
    """Deal out ``count`` steps and receive their gradients; the time of each update."""
    from mpi4py import MPI

    sizes, status = task.sizes, MPI.Status()
    weights, small = np.ones(sizes.kernel, np.float32), np.ones(sizes.small, np.float32)
    admission, pause = Admission(None), _PAUSE[0]
    times: list[float] = []
    running: dict[int, deque[int]] = {worker: deque() for worker in range(1, comm.size)}
    asking: deque[int] = deque()
    arrived: deque[tuple[int, np.ndarray, Request]] = deque()
    free = [np.empty(sizes.kernel, np.float32) for _ in range(2)]
    sends: list[Request] = []
    granted, over = 0, 0
    while over < len(running) or admission.begun:
        moved = False
        while comm.Iprobe(MPI.ANY_SOURCE, ASK, status):
            comm.Recv(np.empty(0, np.int64), status.source, ASK)
            asking.append(status.source)
            moved = True
        while free and comm.Iprobe(MPI.ANY_SOURCE, REST, status):
            comm.Recv(np.empty(sizes.rest + 2, np.float32), status.source, REST)
            buffer = free.pop()
            arrived.append((status.source, buffer, comm.Irecv(buffer, status.source, KERNEL)))
            moved = True
        if arrived and arrived[0][2].Test():
            worker, buffer, _ = arrived.popleft()
            time.sleep(task.compute.update * task.slow)
            free.append(buffer)
            admission.apply(running[worker].popleft())
            times.append(time.perf_counter())
            moved = True
        for worker in list(asking):
            if granted == count:
                sends.append(comm.Isend(np.array([OVER], np.int64), worker, GRANT))
                over += 1
            elif len(running[worker]) < 1 + (count - granted > len(running)):
                admission.begin(granted)
                running[worker].append(granted)
                sends += [comm.Isend(np.array([granted], np.int64), worker, GRANT),
                          comm.Isend(weights, worker, WEIGHTS), comm.Isend(small, worker, SMALL)]
                granted += 1
            else:
                continue
            asking.remove(worker)
            moved = True
        sends = [request for request in sends if not request.Test()]
        pause = _PAUSE[0] if moved else min(2 * pause, _PAUSE[1])
        if not moved:
            time.sleep(pause)
    MPI.Request.Waitall(sends)
    wait(comm.Ibarrier())
    return times
