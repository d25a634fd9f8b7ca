"""Checkpoints: complete or absent, the last few kept, damaged ones skipped."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hpc_deepfake.core import files, json_data

Loaded = tuple[list[np.ndarray], dict[str, Any]]  # arrays and meta, as given to ``save``
_NAME = re.compile(r"step-(\d{9})\.npz")


def save(folder: Path, step: int, arrays: Sequence[np.ndarray], meta: dict[str, Any],
         keep: int = 2) -> Path:
    """Write ``step-<step>.npz`` whole and sync it to the disk, then delete old checkpoints.

    Args:
        arrays: in the order in which ``load`` returns them.
        meta: JSON.
        keep: number of the newest checkpoints to keep.
    """
    path = folder / f"step-{step:09d}.npz"
    with files.writing(path):
        folder.mkdir(exist_ok=True)
    contents = {"meta": np.frombuffer(json.dumps(meta).encode(), np.uint8),
                **{f"array{number}": array for number, array in enumerate(arrays)}}
    with files.whole(path, sync=True) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **contents)
    others = [other for other in found(folder) if other != path]
    for old in others[keep - 1:]:  # never the new one, whatever the others are called
        with files.writing(old):
            old.unlink(missing_ok=True)
    return path


def set_aside(path: Path) -> Path:
    """Rename a checkpoint that can't be used, so that it doesn't count as one of those to keep;
    returns its new path."""
    aside = path.with_name(f"{path.name}.damaged")
    with files.writing(aside):
        path.replace(aside)
    return aside


def found(folder: Path) -> list[Path]:
    """Checkpoints in a folder, newest first."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True)


def load(path: Path) -> Loaded:
    """Arrays and meta of a checkpoint; every array is checked against its CRC-32.

    Raises:
        ValueError: it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            def array(name: str) -> np.ndarray:
                # read to the end, where the checksum is compared; np.load stops earlier if the
                # array's header is damaged
                stored = io.BytesIO(archive.read(f"{name}.npy"))
                return np.lib.format.read_array(stored, allow_pickle=False)

            if any(member.compress_type for member in archive.infolist()):
                raise ValueError("it is compressed")  # a few bytes could become any number
            meta = json_data.parse(array("meta").tobytes())
            arrays = [array(f"array{number}") for number in range(len(archive.namelist()) - 1)]
    except Exception as error:  # zip, NumPy and JSON raise many kinds
        raise ValueError(f"{path} is damaged: {error}") from None
    return arrays, meta


def load_newest(folder: Path) -> tuple[list[np.ndarray], dict[str, Any], list[str]] | None:
    """The newest checkpoint that is neither damaged nor of a training that had diverged, and what
    is wrong with newer ones; None if there is no checkpoint.

    Raises:
        ValueError: there is none but such.
    """
    problems: list[str] = []
    for path in found(folder):
        try:
            arrays, meta = load(path)
            if all(np.isfinite(array).all() for array in arrays if array.dtype.kind == "f"):
                return arrays, meta, problems
            problems.append(f"{path} has numbers that are not finite: the training had diverged")
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("; ".join(problems))
    return None
