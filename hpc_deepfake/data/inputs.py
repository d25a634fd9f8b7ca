"""How pictures are read from a data file, and which way suits it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    """Rows read one by one with pread: no page faults, and memory for one batch only."""

    def __init__(self, header: Header, feature: str) -> None:
        self._source = Source(header, feature)
        self._shape = header.shapes[feature][1:]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        pictures = np.empty((len(rows), *self._shape), np.uint8)
        size = int(np.prod(self._shape))
        for row, target in zip(rows.tolist(), pictures, strict=True):
            self._source.read(row * size, target)
        return pictures


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
        self._pictures = header.array(feature)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        self._source.check_size()  # the system would end the process for a page that is gone
        return np.asarray(self._pictures[rows])


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
