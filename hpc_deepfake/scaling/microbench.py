"""``mpirun -np N hpc-deepfake scaling microbench``: latency and bandwidth, in the way of OSU's.

- send/recv: half of a round trip between rank 0 and the last rank, and a window of messages one
  way.
- allreduce, all-to-all: seconds of a call, least, mean and largest over the ranks.
- shared files: all ranks write and read one file by preprocessing's own writers (parallel HDF5 and
  MPI-IO into an HDF5 file), beside plain ``MPI.File``; raw (writing and syncing alone) and from
  open to close.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc_deepfake.core import mpi
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.options import Parser, at_least, between

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

_EXAMPLES = """examples:
  mpirun -np 4 hpc-deepfake scaling microbench
  srun --mpi=pmix --ntasks-per-node=1 hpc-deepfake scaling microbench --dir $SCRATCH --json mb.json
  mpirun -np 2 hpc-deepfake scaling microbench --what allreduce alltoall --max-size 1048576

One size for all ranks: of allreduce the bytes of each rank's array, of all-to-all those for each
other rank, of files what each rank writes. MB are 10⁶ bytes."""
WHAT = ("sendrecv", "allreduce", "alltoall", "files")
_TAG = 21
_WINDOW = 16  # messages under way for the bandwidth
_LARGEST_ALLTOALL = 1 << 28  # bytes of a rank's buffer
_FILE_ROW = 1 << 16  # bytes
_PATIENCE = 5.0  # seconds until another node's new file may show (NFS caches folders)


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake scaling microbench", epilog=_EXAMPLES, description=(
        "Latency and bandwidth of send/recv, allreduce and all-to-all, and of shared files. The "
        "JSON file feeds hpc-deepfake scaling predict."))
    cli.add_argument("--what", nargs="+", choices=WHAT, default=list(WHAT), help="to measure")
    cli.add_argument("--min-size", type=at_least(1), default=8, metavar="BYTES", help="the least")
    cli.add_argument("--max-size", type=at_least(1), default=32 << 20, metavar="BYTES",
                     help="the largest; sizes are powers of two, of files from 64 KiB by eights")
    cli.add_argument("--seconds", type=between(0.001, 100), default=0.5, metavar="S",
                     help="to spend on each size, about")
    cli.add_argument("--dir", type=Path, metavar="DIR",
                     help="folder for the shared file, which is removed (default: here)")
    cli.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    return cli


def main(comm: Comm, argv: Sequence[str] | None = None) -> int:
    """All measurements; collective. Returns the exit code."""
    options = parser().parse(argv)
    options.dir = options.dir or Path()
    if options.min_size > options.max_size:
        raise InputError(f"--min-size {options.min_size} is more than --max-size "
                         f"{options.max_size}", everywhere=True)
    hosts = comm.allgather(_host())
    nodes = len(set(hosts))
    say = _say(comm)
    say(f"# microbench: {comm.size} rank{'s' * (comm.size > 1)} on {nodes} "
        f"node{'s' * (nodes > 1)}, {_library()}")
    rows: list[dict[str, Any]] = []
    for what in options.what:
        if what != "files" and comm.size == 1:
            say(f"\n# {what}: needs several ranks; start it with mpirun or srun")
            continue
        rows += _MEASURE[what](comm, options, say)
    if options.json is not None:
        result = {"ranks": comm.size, "nodes": nodes, "hosts": sorted(set(hosts)),
                  "mpi": _library(), "versions": _versions(),
                  "measured": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "rows": rows}
        mpi.on_root(comm, lambda: _write(options.json, result))
        say(f"\nfigures: {options.json}")
    return 0


def sizes(low: int, high: int) -> list[int]:
    """Powers of two from ``low`` to ``high``, both included where they are one."""
    return [1 << power for power in range((low - 1).bit_length(), high.bit_length())
            if low <= 1 << power <= high]


def _sendrecv(comm: Comm, options: Namespace, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Between rank 0 and the last one; the others wait."""
    from mpi4py import MPI

    say(f"\n# send/recv between rank 0 and rank {comm.size - 1}\n"
        f"{'# size':>10} {'latency µs':>12} {'MB/s':>12} {'MB/s, window of ' + str(_WINDOW):>20}")
    rows = []
    partner = comm.size - 1 if comm.rank == 0 else 0
    takes_part = comm.rank in (0, comm.size - 1)
    for size in sizes(options.min_size, options.max_size):
        mine, theirs = np.ones(size, np.uint8), np.empty((_WINDOW, size), np.uint8)
        token = np.empty(1, np.uint8)

        def ping(mine: np.ndarray = mine, theirs: np.ndarray = theirs) -> None:
            if comm.rank == 0:
                comm.Send(mine, partner, _TAG)
                comm.Recv(theirs[0], partner, _TAG)
            elif takes_part:
                comm.Recv(theirs[0], partner, _TAG)
                comm.Send(mine, partner, _TAG)

        def window(mine: np.ndarray = mine, theirs: np.ndarray = theirs,
                   token: np.ndarray = token) -> None:
            if comm.rank == 0:
                MPI.Request.Waitall([comm.Isend(mine, partner, _TAG) for _ in range(_WINDOW)])
                comm.Recv(token, partner, _TAG)
            elif takes_part:
                MPI.Request.Waitall([comm.Irecv(one, partner, _TAG) for one in theirs])
                comm.Send(token, partner, _TAG)

        there_and_back, count = _timed(comm, ping, options.seconds / 2)
        several, _ = _timed(comm, window, options.seconds / 2)
        latency, one_way = there_and_back[0] / 2, several[0] / _WINDOW
        rows.append({"what": "sendrecv", "size": size, "iterations": count,
                     "latency_us": {"mean": latency * 1e6}, "mb_per_s": size / latency / 1e6,
                     "window_mb_per_s": size / one_way / 1e6})
        say(f"{size:>10} {latency * 1e6:>12.2f} {size / latency / 1e6:>12,.1f} "
            f"{size / one_way / 1e6:>20,.1f}")
    return rows


