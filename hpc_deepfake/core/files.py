"""Writing files whole: a reader sees the old file or the new one, never a part of it."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hpc_deepfake.core import holder
from hpc_deepfake.core.errors import OutputError

_TEMPORARY = ".new-"  # beginning of the names of temporary files


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of the block, which writes ``path``, into an OutputError."""
    try:
        yield
    except (OutputError, BrokenPipeError):
        raise
    except OSError as error:
        if error.errno == errno.ENOENT and path.parent.is_dir():
            raise  # a mistake of the program
        raise OutputError(path, error) from error


@contextmanager
def whole(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """A temporary path beside ``path``, with the same suffix, to write to.

    It replaces ``path`` when the block succeeds, and is removed when the block raises. A symbolic
    link is replaced, never followed: somebody else may have put it there. What isn't a regular
    file, or is this process's own output (``/dev/stdout``), is written to directly.

    Args:
        path: the file to write.
        sync: return only when the file and its new name are on the disk, as a checkpoint needs.

    Raises:
        OutputError: an OSError of the block, or the file can't be synced or renamed.
        InputError: another process has taken the folder meanwhile (``holder.verify``).
    """
    with writing(path):
        if path.exists() and (not path.is_file() or _is_own_output(path)):
            yield path
            return
        # unique: another process may be writing the same file
        temporary = path.with_name(f"{_TEMPORARY}{os.urandom(4).hex()}-{path.name}")
        try:
            yield temporary
            if sync:
                _sync(temporary)
            holder.verify(path)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):  # the folder may be gone, or read-only by now
                temporary.unlink(missing_ok=True)
            raise
        if sync:
            _sync(path.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path``, whose folder is made as needed, to write files into.

    It becomes ``path`` when the block succeeds, and is removed when the block raises.

    Args:
        path: of the folder to make; there must be nothing yet, or an empty folder.

    Raises:
        OutputError: an OSError of the block, or there is something already.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{_TEMPORARY}{os.urandom(4).hex()}-{path.name}")
        try:
            temporary.mkdir()
            yield temporary
            os.replace(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def remove_temporary(folder: Path, *names: str) -> list[Path]:
    """Remove the temporary files that killed processes left in a folder, those of files with these
    names or all; returns their paths. Call it only where nobody else writes such files."""
    whose = "|".join(map(re.escape, names)) or ".*"
    # version 0.1 used fixed names
    name = re.compile(rf"{re.escape(_TEMPORARY)}([0-9a-f]{{8}}-)?({whose})", re.DOTALL)
    stale = [path for path in folder.iterdir() if name.fullmatch(path.name) and path.is_file()
             and not path.is_symlink()] if folder.is_dir() else []
    for path in stale:
        with suppress(OSError):
            path.unlink()
    return stale


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file whole."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole: indented, null for numbers that JSON lacks (NaN, infinity)."""
    write_text(path, json.dumps(finite_only(value), indent=2, default=str) + "\n")


def finite_only(value: Any) -> Any:
    """``value`` with None for numbers that JSON lacks, such as the NaN of a diverged loss."""
    if isinstance(value, dict):
        return {key: finite_only(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite_only(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_own_output(path: Path) -> bool:
    """Whether it is the file that standard output or error goes to."""
    target = path.stat()
    for descriptor in (1, 2):
        try:
            if os.path.samestat(os.fstat(descriptor), target):
                return True
        except OSError:  # closed
            continue
    return False


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
