"""MPI's world of N ranks in which many tests run one after the other; see ``worlds.py``.

    mpirun -np N python tests/mpi/world.py FOLDER STRATEGY

TensorFlow and Horovod start once. Rank 0 reads a request from standard input, a line of JSON with
a program of this folder and its arguments; all ranks run it as if it were started by itself, and
rank 0 answers with a file in FOLDER. An exception on any rank ends the world.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import json
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hpc_deepfake.core import mpi
from hpc_deepfake.core.files import write_json
from hpc_deepfake.train import __main__ as train

HERE = Path(__file__).parent
# Of the meshes and shard groups in tests. Horovod looks after each many times a second: no more.
GROUPS = {4: [(0, 1), (2, 3), (0, 2), (1, 3)]}
train.before_mpi(["--strategy", sys.argv[2]])  # MPI's settings, as for this strategy
from mpi4py import MPI  # noqa: E402 (it reads them)

COMM = MPI.COMM_WORLD


def start() -> None:
    """What the programs start too, with all groups of ranks that any of them needs."""
    from hpc_deepfake.network import device
    from hpc_deepfake.strategies import collectives

    device.start("cpu", threads=1)
    if COMM.size > 1:
        collectives.start(COMM, False, 60, 600, GROUPS.get(COMM.size, []))


def run(program: Callable[[MPI.Comm], int], before: Callable[[], object] | None = None) -> None:
    """Stands in for ``mpi.run``: MPI has started, and goes on after the program."""
    sys.exit(program(COMM))


def serve(request: dict[str, object]) -> dict[str, object]:
    """Run a program, or ``train`` with its arguments; rank 0's output and exit code."""
    arguments = [str(argument) for argument in request["arguments"]]
    out, code = io.StringIO(), 0
    if request.get("folder"):
        os.chdir(str(request["folder"]))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            if request["program"] == "train":
                code = train.main(COMM, arguments)
            else:
                sys.argv = [str(HERE / str(request["program"])), *arguments]
                runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as leave:
            code = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    free()
    mpi.wait(COMM.Ibarrier())
    return {"code": code, "output": out.getvalue()}


def free() -> None:
    """Give back what the program held, some hundred megabytes of weights."""
    from tensorflow.python.framework import ops

    # TensorFlow keeps each custom gradient of a graph for good, and by it the strategy
    registry = ops.gradient_registry._registry
    for name in [name for name in registry if name.startswith("CustomGradient-")]:
        del registry[name]
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def main(folder: Path) -> None:
    start()
    mpi.run = run
    train.before_mpi = lambda *_: None
    os.fsync = lambda descriptor: None  # what a test writes need not outlive a power cut
    gc.collect()
    gc.freeze()  # TensorFlow's own half a million objects, which each collection would visit again
    number = 0
    while True:
        request = _spread(json.loads(sys.stdin.readline() or "null") if COMM.rank == 0 else None)
        if request is None:
            break
        answer = serve(request)
        if COMM.rank == 0:
            write_json(folder / f"{number}.json", answer)
        number += 1


def _spread(request: dict[str, object] | None) -> dict[str, object] | None:
    """Rank 0's request on all ranks, by polling."""
    text = json.dumps(request).encode() if COMM.rank == 0 else b""
    size = np.array([len(text)])
    mpi.wait(COMM.Ibcast(size))
    data = np.frombuffer(text, np.uint8).copy() if COMM.rank == 0 else np.empty(size[0], np.uint8)
    mpi.wait(COMM.Ibcast(data))
    return json.loads(data.tobytes())


if __name__ == "__main__":
    mpi.run(lambda comm: main(Path(sys.argv[1])) or 0)
