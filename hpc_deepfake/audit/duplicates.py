"""Duplicates: files that are byte-identical, and pictures that look the same."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from hpc_deepfake.audit.rows import Rows
from hpc_deepfake.core.progress import counted
from preprocessing import ela, picture, similar
from preprocessing.similar import COPY, SCENE, THUMB
from preprocessing.store import DONE

MOST = 200_000  # maximum number of pairs to compare
_BLOCK = 1024


class Pairs(NamedTuple):
    """Pairs of similar pictures, int64 (P, 2), with the smaller row number first.

    Attributes:
        copies: pairs that differ nowhere by more than saving again may change.
        scenes: pairs that agree in at least half of their area but not everywhere, as a forgery
            and its target do.
        complete: whether all candidates could be compared; False if there were more than ``MOST``.
    """

    copies: np.ndarray
    scenes: np.ndarray
    complete: bool


def identical(files: list[bytes], sizes: np.ndarray) -> list[list[int]]:
    """Sets of rows whose files have the same bytes (SHA-256), at least two files in each.

    Args:
        files: name of each row's file.
        sizes: size of each file in bytes, NaN for a missing one (N).
    """
    rows_of: dict[bytes, list[int]] = defaultdict(list)
    same_size: dict[int, list[bytes]] = defaultdict(list)
    for row, (name, size) in enumerate(zip(files, sizes.tolist())):
        if size == size and size > 0:
            if name not in rows_of:
                same_size[int(size)].append(name)
            rows_of[name].append(row)
    candidates = [name for names in same_size.values() if len(names) > 1 for name in names]
    same_bytes: dict[bytes, list[bytes]] = defaultdict(list)
    for name in counted(candidates, len(candidates), "files of equal size compared"):
        if digest := _digest(name):
            same_bytes[digest].append(name)
    return [sorted(row for name in names for row in rows_of[name])
            for names in same_bytes.values() if len(names) > 1]


def _digest(name: bytes) -> bytes | None:
    try:
        with open(os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:  # removed since its size was read
        return None


def thumbnails(rows: Rows, files: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Thumbnails of all rows: from the feature ``raw`` if the data file has it, else from the
    picture files.

    Returns:
        The thumbnails, uint8 (M, 32, 32, 3), and which of them could be made, bool (M).
    """
    small = np.zeros((len(rows), THUMB, THUMB, 3), np.uint8)
    made = np.zeros(len(rows), bool)
    stored = rows.header.array("raw") if "raw" in rows.header.features else None
    done = np.isin(rows.rows, stored_rows(rows))
    for at, row in enumerate(counted(rows.rows.tolist(), len(rows), "pictures compared")):
        try:
            if stored is not None and done[at]:
                pixels = np.asarray(stored[row])
            else:
                pixels = ela.features_of_file(files[at], ("raw",), rows.header.parameters)[0]
        except picture.Rejected:
            continue
        small[at] = similar.thumbnail(pixels)
        made[at] = True
    return small, made


def stored_rows(rows: Rows) -> np.ndarray:
    """Numbers of the rows whose pictures are in the data file, int64."""
    if "raw" not in rows.header.features:
        return np.zeros(0, np.int64)
    return rows.rows[np.array(rows.header.array("status"))[rows.rows] == DONE]


def alike(small: np.ndarray, made: np.ndarray, *kinds: np.ndarray) -> Pairs:
    """Pairs that look the same but differ in at least one of ``kinds`` (group, part or label).

    The hashes select candidates; the thumbnails decide.

    Args:
        small: thumbnails, uint8 (M, 32, 32, 3).
        made: which of them exist, bool (M).
        kinds: arrays (M).
    """
    rows = np.flatnonzero(made)
    kinds = tuple(kind[rows] for kind in kinds)
    pairs, count, complete = [np.zeros((0, 2), np.int64)], 0, True
    for candidates in similar.near(similar.hashes(small[rows])):
        first, second = candidates.T
        differs = np.any([kind[first] != kind[second] for kind in kinds], axis=0)
        pairs.append(candidates[differs][:MOST - count])
        count += len(pairs[-1])
        complete &= len(pairs[-1]) == differs.sum()
        if not complete:
            break
    chosen = rows[np.concatenate(pairs)]
    largest, median = np.zeros((2, len(chosen)))
    for start in range(0, len(chosen), _BLOCK):
        first, second = chosen[start:start + _BLOCK].T
        largest[start:start + _BLOCK], median[start:start + _BLOCK] = similar.changes(
            small[first], small[second])
    return Pairs(chosen[largest <= COPY], chosen[(median <= SCENE) & (largest > COPY)], complete)
