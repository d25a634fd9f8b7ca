"""Whether the contents of a data file are those that preprocessing wrote."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import numpy as np

from hpc_deepfake.core import watchdog
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.mpi import concatenate
from hpc_deepfake.core.progress import Line
from hpc_deepfake.core.text import plural, printable
from preprocessing import unreadable
from preprocessing.ela import at_once
from preprocessing.split import PARTS
from preprocessing.store import DONE, REJECTED, Header, checksum

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

_BLOCK = 64  # rows of 128 × 128 that are read at once
_NAMED = 5  # damaged rows in a message


def require_intact(header: Header, rows: np.ndarray, comm: Comm | None = None) -> None:
    """Raise InputError if labels, paths or any of ``rows`` (int64, sorted) are damaged.

    With ``comm`` collective: the ranks share the rows, and all raise the same error.
    """
    share = rows if comm is None else np.array_split(rows, comm.size)[comm.rank]
    problem = damaged_columns(header) if comm is None or comm.rank == 0 else None
    found = damaged_rows(header, share, shown=comm is None or comm.rank == 0)
    if comm is not None:
        problem, found = comm.bcast(problem), concatenate(comm, found)
    everywhere = comm is not None
    if problem:
        raise InputError(damage(header, problem), everywhere=everywhere)
    if len(found):
        raise InputError(
            f"{len(found):,} of {plural(len(rows), 'row')} of {header.path} "
            f"{'is' if len(found) == 1 else 'are'} damaged, since the pixels don't have their "
            f"checksum: {named(header, found)}. Run the same preprocessing command again: it "
            "computes only the damaged rows, from their pictures. To check the whole file:\n"
            f"  hpc-deepfake verify {shlex.quote(str(header.path))}", everywhere=everywhere)


def damage(header: Header, problem: str) -> str:
    """The message about a result of ``damaged_columns``, which preprocessing doesn't repair."""
    return f"{header.path} is damaged: {problem}. Move it away and run preprocessing again"


def named(header: Header, rows: np.ndarray) -> str:
    """The first of some rows, with their pictures."""
    paths = header.array("path")
    names = [f"row {row} ({printable(paths[row].decode(errors='backslashreplace'))})"
             for row in rows[:_NAMED].tolist()]
    if len(rows) <= _NAMED:
        return ", ".join(names)
    return f"the first ones are {', '.join(names)}"


def damaged_rows(header: Header, rows: np.ndarray, shown: bool = False) -> np.ndarray:
    """Those of ``rows`` (int64, sorted) whose features and mask do not match the stored checksum,
    or are missing since the file is cut off.

    Args:
        header: header of the file.
        rows: the rows to check.
        shown: whether to show the progress if it takes long.

    Raises:
        InputError: the file can't be read.
    """
    stored, found, line, checked = header.array("crc32"), [], Line(shown), 0
    most = at_once(_BLOCK, header.parameters.size)
    buffers = {name: np.empty((most, *header.shapes[name][1:]), np.uint8)
               for name in header.summed}
    try:
        descriptor = os.open(header.path, os.O_RDONLY)
        try:
            for run in _runs(rows, most):
                blocks = [_read(descriptor, header.offsets[name], run, buffer)
                          for name, buffer in buffers.items()]
                found += [row for number, row in enumerate(run.tolist())
                          if checksum([block[number] for block in blocks]) != stored[row]]
                checked += len(run)
                watchdog.advance()
                if line.due():
                    line.show(f"{checked:,} of {plural(len(rows), 'row')} checked")
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InputError(unreadable.reason(header.path, error) or str(error)) from None
    line.clear()
    return np.array(found, np.int64)


def damaged_columns(header: Header) -> str | None:
    """What is wrong with labels, paths and parts of the rows; None if nothing is known to be:
    groups and parts have no checksum."""
    for name, most in (("label", 1), ("split", len(PARTS) - 1)):
        wrong = np.flatnonzero(header.array(name) > most)
        if len(wrong):
            return f"the {name} of row {wrong[0]} is {header.array(name)[wrong[0]]}"
    sha = hashlib.sha256(header.array("label").tobytes())
    sha.update(b"\0".join(unquote_to_bytes(path) for path in header.array("path").tolist()))
    if sha.hexdigest() != header.attributes["files"]:
        return "labels and paths of the rows don't have their checksum"
    return None


def unfinished(header: Header) -> np.ndarray:
    """Rows that preprocessing has to compute, whether their state is pending or impossible."""
    return np.flatnonzero(~np.isin(header.array("status"), (DONE, REJECTED)))


def _runs(rows: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """``rows`` as runs of at most so many consecutive ones."""
    for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
        yield from (run[start:start + most] for start in range(0, len(run), most))


def _read(descriptor: int, offset: int, rows: np.ndarray, buffer: np.ndarray) -> np.ndarray:
    """Consecutive rows of the dataset at ``offset``, in the buffer; missing bytes are 0.

    By reading: a mapped page of a file that is cut off meanwhile would end the process."""
    pixels = buffer[:len(rows)]
    left = pixels.reshape(-1)
    position = offset + int(rows[0]) * pixels[0].nbytes
    while len(left) and (count := os.preadv(descriptor, [left.data], position)):
        left, position = left[count:], position + count
    left[:] = 0
    return pixels
