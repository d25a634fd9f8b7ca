"""Rows of the shared HDF5 file for training and evaluation."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import psutil

from hpc_deepfake.core.errors import InputError
from preprocessing.split import PARTS
from preprocessing.store import DONE, PENDING, Header, open_header

T = TypeVar("T")
R = TypeVar("R")
INPUTS = ("auto", "mmap", "read", "memory")
# network file systems, where a page fault costs a round trip
REMOTE = {"nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "smb3", "ceph", "afs", "orangefs",
           "pvfs2", "panfs", "fuse", "9p", "wekafs", "daos"}


class Pictures(Protocol):
    """uint8 (N, 128, 128, 3), indexed by arrays of row numbers."""

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        """The pictures of these rows, in their order."""


@dataclass(frozen=True)
class DataFile:
    """One feature of a data file.

    Attributes:
        header: header of the file.
        feature: name of the feature.
        pictures: uint8 (N, 128, 128, 3), indexed by arrays of row numbers.
        labels: uint8 (N), 0 authentic, 1 tampered.
        parts: uint8 (N), indices into ``split.PARTS``.
        usable: bool (N), False for rejected rows.
        input: how the pictures are read, one of ``INPUTS``.
    """

    header: Header
    feature: str
    pictures: Pictures
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
        """Pictures and labels of ``rows``, in their order."""
        return np.asarray(self.pictures[rows]), self.labels[rows]


class PositionedRows:
    """Rows read one by one with pread: no page faults, and memory for one batch only."""

    def __init__(self, path: Path, offset: int, shape: tuple[int, ...]) -> None:
        self._path, self._descriptor = path, os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        self._offset, self._shape = offset, shape[1:]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        pictures = np.empty((len(rows), *self._shape), np.uint8)
        size = int(np.prod(self._shape))
        for row, target in zip(rows.tolist(), pictures, strict=True):
            if os.preadv(self._descriptor, [target], self._offset + row * size) != size:
                raise OSError(f"row {row} of {self._path} is cut off")
        return pictures


def open_data(path: Path, feature: str, input_mode: str = "auto",
              ranks_on_node: int = 1) -> DataFile:
    """Open one feature of a data file.

    Args:
        path: the data file.
        feature: name of the feature.
        input_mode: ``mmap`` maps the pictures from the page cache, ``read`` reads the rows of each
            batch, ``memory`` holds all of them; ``auto`` maps a file on a local file system, and of
            a file on a network file system holds all pictures if all ranks of the node together
            need less than a quarter of its free memory, else reads the rows of each batch.
        ranks_on_node: number of ranks that open the file on this node.

    Raises:
        InputError: no such file or feature, or preprocessing has not finished the file.
    """
    header = open_header(path)
    if feature not in header.features:
        raise InputError(f"{path} has no feature '{feature}', only {', '.join(header.features)}; "
                         f"run preprocessing with --features {feature} and another --out")
    status = np.array(header.array("status"))
    pending = int((status == PENDING).sum())
    if pending:
        raise InputError(f"{path} isn't finished: {pending:,} of {header.rows:,} pictures are "
                         "pending; run the same preprocessing command again to complete it")
    shape = header.shapes[feature]
    if input_mode == "auto":
        fits = int(np.prod(shape)) * ranks_on_node < psutil.virtual_memory().available / 4
        input_mode = "mmap" if file_system(path) not in REMOTE else "memory" if fits else "read"
    pictures: Pictures
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
    """Type of the file system that holds ``path``, such as ``lustre``; empty if unknown."""
    resolved = path.resolve()
    types = {Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(all=True)}
    folders = (resolved, *resolved.parents)
    return next((types[folder].partition(".")[0] for folder in folders if folder in types), "")


def check_trainable(data: DataFile) -> None:
    """Raise InputError unless the train and the validation part hold both classes."""
    for part in ("train", "validation"):
        classes = set(data.labels[data.rows(part)].tolist())
        if classes != {0, 1}:
            raise InputError(f"{data.header.path}: the {part} part needs authentic and tampered "
                             f"pictures, and has {'one class only' if classes else 'none'}; "
                             "preprocess more pictures or with another --split")


def epoch_order(rows: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The rows in the order of an epoch, which depends on seed and epoch, not on the ranks."""
    return np.random.default_rng([seed, epoch]).permutation(rows)


def first_rows(rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """``count`` of the rows, sorted; all of them for 0.

    They come first in an order that depends on the seed alone, so that a larger count includes the
    rows of a smaller one.

    Raises:
        InputError: there are fewer rows; on all ranks alike.
    """
    if not count:
        return rows
    if count > len(rows):
        raise InputError(f"--rows {count:,}: the training part has {len(rows):,} rows; give a "
                         "smaller number, or omit --rows to use all", everywhere=True)
    return np.sort(epoch_order(rows, seed, 0)[:count])  # epochs are counted from 1


def share(rows: np.ndarray, rank: int, ranks: int) -> np.ndarray:
    """This rank's part of a global batch (or of any list); sizes differ by at most one."""
    return np.array_split(rows, ranks)[rank]


def prefetch(load: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """``load(item)`` of each item in turn, computed in a thread while the previous one is used."""
    if not items:
        return
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(load, items[0])
        for following in range(1, len(items) + 1):
            ready = pending.result()
            if following < len(items):
                pending = pool.submit(load, items[following])
            yield ready
