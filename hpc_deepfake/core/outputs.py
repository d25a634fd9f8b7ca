"""Files to write, checked before the work whose results they are to hold."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from hpc_deepfake.core.errors import InputError

# records of a run, which only its training writes, and what its folder is known by
_RECORDS = ("config.json", "environment.json", "metrics.jsonl", "model.json", "summary.json")
_RUN = "config.json"
_BEGINS = {"JSON": b"{[", "HTML": b"<"}  # first characters of files of a kind


def check_file(option: str, path: Path | None, kind: str, inputs: Iterable[Path] = ()) -> None:
    """Check that ``path``, which the user named with ``option``, can be written.

    Args:
        option: for the message.
        path: None if the option was not given.
        kind: of the file to write, ``JSON`` or ``HTML``; an existing file must be of that kind, so
            that a mistyped name costs nothing.
        inputs: files that the command reads.

    Raises:
        InputError: it can't be written, is one of the inputs, a record of a run, or a file of
            another kind.
    """
    problem = None if path is None else _problem(path, kind, inputs)
    if problem is not None:
        raise InputError(f"cannot write {option} {path}: {problem}")


def _problem(path: Path, kind: str, inputs: Iterable[Path]) -> str | None:
    """Why a file can't be written, and what to do; None if it can."""
    if path.is_dir():
        return "it is a folder; name a file in it"
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}; create it, or choose another place"
    if any(_same(path, file) for file in inputs):
        return "this command reads that file; choose another name"
    if path.name in _RECORDS and (path.parent / _RUN).exists():
        return "it is a record of a run; choose another name"
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        return "permission denied; choose another place"
    # /dev/stdout may be a file with other lines
    if path.is_file() and path.parent != Path("/dev") and not _is(kind, path):
        return (f"the file there is no {kind} file and isn't overwritten; choose another name, or "
                "delete it")
    return None


def _same(path: Path, other: Path) -> bool:
    """Whether both are the same file."""
    try:
        return path.samefile(other)
    except OSError:  # one of them doesn't exist
        return False


def _is(kind: str, path: Path) -> bool:
    """Whether a file is empty or begins like one of this kind."""
    try:
        with open(path, "rb") as file:
            start = file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n")
    except OSError:  # it can be written, but not read
        return True
    return not start or start[0] in _BEGINS[kind]
