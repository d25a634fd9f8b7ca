"""The rows of a data file, and the picture files they were made from."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote_to_bytes

import numpy as np

from hpc_deepfake.audit import facts
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.progress import counted
from hpc_deepfake.core.text import printable
from preprocessing.catalogue import locate
from preprocessing.names import parse_path
from preprocessing.store import REJECTED, Header, open_header

T = TypeVar("T")


@dataclass(frozen=True)
class Rows:
    """Rows of a data file that aren't rejected, M of N.

    Attributes:
        rows: int64 (M), their numbers in the file. labels, parts: uint8 (M). groups: int32 (M).
        paths: as in the catalogue, M.
    """

    header: Header
    rows: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    parts: np.ndarray
    paths: list[bytes]

    def __len__(self) -> int:
        return len(self.rows)


def open_rows(path: Path) -> Rows:
    """All rows of a data file but the rejected ones.

    Raises:
        InputError: no such file, or not a data file.
    """
    header = open_header(path)
    rows = np.flatnonzero(np.array(header.array("status")) != REJECTED)
    paths = np.array(header.array("path"))[rows].tolist()
    return Rows(header, rows, *(np.array(header.array(name))[rows]
                                for name in ("label", "group", "split")),
                [unquote_to_bytes(one) for one in paths])


def stored_roots(path: Path) -> dict[str, Path]:
    """Folders that a data file's paths are relative to, as noted beside it; empty if unknown."""
    try:
        noted = json.loads(Path(f"{path}.json").read_text(encoding="utf-8"))["roots"]
        return {str(name): Path(folder) for name, folder in noted.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def files_of(rows: Rows, roots: dict[str, Path]) -> list[bytes]:
    """Name of the file of each row; that of its video for a frame.

    Raises:
        InputError: a path begins with the name of a root that isn't given.
    """
    try:
        return [locate(roots, parse_path(path)[0]) for path in rows.paths]
    except KeyError:
        raise InputError(f"it isn't known where the pictures of {rows.header.path} lie: name "
                         "their folder with --data DIR") from None


def facts_of(files: list[bytes], say: bool = True) -> list[facts.Facts | None]:
    """Facts of each row's file, each file read once; None where it isn't there."""
    distinct = dict.fromkeys(files)
    wanted = counted(distinct, len(distinct), "files read", say)
    found = {name: facts.read(name) for name in wanted}
    return [found[name] for name in files]


def shown(path: bytes) -> str:
    """A path as text for a person: one line, whatever it holds."""
    text = os.fsdecode(path).encode("utf-8", "backslashreplace").decode()
    return printable(text)
