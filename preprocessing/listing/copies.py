"""Files with the same bytes, found by all ranks together."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from hpc_deepfake.core import mpi, watchdog

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

_BLOCK = 4096  # bytes from the middle of a file, where pictures of equal size differ


def identical(files: Sequence[bytes], comm: Comm | None = None) -> list[list[int]]:
    """Sets of files with the same bytes (SHA-256), at least two in each; with ``comm`` collective.

    Of all files the size is looked up, of those of equal size 4 KiB are read, and only what is then
    still equal is read whole.

    Args:
        files: names, on rank 0; not used on other ranks.

    Returns:
        Positions in ``files``, in order, on rank 0; an empty list on other ranks.
    """
    left = [list(range(len(files)))] if comm is None or comm.rank == 0 else []
    for look in (_size, _middle, _digest):
        left = _divided(left, files, look, comm)
    return sorted(left)


def _divided(sets: list[list[int]], files: Sequence[bytes], look: Callable[[bytes], Hashable],
             comm: Comm | None) -> list[list[int]]:
    """The sets divided by what ``look`` finds, without files that are alone; each rank looks at its
    share."""
    rows = list(chain.from_iterable(sets))
    if comm is None:
        shares = [[files[row] for row in rows]]
    else:
        dealt = [[files[row] for row in rows[rank::comm.size]] for rank in range(comm.size)] \
            if comm.rank == 0 else None
        shares = [comm.scatter(dealt)]
    found = []
    for name in shares[0]:
        watchdog.advance()
        found.append(look(name))
    gathered = mpi.gather(comm, found)
    if comm is not None and comm.rank:
        return []
    results: dict[int, Hashable] = {}
    for rank, values in enumerate(gathered):
        results.update(zip(rows[rank::len(gathered)], values, strict=True))
    divided = []
    for members in sets:
        by_result: dict[Hashable, list[int]] = defaultdict(list)
        for row in members:
            if results[row] is not None:
                by_result[results[row]].append(row)
        divided += [same for same in by_result.values() if len(same) > 1]
    return divided


def _size(name: bytes) -> int | None:
    """Size of a file that isn't empty, in bytes; None of any other."""
    try:
        return os.stat(name).st_size or None
    except OSError:
        return None


def _middle(name: bytes) -> bytes | None:
    return _read(name, lambda descriptor: os.pread(
        descriptor, _BLOCK, max(0, os.fstat(descriptor).st_size // 2 - _BLOCK // 2)))


def _digest(name: bytes) -> bytes | None:
    def digest(descriptor: int) -> bytes:
        with open(descriptor, "rb", closefd=False) as file:
            return hashlib.file_digest(file, "sha256").digest()

    return _read(name, digest)


def _read(name: bytes, read: Callable[[int], bytes]) -> bytes | None:
    try:
        # O_NONBLOCK: opening a named pipe must not wait for a writer
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return read(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)
