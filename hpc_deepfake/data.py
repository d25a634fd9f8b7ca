"""Rows of the shared HDF5 file for training and evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from preprocessing.errors import InputError
from preprocessing.split import PARTS
from preprocessing.store import DONE, PENDING, Header, open_header


@dataclass(frozen=True)
class DataFile:
    """One feature of a data file: uint8 (N, 128, 128, 3), mapped; labels uint8 (N)."""

    header: Header
    feature: str
    pictures: np.ndarray
    labels: np.ndarray
    parts: np.ndarray
    usable: np.ndarray

    def rows(self, part: str) -> np.ndarray:
        """Usable rows of ``train``, ``validation``, ``test`` or ``all``, int64, sorted."""
        if part == "all":
            return np.flatnonzero(self.usable)
        return np.flatnonzero(self.usable & (self.parts == PARTS.index(part)))

    def batch(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pictures and labels of some rows, in their order."""
        return self.pictures[rows], self.labels[rows]


def open_data(path: Path, feature: str) -> DataFile:
    """Open one feature of a data file.

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
    return DataFile(header, feature, header.array(feature), np.array(header.array("label")),
                    np.array(header.array("split")), status == DONE)


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


def share(rows: np.ndarray, rank: int, ranks: int) -> np.ndarray:
    """This rank's part of a global batch (or of any list): sizes differ by one at most."""
    return np.array_split(rows, ranks)[rank]


def prefetch(data: DataFile, batches: list[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches in turn; each is gathered while the one before is computed."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(data.batch, batches[0]) if batches else None
        for following in [*batches[1:], None]:
            ready = coming.result()
            if following is not None:
                coming = pool.submit(data.batch, following)
            yield ready
