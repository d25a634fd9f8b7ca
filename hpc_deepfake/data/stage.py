"""A copy of the data file on the local disk of each node, or in its memory.

A copy on a disk stays for the next run. One in memory, such as in ``/dev/shm``, is locked by a
process of each program that uses it, and removed by the last: it would take memory from other jobs.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpc_deepfake.core import mpi, watchdog
from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.core.log import log
from hpc_deepfake.core.text import plural
from hpc_deepfake.data.inputs import file_system
from preprocessing.integrity import damaged_rows
from preprocessing.store import DONE, open_header

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

_SPARE = 256 << 20  # bytes to leave free
_MEMORY = {"tmpfs", "ramfs"}  # file systems in memory
_in_use: list[tuple[int, Path]] = []  # copies in memory: an open file with a shared lock, its path


def stage(comm: Comm, path: Path, folder: Path) -> Path:
    """Copy the data file into ``folder`` once per node and check every row. Collective.

    A complete copy from an earlier run is reused. A node that can't have a copy, for lack of space
    or of write permission, reads the original file, with a message. A copy in memory is removed at
    the end of the last program that uses it; job scripts remove what a killed one leaves.

    Returns:
        This rank's path of the data file.

    Raises:
        InputError: no node has the folder.
    """
    from mpi4py import MPI

    if not any(comm.allgather(_usable(folder))):
        raise InputError(f"--stage {folder}: there is no such folder, nor the one that it would "
                         "be in; name one on each node's local disk, like /tmp", everywhere=True)

    node = comm.Split_type(MPI.COMM_TYPE_SHARED, comm.rank)
    copy, problem = None, None
    if node.rank == 0:
        try:
            copy = _copy(path, folder)
            if file_system(folder) in _MEMORY:
                _hold(copy)
        except (OSError, ValueError, InputError) as error:
            problem = f"{MPI.Get_processor_name()}: {reason(error)}"
    mpi.wait(node.Ibarrier())  # a copy takes long, and signals must be handled meanwhile
    copy = node.bcast(copy)
    node.Free()
    problems = [text for text in comm.allgather(problem) if text]
    if comm.rank == 0:
        for text in problems:
            log.warning(f"note: no copy of the data on {text}; reading {path}")
        if copy is not None:
            log.info(f"data file copied to {copy} and checked" + (
                f", except on {plural(len(problems), 'node')}" if problems else ""))
    return path if copy is None else copy


def _hold(copy: Path) -> None:
    """Lock a copy in memory, so that it stays as long as this process.

    Raises:
        OSError: another program has just removed it.
    """
    descriptor = os.open(copy, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino != copy.stat().st_ino:
            raise FileNotFoundError(2, "removed by another program", str(copy))
    except OSError:
        os.close(descriptor)
        raise
    _in_use.append((descriptor, copy))


def release() -> None:
    """Remove the copies in memory that no other process uses."""
    while _in_use:
        descriptor, copy = _in_use.pop()
        with suppress(OSError):  # BlockingIOError: another one uses it
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            copy.unlink()
        os.close(descriptor)


atexit.register(release)


def _usable(folder: Path) -> bool:
    """Whether it exists, or can be made in an existing folder other than the root, where only a
    mistyped name leads."""
    parent = folder.absolute().parent
    return folder.exists() or (parent.is_dir() and parent != Path("/"))


def _copy(path: Path, folder: Path) -> Path:
    """A complete and checked copy of ``path`` in ``folder``, reused if there is one.

    Raises:
        OSError: the copy can't be read or written; nothing is left behind.
        ValueError: there is too little space, or the copy differs; nothing is left behind.
    """
    # two files of the same name get two copies; a copy of another user is never used
    tag = zlib.crc32(os.fsencode(path.resolve()))
    copy = folder / f"{path.stem}-{os.getuid()}-{tag:08x}{path.suffix}"
    if not _usable(folder):
        raise ValueError(f"there is no folder {folder}")
    folder.mkdir(exist_ok=True)
    size, time = path.stat().st_size, path.stat().st_mtime_ns
    with suppress(FileNotFoundError):
        status = copy.lstat()
        if status.st_uid == os.getuid() and (status.st_size, status.st_mtime_ns) == (size, time) \
                and _complete(copy):
            return copy
    free = shutil.disk_usage(folder).free
    if free < size + _SPARE:
        raise ValueError(f"{folder} has {free / 1e6:,.0f} MB free, {(size + _SPARE) / 1e6:,.0f} "
                         "are needed")
    # unlike files.whole: a name of its own for each process, since two jobs may share the node
    temporary = folder / f".{copy.name}.{os.getpid()}"
    try:
        # "x": don't follow a link that another user placed in a shared folder
        with open(path, "rb") as source, open(temporary, "xb") as target:
            with suppress(OSError):  # while it is locked, it isn't a killed program's
                fcntl.flock(target, fcntl.LOCK_SH)
            while block := source.read(16 << 20):
                target.write(block)
                watchdog.advance()
            target.flush()
            os.utime(temporary, ns=(time, time))
            if not _complete(temporary):
                raise ValueError(f"the copy in {folder} differs from {path}")
            os.replace(temporary, copy)
    finally:
        temporary.unlink(missing_ok=True)
    return copy


def _complete(path: Path) -> bool:
    """Whether every finished row of a data file has its checksum."""
    header = open_header(path)
    return not len(damaged_rows(header, np.flatnonzero(header.array("status") == DONE)))
