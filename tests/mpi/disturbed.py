"""Training with something going wrong at a given step; a program for tests.

    mpirun -np N python tests/mpi/disturbed.py WHAT RANK STEP [SAVE_SECONDS] -- TRAIN OPTIONS

WHAT happens on rank RANK as it begins its STEP-th step (from 0, counted in this process): ``term``
or ``usr1`` (a signal to itself), ``raise``, ``kill``, ``freeze`` (SIGSTOP), ``sleep`` (its main
thread, within the step), ``late`` (before it), ``nothing``. On rank 0 of
``async``, a server, it is an update. With SAVE_SECONDS every checkpoint
takes so long.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING
from unittest import mock

from hpc_deepfake.core import mpi
from hpc_deepfake.train import __main__ as train
from hpc_deepfake.train import checkpoint

if TYPE_CHECKING:  # imported only when before_mpi was called
    from mpi4py.MPI import Comm


def disturb(what: str) -> None:
    if what == "raise":
        raise ArithmeticError("a test's mistake")
    if what in ("sleep", "late"):
        time.sleep(1000)
    number = {"term": signal.SIGTERM, "usr1": signal.SIGUSR1, "kill": signal.SIGKILL,
              "freeze": signal.SIGSTOP}.get(what)
    if number:
        os.kill(os.getpid(), number)


def main() -> None:
    at = sys.argv.index("--")
    what, rank, step, *seconds = sys.argv[1:at]
    arguments = sys.argv[at + 1:]

    def program(comm: Comm) -> int:
        from hpc_deepfake import strategies
        from hpc_deepfake.train import loop

        place, name = strategies.get(train.parser().parse(arguments).strategy), "launch"
        if place.name == "async" and comm.rank == 0:  # a server has no steps: its updates
            from hpc_deepfake.strategies.asynchronous.server import Server as place

            name = "_apply_here"
        original, count = getattr(place, name), 0

        def disturbed(self: object, *inputs: object) -> object:
            nonlocal count
            if comm.rank == int(rank) and count == int(step) and what != "late":
                disturb(what)
            count += 1
            return original(self, *inputs)

        def late(seed: int, number: int, of_rank: int) -> object:
            if of_rank == int(rank) and number == int(step) and what == "late":
                disturb(what)
            return dropout_seed(seed, number, of_rank)

        def slow(*inputs: object) -> object:
            path = quick(*inputs)
            time.sleep(float(seconds[0]))
            print("saved", flush=True)
            return path

        dropout_seed, quick = loop.dropout_seed, checkpoint.save
        with ExitStack() as patches:
            patches.enter_context(mock.patch.object(loop, "dropout_seed", late))
            patches.enter_context(mock.patch.object(place, name, disturbed))
            if seconds:
                patches.enter_context(mock.patch.object(checkpoint, "save", slow))
            return train.main(comm, arguments)

    mpi.run(program, partial(train.before_mpi, arguments))


main()
