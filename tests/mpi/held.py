"""Program for tests: ranks of one node open a data file together.

    mpirun -np N python tests/mpi/held.py DATA DAMAGED

Rank 0 prints a JSON object with, for each case, the answers of all ranks.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import zlib
from collections import namedtuple
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
from mpi4py import MPI

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.data import inputs, node_copy
from hpc_deepfake.data.rows import open_data
from preprocessing.integrity import require_intact
from preprocessing.store import open_header

COMM = MPI.COMM_WORLD
LAST = COMM.size - 1
data, damaged = map(Path, sys.argv[1:])
answers: dict[str, list] = {}


def ask(case: str, mode: str) -> None:
    """Open the file, and note mode, checksum and memory of the pictures."""
    rows = open_data(data, "ela", mode, COMM)
    pictures, _ = rows.batch(np.arange(rows.header.rows))
    answers[case] = COMM.gather((rows.input, zlib.crc32(pictures), memory(rows.pictures)))


def memory(pictures: object) -> str:
    """Number of the file in memory that an array lies in; empty for memory of its own."""
    if not isinstance(pictures, np.ndarray):
        return ""
    address = pictures.ctypes.data
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, stop = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= address < stop:
            return line.split()[4]
    return ""


@contextmanager
def on(rank: int, target: object, name: str, value: object):
    """``target.name`` is ``value`` on one rank."""
    with patch.object(target, name, value if COMM.rank == rank else getattr(target, name)):
        yield


def full(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


Room = namedtuple("Room", "f_bavail f_frsize")
before = set(os.listdir("/dev/shm"))
ask("mapped", "mmap")
ask("held", "memory")
masks = open_data(data, "ela", "memory", COMM, masks=True).masks
answers["masks"] = COMM.gather((zlib.crc32(masks[np.arange(len(masks))]), memory(masks)))
del masks
with on(LAST, inputs, "file_system", lambda path: "lustre"):
    ask("one node of another kind", "auto")
    with on(LAST, node_copy.memory, "available", lambda: 4):
        ask("one node without memory", "auto")
with on(0, node_copy.os, "statvfs", lambda path: Room(1, 4096)):
    ask("small /dev/shm", "memory")
with on(LAST, node_copy.os, "pwrite", full):
    ask("full while it is filled", "memory")
with on(0, node_copy, "SHARED", Path("/nowhere")):
    ask("no /dev/shm", "memory")
left = {name for name in set(os.listdir("/dev/shm")) - before if name.startswith("hpc-deepfake")}
answers["left"] = COMM.gather(sorted(left))
header = open_header(damaged)
try:
    require_intact(header, np.arange(header.rows), COMM)
    answers["damaged"] = COMM.gather("")
except InputError as error:
    answers["damaged"] = COMM.gather(str(error) if error.everywhere else "not on all ranks")
if COMM.rank == 0:
    print(json.dumps(answers))
