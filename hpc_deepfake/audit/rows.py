"""The rows of a data file, and the picture files that they were made from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np

from hpc_deepfake.audit import facts
from hpc_deepfake.core import json_data
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.progress import counted
from hpc_deepfake.core.text import printable
from preprocessing.catalogue import locate
from preprocessing.names import parse_path
from preprocessing.store import REJECTED, Header, open_header


@dataclass(frozen=True)
class Rows:
    """The M of N rows of a data file that aren't rejected.

    Attributes:
        header: of the data file.
        rows: their numbers in the file, int64 (M).
        labels: uint8 (M).
        groups: int32 (M).
        parts: uint8 (M).
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

    def take(self, chosen: np.ndarray) -> Rows:
        """Those of the rows, bool (M)."""
        return Rows(self.header, self.rows[chosen], self.labels[chosen], self.groups[chosen],
                    self.parts[chosen], [*compress(self.paths, chosen)])


def open_rows(path: Path) -> Rows:
    """All rows of a data file except the rejected ones.

    Raises:
        InputError: the file doesn't exist or isn't a data file.
    """
    header = open_header(path)
    rows = np.flatnonzero(np.array(header.array("status")) != REJECTED)

    def column(name: str) -> np.ndarray:
        return np.array(header.array(name))[rows]

    return Rows(header, rows, column("label"), column("group"), column("split"),
                [unquote_to_bytes(stored) for stored in column("path").tolist()])


def stored_roots(path: Path) -> dict[str, Path]:
    """Folders that a data file's paths are relative to, from the JSON file beside it; empty if
    unknown."""
    try:
        roots = json_data.read(Path(f"{path}.json"))["roots"]
        return {str(name): Path(folder) for name, folder in roots.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def files_of(rows: Rows, roots: dict[str, Path]) -> list[bytes]:
    """Name of each row's file; for a frame, that of its video.

    Raises:
        InputError: a path begins with the name of a root that isn't in ``roots``.
    """
    try:
        return [locate(roots, parse_path(path)[0]) for path in rows.paths]
    except KeyError:
        raise InputError(f"the folder of the pictures of {rows.header.path} is unknown: name it "
                         "with --data DIR") from None


def facts_of(files: list[bytes], show_progress: bool = True) -> list[facts.Facts | None]:
    """Facts of each row's file, with each file read once; None for a missing file."""
    distinct = dict.fromkeys(files)
    names = counted(distinct, len(distinct), "files read", show_progress)
    by_name = {name: facts.read(name) for name in names}
    return [by_name[name] for name in files]


def shown(path: bytes) -> str:
    """A path as one line of text for display, whatever its bytes."""
    text = os.fsdecode(path).encode("utf-8", "backslashreplace").decode()
    return printable(text)
