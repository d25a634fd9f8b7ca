"""The picture files that the rows of a data file were made from: found, and still the same."""

from __future__ import annotations

import os
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import numpy as np

from hpc_deepfake.core import mpi, watchdog
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import printable
from hpc_deepfake.data.rows import DataFile, share
from preprocessing import facts
from preprocessing.catalogue import Catalogue, locate
from preprocessing.names import parse_path

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

_MISSING, _CHANGED = "aren't there", "have changed since preprocessing read them"


def roots(data: DataFile, rows: np.ndarray, folder: Path | None,
          comm: Comm | None = None) -> dict[str, Path]:
    """The folders that the paths of a data file are relative to; with ``comm`` collective: each
    rank looks at some of the files.

    Args:
        data: the data file.
        rows: whose files are needed, int64 (n).
        folder: given by the user; None: those that preprocessing recorded beside the data file.
        comm: the ranks; None: this process is alone.

    Raises:
        InputError: the folder is unknown, or a file in it is missing or not the one that
            preprocessing read; on all ranks alike.
    """
    from hpc_deepfake.audit import stored_roots

    watchdog.enter("looking for the pictures")
    path = data.header.path
    found = {"": folder} if folder is not None else mpi.on_root(comm, partial(stored_roots, path))
    own = rows if comm is None else share(rows, comm.rank, comm.size)
    problems = [*chain(*mpi.gather(comm, _problems(data, own, found)))] if found else []
    if not found:
        raise InputError(f"--perturb changes the pictures of {path}, but {path}.json doesn't say "
                         "where they are: name their folder with --pictures DIR", everywhere=True)
    if problems:
        first, problem = problems[0]
        count = sum(problem == other for _, other in problems)
        where = " and ".join(map(str, found.values()))
        raise InputError(
            f"--perturb changes the pictures of {path}: {count:,} of {len(rows):,} {problem}, such "
            f"as {printable(os.fsdecode(first))} in {where}: name the folder of the pictures as "
            "they were with --pictures DIR", everywhere=True)
    return found


class MaskRows:
    """The masks of rows of a data file, in their order."""

    def __init__(self, data: DataFile, rows: np.ndarray) -> None:
        """
        Args:
            data: of a file with masks.
            rows: int64 (n).
        """
        assert data.masks is not None
        self._masks, self._rows = data.masks, rows

    def __getitem__(self, place: int) -> np.ndarray:
        """The mask of the row at a place, 0 to n - 1, uint8 (S, S)."""
        return np.asarray(self._masks[self._rows[place:place + 1]])[0]


def catalogue(data: DataFile, rows: np.ndarray, folder: Path | None,
              comm: Comm | None = None) -> Catalogue:
    """The pictures of rows, as of ``roots``."""
    found = roots(data, rows, folder, comm)
    return Catalogue(found, [unquote_to_bytes(path) for path in data.paths[rows].tolist()],
                     data.labels[rows], np.array(data.header.array("group"))[rows])


def _problems(data: DataFile, rows: np.ndarray, found: dict[str, Path]) -> list[tuple[bytes, str]]:
    """Rows whose file is missing or another one, each with what is wrong."""
    known = data.header.array("digest") if data.header.has_facts else None

    @cache  # a video has many rows
    def digest(file: bytes) -> bytes | None:
        try:
            return facts.digest_of_file(file)
        except OSError:
            return None

    problems = []
    for row in rows.tolist():
        path = unquote_to_bytes(data.paths[row])
        now = digest(locate(found, parse_path(path)[0]))
        if now is None:
            problems.append((path, _MISSING))
        elif known is not None and known[row].any() and known[row].tobytes() != now:
            problems.append((path, _CHANGED))
        watchdog.advance()
    return problems
