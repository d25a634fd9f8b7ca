"""``python -m faulty FAULT … -- OPTIONS``: preprocessing that dies or stops at a given point.

A FAULT is ``rank:point:count``: that rank kills itself with SIGKILL when it reaches the point for
the count-th time. Points are:

    replace, features, sync, crc32, status (the last two: before they are written)
    torn    a write of which only the first half reaches the file
    hold    wait there forever, after creating a file ``held.RANK``
    signal  send itself SIGUSR1, as a job script does before the time limit, and continue

``*`` as rank means every rank. Rows are synced and marked every MiB, for more such points.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import preprocessing.__main__ as job
from hpc_deepfake.core import mpi
from preprocessing import extract, store

WRITERS = (store.HDF5Writer, store.MPIFileWriter)


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hold(*_: Any) -> None:
    Path(f"held.{mpi.launched_rank()}").touch()
    while True:
        time.sleep(1)


def request_stop(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGUSR1)


def torn(writer: store.Writer, dataset: str, first: int, values: Any) -> None:
    half = values.copy()
    half.reshape(-1)[half.size // 2:] ^= 0x55
    write(writer, dataset, first, half)
    die()


def at(owner: Any, name: str, count: int, fault: Callable[..., None],
       when: Callable[..., bool] = lambda *_: True) -> None:
    """Call ``fault`` instead of ``owner.name`` the ``count``-th time that ``when`` holds."""
    real = getattr(owner, name)
    remaining = [count]

    def instead(*args: Any, **kwargs: Any) -> Any:
        if when(*args):
            remaining[0] -= 1
            if remaining[0] == 0:
                fault(*args)
        return real(*args, **kwargs)

    setattr(owner, name, instead)


FEATURES = {"features": die, "signal": request_stop, "hold": hold}
faults, options = (sys.argv[1:sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1:])
extract._SYNC_BYTES = 1 << 20
originals = {kind: kind.write for kind in WRITERS}


def write(writer: store.Writer, *args: Any) -> None:
    originals[type(writer)](writer, *args)


for rank, point, text in (fault.split(":") for fault in faults):
    count = int(text)
    if rank not in ("*", str(mpi.launched_rank())):
        continue
    if point == "replace":
        at(os, point, count, die)
    elif point in FEATURES:
        at(extract, "features_of_pixels", count, FEATURES[point])
    else:
        for kind in WRITERS:
            if point == "sync":
                at(kind, "sync", count, die)
            elif point == "torn":  # not status, which is one byte per row and can't be torn
                at(kind, "write", count, torn, lambda _, name, *__: name != "status")
            else:  # marking rows: crc32 or status
                at(kind, "write", count, die, lambda _, name, *__, point=point: name == point)

mpi.run(lambda comm: job.main(comm, options))
