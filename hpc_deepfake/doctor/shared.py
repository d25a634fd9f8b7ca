"""A small file that all ranks write together and read back, by the way preprocessing writes."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hpc_deepfake.doctor.place import Place, count
from hpc_deepfake.doctor.report import FAIL, INFO, Record, problem

if TYPE_CHECKING:
    import numpy as np

    from preprocessing.store import Header, Writer

PREFIX = ".hpc-deepfake-doctor-"
_ROW = 1 << 16  # bytes
_ROWS = 256  # in all, at most 16 per rank
_PATIENCE = 2.0  # seconds until another node's new file may show (NFS caches folders)
_left_open: list[Writer] = []  # closing waits for ranks that never opened: at the process's end


def write(place: Place, folder: Path) -> list[Record]:
    """This rank's records; collective. Leaves nothing behind."""
    name, trouble = None, None
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
    finally:  # the last step of each way is one that all ranks have reached
        if place.comm.rank == 0:
            shutil.rmtree(folder / name, ignore_errors=True)


def _seen(place: Place, folder: Path, name: str) -> list[Record]:
    """Empty if all ranks see what rank 0 wrote; collective."""
    token, told = secrets.token_bytes(16), None
    if place.comm.rank == 0:
        try:
            (folder / name / "token").write_bytes(token)
        except OSError as error:
            told = problem(error)
    token, told = place.comm.bcast((token, told))
    if told:
        return _result(told if place.comm.rank == 0 else None)
    until = time.monotonic() + _PATIENCE
    while not (seen := _holds(folder / name / "token", token)) and time.monotonic() < until:
        time.sleep(0.1)
    if place.agreed(seen):
        return []
    if seen:
        return [Record("shared write", "sees it", INFO)]
    return [Record(
        "shared write", f"not shared: doesn't see in {folder.resolve()} what rank 0 wrote there",
        FAIL, "a folder of this node alone, or another one: name one on a file system that all "
              "nodes mount, by its absolute path:\n  hpc-deepfake doctor --dir $SCRATCH")]


def _holds(path: Path, token: bytes) -> bool:
    try:
        return path.read_bytes() == token
    except OSError:
        return False


def _write(place: Place, path: Path) -> list[Record]:
    """Collective in steps; after each, all ranks know whether all went well: one rank that fails
    on its own before MPI opens the file must not leave the others in there."""
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
    return [Record("shared write", f"{count(comm.size, 'rank')} wrote {size:.1f} MB by "
                   f"{writer.name}, synced at {size / slowest:,.0f} MB/s; "
                   + ("each read what others wrote" if comm.size > 1 else "read back"))]


def _create(path: Path, shape: tuple[int, int]) -> int:
    """The file with its rows allocated, as preprocessing makes it; where they begin."""
    import h5py
    import numpy as np

    from preprocessing import store

    with h5py.File(path, "w") as file:
        offset = store._allocate(file, "rows", shape, np.dtype("u1")).id.get_offset()
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
    return offset


def _content(rank: int, rows: int) -> np.ndarray:
    import numpy as np

    return np.random.default_rng(rank).integers(0, 256, (rows, _ROW), np.uint8)


def _wrong(place: Place, header: Header, rows: int) -> list[int]:
    """Those of two other ranks, one of them on another node, whose rows hold something else."""
    import numpy as np

    rank, size = place.comm.rank, place.comm.size
    wrong = []
    for other in sorted({(rank + 1) % size, (rank + place.node.size) % size}):
        found = np.fromfile(header.path, np.uint8, rows * _ROW,
                            offset=header.offsets["rows"] + other * rows * _ROW)
        if not np.array_equal(found.reshape(-1, _ROW), _content(other, rows)):
            wrong.append(other)
    return wrong


def _result(trouble: str | None) -> list[Record]:
    """Of this rank, where any has trouble."""
    if not trouble:
        return [Record("shared write", "no trouble of its own", INFO)]
    return [Record("shared write", trouble, FAIL,
                   "the ranks can't write one file there: try another file system with --dir. If "
                   "MPI-IO fails, Open MPI has two implementations; take the other:\n"
                   "  export OMPI_MCA_io=^ompio")]
