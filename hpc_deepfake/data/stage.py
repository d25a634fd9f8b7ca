"""A copy of the data file on each node's own disk."""

from __future__ import annotations

import os
import shutil
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpc_deepfake.core import mpi
from hpc_deepfake.core.errors import InputError
from preprocessing.store import DONE, damaged_rows, open_header

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

_SPARE = 256 << 20  # bytes to leave free


def stage(comm: Comm, path: Path, folder: Path) -> Path:
    """Copy the data file into ``folder`` once per node, check every row, and say where to read.

    A copy that is there and whole is taken as it is. A node that can't have one, for want of room
    or of the right to write, reads the file itself, after a message. Collective.

    Returns:
        This rank's path of the data file.
    """
    from mpi4py import MPI

    node = comm.Split_type(MPI.COMM_TYPE_SHARED, comm.rank)
    copy, problem = None, None
    if node.rank == 0:
        try:
            copy = _copy(path, folder)
        except (OSError, ValueError, InputError) as error:
            problem = f"{MPI.Get_processor_name()}: {error}"
    request = node.Ibarrier()  # a large copy takes a while, and signals have to be seen meanwhile
    mpi.wait(request)
    copy = node.bcast(copy)
    node.Free()
    problems = [text for text in comm.allgather(problem) if text]
    if comm.rank == 0:
        for text in problems:
            print(f"note: no copy of the data on {text}; reading {path}", flush=True)
        if copy is not None:
            print(f"data file copied to {copy} and checked"
                  + (f" on all nodes but {len(problems)}" if problems else ""), flush=True)
    return path if copy is None else copy


def _copy(path: Path, folder: Path) -> Path:
    """The whole and checked copy of ``path`` in ``folder``.

    Raises:
        OSError, ValueError: there can be none; nothing is left behind.
    """
    # Two files of one name have two copies; nobody else's copy is ever taken.
    tag = zlib.crc32(os.fsencode(path.resolve()))
    copy = folder / f"{path.stem}-{os.getuid()}-{tag:08x}{path.suffix}"
    folder.mkdir(parents=True, exist_ok=True)
    size, time = path.stat().st_size, path.stat().st_mtime_ns
    with suppress(FileNotFoundError):
        found = copy.lstat()
        if found.st_uid == os.getuid() and (found.st_size, found.st_mtime_ns) == (size, time) \
                and _whole(copy):
            return copy
    free = shutil.disk_usage(folder).free
    if free < size + _SPARE:
        raise ValueError(f"{folder} has {free / 1e6:,.0f} MB free, {(size + _SPARE) / 1e6:,.0f} "
                         "are needed")
    new = folder / f".{copy.name}.{os.getpid()}"
    try:
        # "x": a link that somebody laid here in a folder for all is not followed
        with open(path, "rb") as source, open(new, "xb") as target:
            shutil.copyfileobj(source, target, 16 << 20)
        os.utime(new, ns=(time, time))
        if not _whole(new):
            raise ValueError(f"the copy in {folder} differs from {path}")
        os.replace(new, copy)
    finally:
        new.unlink(missing_ok=True)
    return copy


def _whole(path: Path) -> bool:
    header = open_header(path)
    return not len(damaged_rows(header, np.flatnonzero(header.array("status") == DONE)))
