"""Program of test_training: runs that are stopped and go on, beside one that isn't.

    mpirun -np N python tests/mpi/resumed.py DATA FOLDER STRATEGY [OPTIONS OF TRAIN]

One process runs them all, since starting TensorFlow takes seconds: FOLDER/whole is undisturbed,
FOLDER/parts is stopped in mid-epoch and again at an epoch's end, and writes for TensorBoard.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from hpc_deepfake.core import mpi
from hpc_deepfake.train import __main__ as train

if TYPE_CHECKING:  # imported only when before_mpi was called
    from mpi4py.MPI import Comm


def program(comm: Comm) -> int:
    from hpc_deepfake import strategies
    from hpc_deepfake.train import checkpoint

    data, folder, strategy, *options = sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]
    kind = strategies.get(strategy)
    original, steps, stop_at = kind.launch, 0, None

    def launch(self: object, *inputs: object) -> object:
        nonlocal steps
        if steps == stop_at and comm.rank == comm.size - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        steps += 1
        return original(self, *inputs)

    def run(name: str, stop: int | None = None, *more: str) -> int:
        nonlocal steps, stop_at
        steps, stop_at = 0, stop
        return train.main(comm, [
            "--data", data, "--run", str(folder / name), "--epochs", "3", "--batch-size", "3",
            "--device", "cpu", "--threads", "1", "--warmup-steps", "4", "--strategy", strategy,
            "--max-staleness", "0", *options, *more,
            *["--sync-every", "2"] * (strategy == "local-sgd"),
            *["--tensorboard"] * (name == "parts")])

    with mock.patch.object(kind, "launch", launch):
        workers = 1 if strategy in ("async", "mesh") else comm.size
        per_epoch = -(-36 // (3 * workers))  # the data file has 36 training rows
        assert run("whole") == 0
        assert run("parts", 1) == 75  # in mid-epoch
        saved = checkpoint.found(folder / "parts" / "checkpoints")[0]
        done = checkpoint.load(saved)[1]["state"]["step"]
        assert run("parts", 2 * per_epoch - 1 - done, "--resume") == 75  # second epoch's end
        assert run("parts", None, "--resume") == 0
    return 0


mpi.run(program, lambda: train.before_mpi(["--strategy", sys.argv[3]]))
