"""Random pictures in memory instead of a data file, for training without reading input."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from hpc_deepfake.data.rows import DataFile
from preprocessing.ela import SIZE, Parameters, at_once, channels
from preprocessing.split import PARTS
from preprocessing.store import Header

VALIDATION = 64  # rows of the validation part
# different pictures of 128 × 128; rows share them, so that any number of rows fits into memory
_DISTINCT = 256


@dataclass(frozen=True)
class MemoryHeader(Header):
    """A header whose arrays are in memory."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def array(self, name: str, mode: Literal["r", "r+"] = "r") -> np.ndarray:
        return self.arrays[name]


class Repeated:
    """Pictures for any number of rows: row i shows picture i modulo their number."""

    def __init__(self, pictures: np.ndarray) -> None:
        self._pictures = pictures

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self._pictures[rows % len(self._pictures)]


def synthetic(rows: int, feature: str, seed: int, size: int = SIZE) -> DataFile:
    """``rows`` training pictures and 64 for validation: uint8 noise that depends on ``seed``, of
    ``size`` × ``size`` pixels, with alternating labels, so that there is nothing to learn."""
    total = rows + VALIDATION
    distinct = min(total, at_once(_DISTINCT, size))
    shape = distinct, size, size, channels(feature)
    pool = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    labels = (np.arange(total) % 2).astype(np.uint8)
    parts = np.full(total, PARTS.index("train"), np.uint8)
    parts[rows:] = PARTS.index("validation")
    names = np.array([f"synthetic/{row:09d}" for row in range(total)], "S")
    arrays = {"label": labels, "split": parts, "path": names,
              "status": np.ones(total, np.uint8)}
    header = MemoryHeader(
        None,  # type: ignore[arg-type] # there is no file
        {"features": [feature], "ela": Parameters(size=size).as_dict(), "synthetic": rows,
         "seed": seed}, {},
        {name: array.shape for name, array in arrays.items()},
        {name: array.dtype for name, array in arrays.items()}, arrays)
    return DataFile(header, feature, Repeated(pool), labels, parts, np.ones(total, bool),
                    "synthetic", names, Repeated(_masks(distinct, size)))


def _masks(count: int, size: int) -> np.ndarray:
    """uint8 (count, size, size): as of tampered pictures, a square in the middle, and of authentic
    ones, by turns."""
    masks = np.zeros((count, size, size), np.uint8)
    masks[1::2, size // 4:size // 2, size // 4:size // 2] = 1
    return masks
