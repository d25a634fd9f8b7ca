"""Training (of the toy, with tests/toy in ``PYTHONPATH``) or preprocessing with a rank that hangs
at a given point; a program for tests.

    mpirun -np N python tests/mpi/stalled.py POINT RANK sleep|stop -- OPTIONS

The points of preprocessing are "features" and "options". The rank's main thread sleeps for good, or
the process is stopped (SIGSTOP). At the point "end" others wait for it in MPI's end. At the point
"start" the limits are those of --stall-warning and --stall-limit, however short.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hpc_deepfake.core import mpi, watchdog

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

_AT = sys.argv.index("--")
POINT, RANK, HOW = sys.argv[1:_AT]
OPTIONS = sys.argv[_AT + 1:]
PREPROCESSING = {"features": "features_of_pixels", "options": "parser"}  # points and functions


def point() -> tuple[Any, str]:
    """The function whose call hangs: the second one, if it is called in a loop."""
    from hpc_deepfake import strategies
    from hpc_deepfake.train import __main__ as train
    from preprocessing import extract

    if POINT in PREPROCESSING:
        import preprocessing.__main__ as preprocessing

        return {"features": extract, "options": preprocessing}[POINT], PREPROCESSING[POINT]
    if POINT == "end":
        return extract, "features_of_pixels"
    strategy = strategies.get(train.parser().parse(OPTIONS).strategy)
    return {"start": (train, "_strategy"), "results": (train, "_finish")}.get(
        POINT, (strategy, POINT))


def hang() -> None:
    if HOW == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    while HOW == "sleep":
        time.sleep(1)


def main(comm: Comm) -> int:
    owner, name = point()
    original: Callable[..., Any] = getattr(owner, name)
    calls = 2 if POINT in ("features", "step") else 1

    def hanging(*inputs: Any, **options: Any) -> Any:
        nonlocal calls
        calls -= 1
        if calls == 0 and comm.rank == int(RANK):
            hang()
        return original(*inputs, **options)

    setattr(owner, name, hanging)
    if POINT == "end" and comm.rank == int(RANK):
        atexit.register(hang)
    if POINT == "start":
        watchdog.START_WARNING = watchdog.START_LIMIT = 0
    if POINT in PREPROCESSING:
        import preprocessing.__main__ as preprocessing

        return preprocessing.main(comm, OPTIONS)
    from hpc_deepfake.train import __main__ as train

    return train.main(comm, OPTIONS)


def before() -> None:
    if POINT in PREPROCESSING:
        import preprocessing.__main__ as program
    else:
        from hpc_deepfake.train import __main__ as program  # type: ignore[no-redef]

    program.before_mpi(OPTIONS)


mpi.run(main, before)
