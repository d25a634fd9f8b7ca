"""The folder of a comparison, and the conditions of its first call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpc_deepfake.core import holder, json_data
from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.core.files import write_json
from hpc_deepfake.core.json_data import dictionary

BEGUN = "begun.json"


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
