"""Checkpoints: whole or not there, the last few kept, a damaged one passed over."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_NAME = re.compile(r"step-(\d{9})\.npz")


def save(folder: Path, step: int, arrays: Sequence[np.ndarray], meta: dict[str, Any],
         keep: int = 2) -> Path:
    """Write ``step-<step>.npz`` under a temporary name, sync it to the disk, rename it.

    Args:
        arrays: in the order in which ``load`` gives them back. meta: JSON. keep: how many of the
            newest stay.
    """
    folder.mkdir(exist_ok=True)
    path = folder / f"step-{step:09d}.npz"
    temporary = folder / f".new-{path.name}"
    with open(temporary, "wb") as file:
        np.savez(file, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8),
                 **{f"array{number}": array for number, array in enumerate(arrays)})
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    for old in found(folder)[keep:]:
        old.unlink()
    return path


def found(folder: Path) -> list[Path]:
    """Checkpoints in a folder, newest first."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True)


def load(path: Path) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Arrays and meta of a checkpoint; every array is checked against its CRC-32.

    Raises:
        ValueError: it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            def array(name: str) -> np.ndarray:
                # read to its end, which np.load doesn't if the array's header was damaged: the
                # checksum is compared there
                stored = io.BytesIO(archive.read(f"{name}.npy"))
                return np.lib.format.read_array(stored, allow_pickle=False)

            meta = json.loads(array("meta").tobytes())
            arrays = [array(f"array{number}") for number in range(len(archive.namelist()) - 1)]
    except Exception as error:  # zip, NumPy and JSON have many
        raise ValueError(f"{path} is damaged: {error}") from None
    return arrays, meta


def load_newest(folder: Path) -> tuple[list[np.ndarray], dict[str, Any], list[str]] | None:
    """The newest checkpoint that is whole, and what was wrong with newer ones; None without any."""
    problems = []
    for path in found(folder):
        try:
            return *load(path), problems
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("; ".join(problems))
    return None
