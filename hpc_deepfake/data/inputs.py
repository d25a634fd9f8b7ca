"""How pictures are read from a data file, and which way suits it."""

from __future__ import annotations

import errno
import math
import os
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import psutil

from hpc_deepfake.core import memory, watchdog
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.log import log
from preprocessing import unreadable
from preprocessing.store import Header

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

INPUTS = ("auto", "mmap", "read", "memory")
# network file systems, where a page fault costs a round trip
REMOTE = {"nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "smb3", "ceph", "afs", "orangefs",
           "pvfs2", "panfs", "fuse", "9p", "wekafs", "daos"}
READERS = 8  # threads that read at once from a network file system, where each read waits
_PIECE = 1 << 20  # bytes of adjacent rows read at once; what NFS asks for in one message
_HINT = 128 << 10  # bytes; of a longer hint Linux follows no more than its readahead, often these
_CAUTION = ("mmap", "memory", "read")  # ranks that choose differently take the last of these


class Pictures(Protocol):
    """uint8 (N, S, S, channels), indexed by arrays of row numbers."""

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        """The pictures of these rows, in their order."""


class Source:
    """The bytes of a feature in the file.

    Attributes:
        size: their number.
    """

    def __init__(self, header: Header, feature: str) -> None:
        self._path, self._offset = header.path, header.offsets[feature]
        self.size = header.bytes_of(feature)
        with self._explained():
            self._descriptor = os.open(header.path, os.O_RDONLY)
        self._immediate = True  # whether the file system can read without waiting
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, start: int, target: np.ndarray) -> None:
        """Fill ``target`` with the bytes from ``start`` on.

        Raises:
            InputError: they can't be read, or the file has become too short.
        """
        left, position = target.reshape(-1).data, self._offset + start
        with self._explained():
            while len(left):
                count = os.preadv(self._descriptor, [left], position)
                if not count:
                    raise self._cut_off()
                left, position = left[count:], position + count
                watchdog.advance()

    def gather(self, pieces: Sequence[tuple[int, np.ndarray]],
               pool: ThreadPoolExecutor | None = None) -> None:
        """``read`` for each start and target: all that isn't in the page cache is under way at
        once, and the threads of ``pool`` wait for it.

        Raises:
            InputError: as ``read``.
        """
        absent = []
        for start, target in pieces:
            if not self._cached(start, target):
                self.expect(start, target.nbytes)
                absent.append((start, target))
        watchdog.advance()
        if pool is None or len(absent) < 2:
            for start, target in absent:
                self.read(start, target)
        else:
            deque(pool.map(lambda piece: self.read(*piece), absent), maxlen=0)

    def _cached(self, start: int, target: np.ndarray) -> bool:
        """Fill ``target`` unless that takes waiting for a disk or a server."""
        if not self._immediate:
            return False
        try:
            return os.preadv(self._descriptor, [target.data], self._offset + start,
                             os.RWF_NOWAIT) == target.nbytes
        except OSError as error:  # what else is wrong, reading says
            self._immediate = error.errno == errno.EAGAIN
            return False

    def expect(self, start: int, size: int) -> None:
        """Have the system begin to read bytes that are used soon; a mapped page that it reads for
        want of this brings its whole readahead, often megabytes."""
        with suppress(OSError):  # a hint; reading says what is wrong
            for place in range(start, start + size, _HINT):
                os.posix_fadvise(self._descriptor, self._offset + place,
                                 min(_HINT, start + size - place), os.POSIX_FADV_WILLNEED)

    def check_size(self) -> None:
        """Raise InputError if the file has become too short."""
        with self._explained():
            if os.fstat(self._descriptor).st_size < self._offset + self.size:
                raise self._cut_off()

    def _cut_off(self) -> InputError:
        return InputError(f"{self._path} was cut off while it was in use: "
                          f"{os.fstat(self._descriptor).st_size:,} bytes are left. Find what wrote "
                          "to it, move it away, and run preprocessing again")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(unreadable.reason(self._path, error) or str(error)) from None


class PositionedRows:
    """Rows read with pread: no page faults, and memory for one batch only.

    Adjacent rows are read together, and all rows of a batch are under way at once: on a local disk
    by hints to the system, from a network file system by several threads.
    """

    def __init__(self, header: Header, feature: str) -> None:
        self._source = Source(header, feature)
        self._shape = header.shapes[feature][1:]
        self._pool = _readers() if file_system(header.path) in REMOTE else None

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        pictures = np.empty((len(rows), *self._shape), np.uint8)
        size, numbers = math.prod(self._shape), rows.tolist()
        self._source.gather([(numbers[first] * size, pictures[first:stop])
                             for first, stop in _adjacent(numbers, size)], self._pool)
        return pictures


def _adjacent(rows: Sequence[int], size: int) -> list[tuple[int, int]]:
    """Runs of consecutive row numbers of at most ``_PIECE`` bytes, as (first, stop) positions.

    Args:
        rows: their numbers.
        size: bytes of a row.
    """
    most, runs, first = max(1, _PIECE // size), [], 0
    for place in range(1, len(rows) + 1):
        if place == len(rows) or rows[place] != rows[place - 1] + 1 or place - first == most:
            runs.append((first, place))
            first = place
    return runs


@cache
def _readers() -> ThreadPoolExecutor:
    """The threads of all sources of this process."""
    return ThreadPoolExecutor(READERS, "read")


class StackedRows:
    """Rows of several features, stacked along the last axis."""

    def __init__(self, parts: Sequence[Pictures]) -> None:
        self._parts = parts

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return np.concatenate([part[rows] for part in self._parts], axis=-1)


class MappedRows:
    """Rows mapped from the page cache."""

    def __init__(self, header: Header, feature: str) -> None:
        self._source = Source(header, feature)
        self._pictures = np.asarray(header.array(feature))  # np.memmap takes longer for each use

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        self._source.check_size()  # the system would end the process for a page that is gone
        size, numbers = self._pictures[:1].nbytes, rows.tolist()
        for first, stop in _adjacent(numbers, size):
            self._source.expect(numbers[first] * size, (stop - first) * size)
        return np.take(self._pictures, rows, axis=0)


def choose(header: Header, features: Sequence[str], comm: Comm | None = None) -> str:
    """The way of reading that suits file system and memory; with ``comm`` collective, and one that
    suits all ranks.

    A file on a local file system is mapped. One on a network file system is copied into memory if
    that takes less than a quarter of what is free, else its rows are read.
    """
    kind = file_system(header.path)
    log.debug("%s is on %s", header.path, kind or "a file system of unknown type")
    if kind not in REMOTE:
        mode = "mmap"
    else:
        size = sum(map(header.bytes_of, features))
        mode = "memory" if size < memory.available() / 4 else "read"
    return mode if comm is None else max(comm.allgather(mode), key=_CAUTION.index)


def file_system(path: Path) -> str:
    """Type of the file system that holds ``path``, such as ``lustre``; empty if unknown."""
    resolved = path.resolve()
    types = {Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(all=True)}
    folders = (resolved, *resolved.parents)
    return next((types[folder].partition(".")[0] for folder in folders if folder in types), "")
