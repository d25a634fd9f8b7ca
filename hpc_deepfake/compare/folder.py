"""The folder of a comparison: what it was begun with, and which trainings are finished."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from hpc_deepfake.compare.plan import Training, differing
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.json_data import dictionary
from preprocessing.store import Header

BEGUN = "begun.json"
DONE, STARTED, TO_DO = "done", "started", "to do"


def digest(header: Header) -> str:
    """SHA-256 of all that a data file holds, its pictures by their checksums."""
    found = hashlib.sha256(json.dumps(header.attributes, sort_keys=True).encode())
    for name in ("label", "group", "split", "status", "crc32", "path"):
        found.update(np.ascontiguousarray(header.array(name)).tobytes())
    return found.hexdigest()


def begun(out: Path) -> dict[str, Any]:
    """``data`` (digest of the data file) and ``threads`` of the first call; empty before that."""
    return dictionary(_read(out / BEGUN))


def begin(out: Path, data: str, threads: int) -> None:
    """Make the folder, or find in it a comparison on the same data.

    Raises:
        InputError: it can't be made, or was begun with other data.
    """
    if check_same_data(out, data):
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        replace(out / BEGUN, json.dumps({"data": data, "threads": threads}, indent=2) + "\n")
    except OSError as error:
        raise InputError(f"cannot make the folder {out}: {error.strerror}; choose another place "
                         "with --out") from None


def check_same_data(out: Path, data: str) -> bool:
    """Whether the folder was begun, with this data.

    Raises:
        InputError: it was begun with other data.
    """
    before = begun(out)
    if before and before.get("data") != data:
        raise InputError(f"the trainings in {out} are of another data file than this one, or of "
                         "another state of it: their figures can't stand side by side. Give the "
                         "same --data, or choose another --out")
    return bool(before)


def state(training: Training) -> str:
    """``DONE``, ``STARTED`` or ``TO_DO``.

    Raises:
        InputError: the run directory holds a run with other settings.
    """
    config = _read(training.path / "config.json")
    if config is None:
        return TO_DO
    other = differing(training, dictionary(config))
    if other:
        raise InputError(f"{training.path} holds a run with {' '.join(other)}, which is not what "
                         "is asked for now: unlike runs are not compared. Give the same options, "
                         "or choose another --out")
    return DONE if _read(training.path / "summary.json") is not None else STARTED


def replace(file: Path, text: str) -> None:
    """Write a file whole or not at all."""
    new = file.with_name(f".new-{file.name}")
    new.write_text(text, encoding="utf-8")
    os.replace(new, file)


def _read(file: Path) -> Any:
    if not file.is_file():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} can't be read: {error}. Move its folder away, and this training "
                         "is done anew") from None
