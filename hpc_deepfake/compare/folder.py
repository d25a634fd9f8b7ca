"""The folder of a comparison: the conditions of its first call, and the state of its trainings."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from hpc_deepfake.compare.plan import Training, changed_options
from hpc_deepfake.core import holder, json_data
from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.core.files import write_json
from hpc_deepfake.core.json_data import dictionary
from preprocessing.store import Header

BEGUN = "begun.json"
DONE, STARTED, TO_DO = "done", "started", "to do"


def digest(header: Header) -> str:
    """SHA-256 of everything that a data file holds, its pictures by their checksums."""
    sha = hashlib.sha256(json.dumps(header.attributes, sort_keys=True).encode())
    for name in ("label", "group", "split", "status", "crc32", "path"):
        sha.update(np.ascontiguousarray(header.array(name)).tobytes())
    return sha.hexdigest()


def begun(out: Path) -> dict[str, Any]:
    """``data`` (digest of the data file) and ``threads`` of the first call; empty before it."""
    return dictionary(_read(out / BEGUN))


def begin(out: Path, data: str, threads: int) -> None:
    """Hold the folder; create it, unless it already holds a comparison on the same data.

    Args:
        out: the folder.
        data: digest of the data file.
        threads: CPU threads per rank.

    Raises:
        InputError: it can't be created, another process holds it, or it holds a comparison on
            other data.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        holder.hold(out, "a comparison", "--out")
        if not check_same_data(out, data):
            write_json(out / BEGUN, {"data": data, "threads": threads})
    except OSError as error:
        raise InputError(f"cannot create the folder {out}: {error.strerror}; choose another place "
                         "with --out") from None


def check_same_data(out: Path, data: str) -> bool:
    """Whether the folder already holds a comparison, on data with this digest.

    Raises:
        InputError: it holds a comparison on other data.
    """
    first = begun(out)
    if first and first.get("data") != data:
        raise InputError(f"the trainings in {out} used another data file than --data, or another "
                         "state of it: their figures can't be compared. Give the same --data, or "
                         "choose another --out")
    return bool(first)


def state(training: Training) -> str:
    """``DONE``, ``STARTED`` or ``TO_DO``.

    Raises:
        InputError: the run directory holds a run with other settings.
    """
    config = _read(training.path / "config.json")
    if config is None:
        return TO_DO
    changed = changed_options(training, dictionary(config))
    if changed:
        raise InputError(f"{training.path} holds a run with {' '.join(changed)}, unlike the "
                         "options given now: runs with different options are not compared. Give "
                         "the same options, or choose another --out")
    return DONE if _read(training.path / "summary.json") is not None else STARTED


def _read(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json_data.read(path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {reason(error)}. Move its folder away; the training "
                         "is then repeated") from None
