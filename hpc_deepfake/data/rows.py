"""Rows of the shared HDF5 file for training and evaluation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil

from hpc_deepfake.core.errors import InputError
from preprocessing.split import PARTS
from preprocessing.store import DONE, PENDING, Header, open_header

T, R = TypeVar("T"), TypeVar("R")
INPUTS = ("auto", "mmap", "read", "memory")
# file systems of other machines: a page fault there is a round trip
REMOTE = {"nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "smb3", "ceph", "afs", "orangefs",
           "pvfs2", "panfs", "fuse", "9p", "wekafs", "daos"}


@dataclass(frozen=True)
class DataFile:
    """One feature of a data file.

    Attributes:
        pictures: uint8 (N, 128, 128, 3), indexed by rows. labels, parts: uint8 (N).
        usable: bool (N), not rejected. input: how the pictures are read.
    """

    header: Header
    feature: str
    pictures: np.ndarray | PositionedRows
    labels: np.ndarray
    parts: np.ndarray
    usable: np.ndarray
    input: str

    def rows(self, part: str) -> np.ndarray:
        """Usable rows of ``train``, ``validation``, ``test`` or ``all``, int64, sorted."""
        if part == "all":
            return np.flatnonzero(self.usable)
        return np.flatnonzero(self.usable & (self.parts == PARTS.index(part)))

    def batch(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pictures and labels of some rows, in their order."""
        return np.asarray(self.pictures[rows]), self.labels[rows]


class PositionedRows:
    """Rows read one by one with pread: no page faults, and no more memory than a batch."""

    def __init__(self, path: Path, offset: int, shape: tuple[int, ...]) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (open as long as this object)
        self._offset, self._shape = offset, shape[1:]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        out = np.empty((len(rows), *self._shape), np.uint8)
        size = int(np.prod(self._shape))
        for row, target in zip(rows.tolist(), out, strict=True):
            if os.preadv(self._file.fileno(), [target], self._offset + row * size) != size:
                raise OSError(f"row {row} of {self._file.name} is cut off")
        return out


def open_data(path: Path, feature: str, input_mode: str = "auto",
              ranks_on_node: int = 1) -> DataFile:
    """Open one feature of a data file.

    ``mmap`` maps the pictures from the page cache, ``read`` reads the rows of each batch,
    ``memory`` holds them all; ``auto`` maps a local file, and holds a remote one if all ranks of
    the node together take less than a quarter of its free memory, else reads it.

    Raises:
        InputError: no such file or feature, or the file isn't finished.
    """
    header = open_header(path)
    if feature not in header.features:
        raise InputError(f"{path} has no feature '{feature}', only {', '.join(header.features)}: "
                         f"run preprocessing with --features {feature} and another --out")
    status = np.array(header.array("status"))
    pending = int((status == PENDING).sum())
    if pending:
        raise InputError(f"{path} isn't finished: {pending:,} of {header.rows:,} pictures are "
                         "pending; run the same preprocessing command again, it goes on")
    shape = header.shapes[feature]
    if input_mode == "auto":
        fits = int(np.prod(shape)) * ranks_on_node < psutil.virtual_memory().available / 4
        input_mode = "mmap" if file_system(path) not in REMOTE else "memory" if fits else "read"
    if input_mode == "memory":
        pictures = np.fromfile(path, np.uint8, int(np.prod(shape)),
                               offset=header.offsets[feature]).reshape(shape)
    elif input_mode == "read":
        pictures = PositionedRows(path, header.offsets[feature], shape)
    else:
        pictures = header.array(feature)
    return DataFile(header, feature, pictures, np.array(header.array("label")),
                    np.array(header.array("split")), status == DONE, input_mode)


def file_system(path: Path) -> str:
    """Type of the file system that holds ``path``, like ``ext4`` or ``lustre``."""
    resolved = path.resolve()
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    home = next((one for one in (resolved, *resolved.parents) if one in mounts), None)
    return mounts[home].partition(".")[0] if home else ""


def check_trainable(data: DataFile) -> None:
    """Raise InputError unless both parts needed for training hold both classes."""
    for part in ("train", "validation"):
        found = set(data.labels[data.rows(part)].tolist())
        if found != {0, 1}:
            raise InputError(f"{data.header.path}: the {part} part needs authentic and tampered "
                             f"pictures, and has {'none' if not found else 'one class only'}")


def epoch_order(rows: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The epoch's order of the rows: a function of seed and epoch, not of the ranks."""
    return np.random.default_rng([seed, epoch]).permutation(rows)


def first_rows(rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """``count`` of the rows, sorted, all of them for 0: the first of an order that depends on the
    seed alone, so that the rows of a smaller count are among those of a larger one.

    Raises:
        InputError: there are fewer; on all ranks alike.
    """
    if not count:
        return rows
    if count > len(rows):
        raise InputError(f"--rows {count:,}: the training part has {len(rows):,} rows; give fewer, "
                         "or leave it out for all", everywhere=True)
    return np.sort(epoch_order(rows, seed, 0)[:count])  # epochs are counted from 1


def share(rows: np.ndarray, rank: int, ranks: int) -> np.ndarray:
    """This rank's part of a global batch (or of any list): sizes differ by one at most."""
    return np.array_split(rows, ranks)[rank]


def prefetch(load: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """``load`` of each item in turn, done while the one before is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(load, items[0]) if items else None
        for following in range(1, len(items) + 1):
            ready = coming.result()
            if following < len(items):
                coming = pool.submit(load, items[following])
            yield ready
