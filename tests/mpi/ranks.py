"""``python -m ranks CASE``: tiny programs that try ``hpc_deepfake.core.mpi`` on several ranks."""

from __future__ import annotations

import sys

import numpy as np
from mpi4py.MPI import Comm

from hpc_deepfake.core import mpi
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.progress import Progress


def exception(comm: Comm) -> int:
    """The last rank fails while the others wait for it."""
    if comm.rank == comm.size - 1:
        raise ValueError("boom on purpose")
    comm.Barrier()
    return 0


def input_error(comm: Comm) -> int:
    """The last rank finds wrong input that the others don't see."""
    if comm.rank == comm.size - 1:
        raise InputError("only I see this")
    comm.bcast(None, root=comm.size - 1)
    return 0


def root_input_error(comm: Comm) -> int:
    def prepare() -> None:
        raise InputError("rank 0 says so")

    mpi.on_root(comm, prepare)
    return 0


def root_exception(comm: Comm) -> int:
    mpi.on_root(comm, lambda: 1 // 0)
    return 0


def code(comm: Comm) -> int:
    """Exit code, helpers and what is printed where."""
    assert mpi.launched_rank() == comm.rank
    assert mpi.on_root(comm, lambda: ("from", comm.rank)) == ("from", 0)
    mine = np.arange(comm.rank, dtype=np.float64) + 10 * comm.rank  # rank 0 has none
    wanted = np.concatenate([np.arange(rank) + 10.0 * rank for rank in range(comm.size)])
    got = mpi.concatenate(comm, mine)
    assert got.dtype == wanted.dtype and np.array_equal(got, wanted)
    assert len(mpi.concatenate(comm, np.empty(0, np.int32))) == 0
    if comm.rank == 0:
        print("a name that is not UTF-8: \udcff")
    return 75


def progress(comm: Comm) -> int:
    """Every rank counts to 50, rank 0 sees all of it in the end."""
    line = Progress(comm, 50 * comm.size, "things", interval=0.0)
    line._every = 0.0  # on all ranks: a message for each
    for _ in range(50):
        line.advance()
    line.close()
    if comm.rank == 0:
        assert line._counts == [50] * comm.size, line._counts
    return 0


mpi.run(globals()[sys.argv[1]])
