"""A rank of the emulated cluster: ``python -m hpc_deepfake.scaling.emulation.worker SOCKET``.

It takes tasks from the command through a socket in the file system, which namespaces of networks
have in common, so that nothing but the strategies' messages is on the links.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc_deepfake.scaling.emulation.exchanges import Exchange, Steps
from hpc_deepfake.scaling.emulation.meshes import MeshSteps
from hpc_deepfake.scaling.emulation.pauses import Pauses
from hpc_deepfake.scaling.emulation.plan import Task

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm


def main(path: str) -> None:
    """Work until the command closes the socket."""
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    groups: dict[int, Intracomm] = {}
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(path)
        lines = control.makefile("rw", encoding="utf-8")
        print(json.dumps({"rank": world.rank}), file=lines, flush=True)
        for line in lines:
            order = json.loads(line)
            ranks = order["ranks"]
            if ranks not in groups:  # collective among these ranks only
                groups[ranks] = world.Create_group(world.group.Incl(range(ranks)))
            print(json.dumps(_DO[order["what"]](groups[ranks], order)), file=lines, flush=True)


def _capacity(comm: Intracomm, order: dict[str, Any]) -> dict[str, Any]:
    """Seconds of an allreduce, the faster of two."""
    values, total = np.ones(order["numbers"], np.float32), np.empty(order["numbers"], np.float32)
    comm.Allreduce(values, total)
    seconds = []
    for _ in range(2):
        comm.Barrier()
        began = time.perf_counter()
        comm.Allreduce(values, total)
        seconds.append(time.perf_counter() - began)
    return {"seconds": min(seconds)}


def _microbench(comm: Intracomm, order: dict[str, Any]) -> dict[str, Any]:
    """Write the micro-benchmark's files, of small and of large messages."""
    from hpc_deepfake.scaling import microbench

    for file, (low, high) in order["files"].items():
        microbench.main(comm, ["--what", "sendrecv", "allreduce", "alltoall", "--min-size",
                               str(low), "--max-size", str(high), "--seconds", "0.02", "--json",
                               file])
    return {"seconds": 0.0}


def _emulate(comm: Intracomm, order: dict[str, Any]) -> dict[str, Any]:
    """Seconds of each measured step by the clock, of waiting in all of them, and whether the
    machine stood still in a step."""
    task = Task.of_json(order["task"])
    if task.strategy == "async":
        return _updates(comm, task)
    exchange: Steps = MeshSteps(comm, task) if task.mesh else Exchange(comm, task)
    try:
        averaging = task.strategy == "local-sgd"  # a period is long, and nothing is new in it
        for number in range(0 if averaging else 1):
            exchange.step(number)
        exchange.waited = 0.0
        comm.Barrier()
        with Pauses() as pauses:
            marks = [time.perf_counter()]
            for number in range(task.steps):
                exchange.step(number)
                marks.append(time.perf_counter())
        return {"seconds": np.diff(marks).tolist(), "waited": exchange.waited,
                "paused": [pauses.within(*span) for span in pairwise(marks)]}
    finally:
        exchange.close()


def _updates(comm: Intracomm, task: Task) -> dict[str, Any]:
    """The same of async, where the server measures; the first updates and the last ones, when not
    all workers compute, don't count."""
    from hpc_deepfake.scaling.emulation import updates

    first, last = min(comm.size, 4), 2
    count = first + task.steps + last
    talk = comm.Dup()
    talk.Barrier()
    times, waited = [], 0.0
    if comm.rank:
        waited = updates.work(talk, task)
    else:
        times = np.diff(updates.serve(talk, task, count)[first - 1:first + task.steps]).tolist()
    talk.Free()
    return {"seconds": times, "waited": waited * task.steps / count}


_DO = {"capacity": _capacity, "microbench": _microbench, "emulate": _emulate}


if __name__ == "__main__":
    main(str(Path(sys.argv[1])))
