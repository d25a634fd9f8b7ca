"""A small file that all ranks write together and read back, written as preprocessing does."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hpc_deepfake.core.text import plural
from hpc_deepfake.doctor.place import Place
from hpc_deepfake.doctor.report import FAIL, INFO, Record, problem

if TYPE_CHECKING:
    import numpy as np

    from preprocessing.store import Header, Writer

PREFIX = ".hpc-deepfake-doctor-"
_ROW = 1 << 16  # bytes
_ROWS = 256  # over all ranks, up to 16 per rank
_PATIENCE = 2.0  # seconds until another node's new file is visible (NFS caches folders)
# Writers that can't be closed before the process ends: closing waits for ranks that never opened.
_left_open: list[Writer] = []


def write(place: Place, folder: Path) -> list[Record]:
    """This rank's records; collective. Leaves no files behind."""
    name: str | None = None
    trouble: str | None = None
    if place.comm.rank == 0:
        try:
            name = Path(tempfile.mkdtemp(dir=folder, prefix=PREFIX)).name
        except OSError as error:
            trouble = problem(error)
    name = place.comm.bcast(name)
    if name is None:
        return _result(trouble)
    try:
        return _seen(place, folder, name) or _write(place, folder / name / "shared.h5")
    finally:  # each way ends in a step that all ranks reach
        if place.comm.rank == 0:
            shutil.rmtree(folder / name, ignore_errors=True)


def _seen(place: Place, folder: Path, name: str) -> list[Record]:
    """Empty if all ranks see what rank 0 wrote; collective."""
    token = secrets.token_bytes(16)
    failure: str | None = None
    if place.comm.rank == 0:
        try:
            (folder / name / "token").write_bytes(token)
        except OSError as error:
            failure = problem(error)
    token, failure = place.comm.bcast((token, failure))
    if failure:
        return _result(failure if place.comm.rank == 0 else None)
    until = time.monotonic() + _PATIENCE
    while not (seen := _holds(folder / name / "token", token)) and time.monotonic() < until:
        time.sleep(0.1)
    if place.agreed(seen):
        return []
    if seen:
        return [Record("shared write", "sees it", INFO)]
    return [Record(
        "shared write", f"not shared: doesn't see in {folder.resolve()} what rank 0 wrote there",
        FAIL, "the folder is local to the node, or a different one: name a folder on a file system "
              "that all nodes mount, by its absolute path:\n  hpc-deepfake doctor --dir $SCRATCH")]


def _holds(path: Path, token: bytes) -> bool:
    """Whether a file has this content."""
    try:
        return path.read_bytes() == token
    except OSError:
        return False


def _write(place: Place, path: Path) -> list[Record]:
    """Write and read the file; collective, in steps. After each step, all ranks know whether all
    succeeded, so that a rank that fails alone doesn't leave the others waiting in MPI."""
    import numpy as np

    comm = place.comm
    rows = max(1, min(16, _ROWS // comm.size))
    header, trouble = None, None
    try:
        from preprocessing import store

        offset = _create(path, (comm.size * rows, _ROW)) if comm.rank == 0 else 0
    except Exception as error:
        offset, trouble = 0, problem(error)
    offset = comm.bcast(offset)
    if not place.agreed(trouble is None):
        return _result(trouble)

    header = store.Header(path, {}, {"rows": offset}, {"rows": (comm.size * rows, _ROW)},
                          {"rows": np.dtype("u1")})
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError as error:
        trouble = f"opening: {problem(error)}"
    if not place.agreed(trouble is None):
        return _result(trouble)

    try:
        writer = store.open_writer(header, comm)
    except Exception as error:
        trouble = f"opening together: {problem(error)}"
    else:
        _left_open.append(writer)
    if not place.agreed(trouble is None):
        return _result(trouble)

    start = time.perf_counter()
    try:
        writer.write("rows", comm.rank * rows, _content(comm.rank, rows))
        writer.sync()
    except Exception as error:
        trouble = f"writing: {problem(error)}"
    seconds = time.perf_counter() - start
    try:
        writer.close()
        _left_open.remove(writer)
    except Exception as error:
        trouble = trouble or f"closing: {problem(error)}"
    if not place.agreed(trouble is None):
        return _result(trouble)

    try:
        wrong = _wrong(place, header, rows)
    except Exception as error:
        trouble = f"reading: {problem(error)}"
    else:
        if wrong:
            trouble = f"other bytes than rank{'s' * (len(wrong) > 1)} " \
                      f"{', '.join(map(str, wrong))} wrote"
    slowest = max(comm.allgather(seconds))
    if not place.agreed(trouble is None):
        return _result(trouble)
    size = comm.size * rows * _ROW / 1e6
    if comm.rank:
        return []
    return [Record("shared write", f"{plural(comm.size, 'rank')} wrote {size:.1f} MB by "
                   f"{writer.name}, synced at {size / slowest:,.0f} MB/s; "
                   + ("each read what others wrote" if comm.size > 1 else "read back"))]


def _create(path: Path, shape: tuple[int, int]) -> int:
    """Create the file with its rows allocated, as preprocessing does; returns their offset."""
    import h5py
    import numpy as np

    from preprocessing import store

    with h5py.File(path, "w") as file:
        offset = store.allocate(file, "rows", shape, np.dtype("u1")).id.get_offset()
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
    return offset


def _content(rank: int, rows: int) -> np.ndarray:
    """The bytes that a rank writes: uint8 (rows, _ROW)."""
    import numpy as np

    return np.random.default_rng(rank).integers(0, 256, (rows, _ROW), np.uint8)


def _wrong(place: Place, header: Header, rows: int) -> list[int]:
    """Ranks whose rows don't have the right bytes, of two others, one of them on another node."""
    import numpy as np

    rank, size = place.comm.rank, place.comm.size
    wrong = []
    for other in sorted({(rank + 1) % size, (rank + place.node.size) % size}):
        stored = np.fromfile(header.path, np.uint8, rows * _ROW,
                             offset=header.offsets["rows"] + other * rows * _ROW)
        if not np.array_equal(stored.reshape(-1, _ROW), _content(other, rows)):
            wrong.append(other)
    return wrong


def _result(trouble: str | None) -> list[Record]:
    """This rank's record where a rank has failed; ``trouble``: what failed on this one."""
    if not trouble:
        return [Record("shared write", "no fault on this rank", INFO)]
    return [Record("shared write", trouble, FAIL,
                   "the ranks can't write a shared file there: try another file system with --dir. "
                   "If MPI-IO fails, use Open MPI's other implementation of it:\n"
                   "  export OMPI_MCA_io=^ompio")]
