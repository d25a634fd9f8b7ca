"""The folder of a comparison: the conditions of its first call, and the state of its trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpc_deepfake.compare.plan import Training
from hpc_deepfake.core import holder, json_data
from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.core.files import write_json
from hpc_deepfake.core.json_data import dictionary
from hpc_deepfake.train import planned

BEGUN = "begun.json"
DONE, STARTED, TO_DO = "done", "started", "to do"


def begun(out: Path) -> dict[str, Any]:
    """``data`` (digest of the data file) and ``threads`` of the first call; empty before it."""
    file = out / BEGUN
    try:
        return dictionary(json_data.read(file)) if file.is_file() else {}
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {file}: {reason(error)}. Move its folder away; the "
                         "comparison is then repeated") from None


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
    config = planned.config(training.path)
    if config is None:
        return TO_DO
    changed = planned.changed_options(training.settings, config)
    if changed:
        raise InputError(f"{training.path} holds a run with {' '.join(changed)}, unlike the "
                         "options given now: runs with different options are not compared. Give "
                         "the same options, or choose another --out")
    return DONE if planned.finished(training.path) else STARTED