def _collective(name: str, size_of: Callable[[int, int], int],
                call: Callable[[Comm, np.ndarray, np.ndarray], None],
                ) -> Callable[[Comm, Namespace, Callable[[str], None]], list[dict[str, Any]]]:
    """A measurement of one collective call; ``size_of`` gives the bytes of a rank's buffer for a
    size and a number of ranks."""
    def measure(comm: Comm, options: Namespace, say: Callable[[str], None],
                ) -> list[dict[str, Any]]:
        say(f"\n# {name}, {comm.size} ranks\n{'# size':>10} {'mean µs':>12} {'min µs':>12} "
            f"{'max µs':>12} {'MB/s':>12} {'calls':>8}")
        rows = []
        for size in sizes(max(options.min_size, 4), options.max_size):
            whole = size_of(size, comm.size)
            if whole > _LARGEST_ALLTOALL:
                say(f"# {size}: left out, as a rank would need {whole / 1e9:.1f} GB")
                break
            send = np.ones(whole // 4, np.float32)
            receive = np.empty_like(send)
            seconds, count = _timed(comm, lambda s=send, r=receive: call(comm, s, r),
                                    options.seconds)
            mean, least, most = (float(f(seconds)) * 1e6 for f in (np.mean, np.min, np.max))
            rows.append({"what": name, "size": size, "iterations": count,
                         "latency_us": {"mean": mean, "min": least, "max": most},
                         "mb_per_s": size / mean})
            say(f"{size:>10} {mean:>12.2f} {least:>12.2f} {most:>12.2f} {size / mean:>12,.1f} "
                f"{count:>8}")
        return rows
    return measure


def _timed(comm: Comm, call: Callable[[], None], wanted: float) -> tuple[np.ndarray, int]:
    """Seconds of a call on each rank, as all ranks know them, and how often it was called."""
    begin = time.perf_counter()
    for _ in range(2):
        call()
    comm.Barrier()
    once = max((time.perf_counter() - begin) / 2, 1e-7)
    count = comm.bcast(int(min(max(wanted / once, 3), 10_000)))
    comm.Barrier()
    begin = time.perf_counter()
    for _ in range(count):
        call()
    spent = (time.perf_counter() - begin) / count
    return np.array(comm.allgather(spent)), count


def _files(comm: Comm, options: Namespace, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Shared writes and reads; all ranks together, each its own stretch of rows."""
    folder = mpi.on_root(comm, lambda: _folder(options.dir))
    rows = []
    try:
        say(f"\n# shared file in {options.dir}, {comm.size} rank{'s' * (comm.size > 1)}: MB/s of "
            f"all ranks\n{'# size':>10} {'way':>14} {'write raw':>12} {'open-close':>12} "
            f"{'read raw':>12} {'open-close':>12}")
        for size in sizes(_FILE_ROW, max(options.max_size, _FILE_ROW))[::3]:
            for way in ("parallel HDF5", "MPI-IO", "MPI.File"):
                found = _file(comm, folder, way, size, options.seconds)
                if found is None:
                    continue
                whole = size * comm.size / 1e6
                row = {"what": "files", "way": way, "size": size,
                       **{f"{name}_mb_per_s": whole / seconds for name, seconds in found.items()}}
                rows.append(row)
                say(f"{size:>10} {way:>14} {row['write_mb_per_s']:>12,.1f} "
                    f"{row['write_open_close_mb_per_s']:>12,.1f} {row['read_mb_per_s']:>12,.1f} "
                    f"{row['read_open_close_mb_per_s']:>12,.1f}")
    finally:
        if comm.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
    return rows


def _folder(parent: Path) -> str:
    try:
        return tempfile.mkdtemp(dir=parent, prefix=".hpc-deepfake-microbench-")
    except OSError as error:
        raise InputError(f"cannot write in {parent}: {error.strerror}; choose another folder with "
                         "--dir") from None


def _file(comm: Comm, folder: str, way: str, size: int, wanted: float) -> dict[str, float] | None:
    """Least seconds of the slowest rank over some repeats; None if h5py can't. Collective."""
    import h5py

    if way == "parallel HDF5" and not h5py.get_config().mpi:
        return None
    best: dict[str, float] = {}
    begin = time.perf_counter()
    for repeat in range(20):
        path = Path(folder) / f"{size}-{way.replace(' ', '-')}-{repeat}.h5"
        found = _once(comm, path, way, size)
        slowest = {name: max(comm.allgather(seconds)) for name, seconds in found.items()}
        if comm.rank == 0:
            path.unlink()
        best = {name: min(seconds, best.get(name, seconds)) for name, seconds in slowest.items()}
        if comm.bcast(time.perf_counter() - begin > wanted and repeat > 0):
            break
    return best


def _once(comm: Comm, path: Path, way: str, size: int) -> dict[str, float]:
    from mpi4py import MPI

    from preprocessing import store

    rows = size // _FILE_ROW
    shape = (comm.size * rows, _FILE_ROW)
    offset = mpi.on_root(comm, lambda: _allocate(path, shape))
    until = time.monotonic() + _PATIENCE
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.01)
    header = store.Header(path, {}, {"rows": offset}, {"rows": shape}, {"rows": np.dtype("u1")})
    first = comm.rank * rows
    content = np.random.default_rng(comm.rank).integers(0, 256, (rows, _FILE_ROW), np.uint8)
    back = np.empty_like(content)
    place = offset + first * _FILE_ROW

    comm.Barrier()
    opening = time.perf_counter()
    if way == "MPI.File":
        file = MPI.File.Open(comm, os.fspath(path), MPI.MODE_RDWR)
        raw = time.perf_counter()
        file.Write_at(place, content)
        file.Sync()
        written = time.perf_counter()
        file.Close()
    else:
        writer = store.open_writer(header, comm, "hdf5" if way == "parallel HDF5" else "mpi-io")
        raw = time.perf_counter()
        writer.write("rows", first, content)
        writer.sync()
        written = time.perf_counter()
        writer.close()
    closed = time.perf_counter()

    _forget(path)
    comm.Barrier()
    reopening = time.perf_counter()
    if way == "parallel HDF5":
        import h5py

        with h5py.File(path, "r", driver="mpio", comm=comm) as file:
            again = time.perf_counter()
            file["rows"].read_direct(back, np.s_[first:first + rows])
            read = time.perf_counter()
    elif way == "MPI.File":
        file = MPI.File.Open(comm, os.fspath(path), MPI.MODE_RDONLY)
        again = time.perf_counter()
        file.Read_at(place, back)
        read = time.perf_counter()
        file.Close()
    else:  # as training reads with --input read
        with open(path, "rb", buffering=0) as file:
            again = time.perf_counter()
            done = 0
            while done < size and (got := os.preadv(file.fileno(), [back.reshape(-1)[done:]],
                                                    place + done)):
                done += got
            read = time.perf_counter()
    ended = time.perf_counter()
    if not np.array_equal(back, content):
        raise RuntimeError(f"{way} read other bytes than were written to {path}")
    return {"write": written - raw, "write_open_close": closed - opening, "read": read - again,
            "read_open_close": ended - reopening}


def _allocate(path: Path, shape: tuple[int, int]) -> int:
    """The file with its rows allocated, as preprocessing makes it; where they begin."""
    import h5py

    from preprocessing import store

    with h5py.File(path, "w") as file:
        return store._allocate(file, "rows", shape, np.dtype("u1")).id.get_offset()


def _forget(path: Path) -> None:
    """Ask the kernel to drop the file from this node's page cache, so that reading reads."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(file)


def _allreduce(comm: Comm, send: np.ndarray, receive: np.ndarray) -> None:
    comm.Allreduce(send, receive)


def _alltoall(comm: Comm, send: np.ndarray, receive: np.ndarray) -> None:
    comm.Alltoall(send, receive)


_MEASURE = {"sendrecv": _sendrecv,
            "allreduce": _collective("allreduce", lambda size, ranks: size, _allreduce),
            "alltoall": _collective("alltoall", lambda size, ranks: size * ranks, _alltoall),
            "files": _files}


def _host() -> str:
    from mpi4py import MPI

    return MPI.Get_processor_name()


def _library() -> str:
    from mpi4py import MPI

    return MPI.Get_library_version().split("\n")[0].split(",")[0].strip("\0 ")


def _versions() -> dict[str, str]:
    import h5py
    import mpi4py

    return {"python": sys.version.split()[0], "mpi4py": mpi4py.__version__,
            "h5py": h5py.__version__, "hdf5": h5py.version.hdf5_version,
            "numpy": np.__version__}


def _say(comm: Comm) -> Callable[[str], None]:
    def say(text: str) -> None:
        if comm.rank == 0:
            print(text, flush=True)

    return say


def _write(path: Path, result: dict[str, Any]) -> None:
    new = path.with_name(f".new-{path.name}")
    try:
        new.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        os.replace(new, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another place with "
                         "--json") from None
