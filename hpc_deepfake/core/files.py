"""Writing files whole: a reader sees the old file or the new one, never a part of it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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
        OSError: the file can't be synced or renamed.
    """
    if path.exists() and (not path.is_file() or _is_own_output(path)):
        yield path
        return
    temporary = path.with_name(f".new-{path.name}")
    try:
        yield temporary
        if sync:
            _sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if sync:
        _sync(path.parent)


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
