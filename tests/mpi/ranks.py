"""``python -m ranks CASE``: tiny programs that use ``hpc_deepfake.core`` on several ranks."""

from __future__ import annotations

import os
import sys

import numpy as np
from mpi4py.MPI import Comm

from hpc_deepfake.core import mpi
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.log import log
from hpc_deepfake.core.progress import Progress
from hpc_deepfake.core.streams import whole_lines


def exception(comm: Comm) -> int:
    """The last rank fails while the others wait for it."""
    if comm.rank == comm.size - 1:
        raise ValueError("boom on purpose")
    comm.Barrier()
    return 0


def input_error(comm: Comm) -> int:
    """The last rank finds wrong input that the others don't see."""
    if comm.rank == comm.size - 1:
        raise InputError("only this rank sees it")
    comm.bcast(None, root=comm.size - 1)
    return 0


def root_input_error(comm: Comm) -> int:
    """Rank 0 finds wrong input; the others learn of it."""
    def prepare() -> None:
        raise InputError("wrong input on rank 0")

    mpi.on_root(comm, prepare)
    return 0


def together(comm: Comm) -> int:
    """All ranks but rank 0 find wrong input."""
    def prepare() -> None:
        if comm.rank:
            raise InputError("no file")

    mpi.together(comm, prepare)
    return 0


def root_exception(comm: Comm) -> int:
    """Rank 0 fails while the others wait for its result."""
    mpi.on_root(comm, lambda: 1 // 0)
    return 0


def code(comm: Comm) -> int:
    """The exit code, the helpers, and escapes for what can't be encoded."""
    assert mpi.launched_rank() == comm.rank
    assert mpi.on_root(comm, lambda: ("from", comm.rank)) == ("from", 0)
    assert mpi.together(comm, lambda: comm.rank) == comm.rank
    values = np.arange(comm.rank, dtype=np.float64) + 10 * comm.rank  # rank 0 has none
    expected = np.concatenate([np.arange(rank) + 10.0 * rank for rank in range(comm.size)])
    joined = mpi.concatenate(comm, values)
    assert joined.dtype == expected.dtype and np.array_equal(joined, expected)
    assert len(mpi.concatenate(comm, np.empty(0, np.int32))) == 0
    if comm.rank == 0:
        print("a name that is not UTF-8: \udcff")
    return 75


def progress(comm: Comm) -> int:
    """Every rank counts to 50; at the end rank 0 has counted all of it."""
    line = Progress(comm, 50 * comm.size, "things", interval=1e-9)
    line._every = 0.0  # on all ranks: a message for each
    for _ in range(50):
        line.advance()
    line.close()
    if comm.rank == 0:
        assert line._counts == [50] * comm.size, line._counts
    return 0


def lines(comm: Comm) -> int:
    """Each rank prints 30 lines of 100 characters to each stream, and 2,000 to a common file."""
    texts = [f"{comm.rank} {number:05d} {'ab'[comm.rank] * 92}" for number in range(2000)]
    comm.Barrier()
    for text in texts[:30]:
        print(text)
        print(text, file=sys.stderr)
    sys.stdout.flush()
    os.dup2(os.open("lines", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 1)
    sys.stdout = sys.__stdout__  # as Python opened it
    whole_lines()
    comm.Barrier()
    for text in texts:
        print(text)
    return 0


def messages(comm: Comm) -> int:
    """Every rank logs a message of each of three levels."""
    log.debug("a detail")
    log.info("information")
    log.warning("a warning")
    return 0


mpi.run(globals()[sys.argv[1]])
