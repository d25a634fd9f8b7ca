"""``mpirun -np N hpc-deepfake scaling microbench``: latency and bandwidth, like the OSU benchmarks.

- send/recv: half of a round trip between rank 0 and the last rank, and a window of messages in one
  direction.
- allreduce, all-to-all: seconds of a call, minimum, mean and maximum over the ranks.
- shared files: all ranks write and read one file with preprocessing's own writers (parallel HDF5
  and MPI-IO into an HDF5 file), and for comparison with plain ``MPI.File``; raw (writing and
  syncing alone) and from open to close.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc_deepfake.core import mpi
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.files import write_json
from hpc_deepfake.core.options import Parser, at_least, between
from hpc_deepfake.core.outputs import check_file
from hpc_deepfake.core.text import plural

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm as Comm

_EXAMPLES = """examples:
  mpirun -np 4 hpc-deepfake scaling microbench
  srun --mpi=pmix --ntasks-per-node=1 hpc-deepfake scaling microbench --dir $SCRATCH --json mb.json
  mpirun -np 2 hpc-deepfake scaling microbench --what allreduce alltoall --max-size 1048576

Sizes are bytes of one rank: for allreduce of its array, for all-to-all of its message to each
other rank, for files of what it writes. MB are 10⁶ bytes."""
WHAT = ("sendrecv", "allreduce", "alltoall", "files")
_TAG = 21
_WINDOW = 16  # messages in flight, to measure the bandwidth
_LARGEST_ALLTOALL = 1 << 28  # bytes of a rank's buffer
_FILE_ROW = 1 << 16  # bytes
_PATIENCE = 5.0  # seconds to wait for another node's new file to appear (NFS caches folders)


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake scaling microbench", epilog=_EXAMPLES, description=(
        "Measure latency and bandwidth of send/recv, allreduce and all-to-all, and of shared\n"
        "files. hpc-deepfake scaling predict reads the JSON file."))
    cli.add_argument("--what", nargs="+", choices=WHAT, default=list(WHAT),
                     help="what to measure")
    cli.add_argument("--min-size", type=at_least(1), default=8, metavar="BYTES",
                     help="smallest size")
    cli.add_argument("--max-size", type=at_least(1), default=32 << 20, metavar="BYTES",
                     help="largest size; sizes are powers of two, file sizes from 64 KiB, times 8")
    cli.add_argument("--seconds", type=between(0.001, 100), default=0.5, metavar="S",
                     help="approximate time for each size")
    cli.add_argument("--dir", type=Path, metavar="DIR",
                     help="folder for the shared file, which is removed afterwards (default: the "
                          "current folder)")
    cli.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    return cli


def main(comm: Comm, argv: Sequence[str] | None = None) -> int:
    """Run all measurements; collective.

    Args:
        comm: all ranks.
        argv: arguments, without the program's name.

    Returns:
        The exit code.

    Raises:
        InputError: impossible options, or files that can't be written.
    """
    options = parser().parse(argv)
    options.dir = options.dir or Path()
    if options.min_size > options.max_size:
        raise InputError(f"--min-size {options.min_size} is larger than --max-size "
                         f"{options.max_size}", everywhere=True)
    mpi.on_root(comm, lambda: check_file("--json", options.json, "JSON"))
    hosts = comm.allgather(_host())
    nodes = len(set(hosts))
    show = _printer(comm)
    show(f"# microbench: {plural(comm.size, 'rank')} on {plural(nodes, 'node')}, {_library()}")
    rows: list[dict[str, Any]] = []
    for what in options.what:
        if what != "files" and comm.size == 1:
            show(f"\n# {what}: needs several ranks; start it with mpirun or srun")
            continue
        rows += _MEASURE[what](comm, options, show)
    if options.json is not None:
        figures = {"ranks": comm.size, "nodes": nodes, "hosts": sorted(set(hosts)),
                   "mpi": _library(), "versions": _versions(),
                   "measured": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "rows": rows}
        mpi.on_root(comm, lambda: _write(options.json, figures))
        show(f"\nfigures: {options.json}")
    return 0


def sizes(low: int, high: int) -> list[int]:
    """Powers of two from ``low`` to ``high``, inclusive."""
    return [1 << power for power in range((low - 1).bit_length(), high.bit_length())
            if low <= 1 << power <= high]


def _sendrecv(comm: Comm, options: Namespace, show: Callable[[str], None]) -> list[dict[str, Any]]:
    """Messages between rank 0 and the last rank; the others wait."""
    from mpi4py import MPI

    show(f"\n# send/recv between rank 0 and rank {comm.size - 1}\n"
         f"{'# size':>10} {'latency µs':>12} {'MB/s':>12} {'MB/s, window of ' + str(_WINDOW):>20}")
    rows = []
    partner = comm.size - 1 if comm.rank == 0 else 0
    responds = comm.rank in (0, comm.size - 1)
    for size in sizes(options.min_size, options.max_size):
        message, received = np.ones(size, np.uint8), np.empty((_WINDOW, size), np.uint8)
        token = np.empty(1, np.uint8)

        def ping(message: np.ndarray = message, received: np.ndarray = received) -> None:
            if comm.rank == 0:
                comm.Send(message, partner, _TAG)
                comm.Recv(received[0], partner, _TAG)
            elif responds:
                comm.Recv(received[0], partner, _TAG)
                comm.Send(message, partner, _TAG)

        def window(message: np.ndarray = message, received: np.ndarray = received,
                   token: np.ndarray = token) -> None:
            if comm.rank == 0:
                MPI.Request.Waitall([comm.Isend(message, partner, _TAG) for _ in range(_WINDOW)])
                comm.Recv(token, partner, _TAG)
            elif responds:
                MPI.Request.Waitall([comm.Irecv(buffer, partner, _TAG) for buffer in received])
                comm.Send(token, partner, _TAG)

        round_trip, count = _timed(comm, ping, options.seconds / 2)
        windows, _ = _timed(comm, window, options.seconds / 2)
        latency, one_way = round_trip[0] / 2, windows[0] / _WINDOW
        rows.append({"what": "sendrecv", "size": size, "iterations": count,
                     "latency_us": {"mean": latency * 1e6}, "mb_per_s": size / latency / 1e6,
                     "window_mb_per_s": size / one_way / 1e6})
        show(f"{size:>10} {latency * 1e6:>12.2f} {size / latency / 1e6:>12,.1f} "
             f"{size / one_way / 1e6:>20,.1f}")
    return rows


def _collective(name: str, size_of: Callable[[int, int], int],
                call: Callable[[Comm, np.ndarray, np.ndarray], None],
                ) -> Callable[[Comm, Namespace, Callable[[str], None]], list[dict[str, Any]]]:
    """A measurement of a collective call.

    Args:
        name: of the call.
        size_of: bytes of a rank's buffer for a size and a number of ranks.
        call: the call, on a communicator with a send and a receive buffer.
    """
    def measure(comm: Comm, options: Namespace, show: Callable[[str], None],
                ) -> list[dict[str, Any]]:
        show(f"\n# {name}, {comm.size} ranks\n{'# size':>10} {'mean µs':>12} {'min µs':>12} "
             f"{'max µs':>12} {'MB/s':>12} {'calls':>8}")
        rows = []
        for size in sizes(max(options.min_size, 4), options.max_size):
            buffer = size_of(size, comm.size)
            if buffer > _LARGEST_ALLTOALL:
                show(f"# {size}: skipped, a rank would need {buffer / 1e9:.1f} GB")
                break
            send = np.ones(buffer // 4, np.float32)
            receive = np.empty_like(send)
            seconds, count = _timed(comm, partial(call, comm, send, receive), options.seconds)
            mean, lowest, highest = (float(f(seconds)) * 1e6 for f in (np.mean, np.min, np.max))
            rows.append({"what": name, "size": size, "iterations": count,
                         "latency_us": {"mean": mean, "min": lowest, "max": highest},
                         "mb_per_s": size / mean})
            show(f"{size:>10} {mean:>12.2f} {lowest:>12.2f} {highest:>12.2f} "
                 f"{size / mean:>12,.1f} {count:>8}")
        return rows
    return measure


def _timed(comm: Comm, call: Callable[[], None], duration: float) -> tuple[np.ndarray, int]:
    """Seconds of a call on each rank, float (ranks), and the number of calls, on every rank.

    Args:
        comm: all ranks.
        call: what to time.
        duration: approximate seconds for all calls.
    """
    begin = time.perf_counter()
    for _ in range(2):
        call()
    comm.Barrier()
    once = max((time.perf_counter() - begin) / 2, 1e-7)
    count = comm.bcast(int(min(max(duration / once, 3), 10_000)))
    comm.Barrier()
    begin = time.perf_counter()
    for _ in range(count):
        call()
    spent = (time.perf_counter() - begin) / count
    return np.array(comm.allgather(spent)), count


def _files(comm: Comm, options: Namespace, show: Callable[[str], None]) -> list[dict[str, Any]]:
    """Shared writes and reads: all ranks at the same time, each its own rows."""
    folder = mpi.on_root(comm, lambda: _folder(options.dir))
    rows = []
    try:
        show(f"\n# shared file in {options.dir}, {plural(comm.size, 'rank')}: MB/s of "
             f"all ranks\n{'# size':>10} {'way':>14} {'write raw':>12} {'open-close':>12} "
             f"{'read raw':>12} {'open-close':>12}")
        for size in sizes(_FILE_ROW, max(options.max_size, _FILE_ROW))[::3]:
            for way in ("parallel HDF5", "MPI-IO", "MPI.File"):
                best = _file(comm, folder, way, size, options.seconds)
                if best is None:
                    continue
                megabytes = size * comm.size / 1e6
                row = {"what": "files", "way": way, "size": size,
                       **{f"{name}_mb_per_s": megabytes / seconds
                          for name, seconds in best.items()}}
                rows.append(row)
                show(f"{size:>10} {way:>14} {row['write_mb_per_s']:>12,.1f} "
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


def _file(comm: Comm, folder: str, way: str, size: int,
          duration: float) -> dict[str, float] | None:
    """Seconds of the slowest rank, the lowest of several repeats; None if h5py lacks parallel HDF5.
    Collective."""
    import h5py

    if way == "parallel HDF5" and not h5py.get_config().mpi:
        return None
    best: dict[str, float] = {}
    begin = time.perf_counter()
    for repeat in range(20):
        path = Path(folder) / f"{size}-{way.replace(' ', '-')}-{repeat}.h5"
        times = _once(comm, path, way, size)
        slowest = {name: max(comm.allgather(seconds)) for name, seconds in times.items()}
        if comm.rank == 0:
            path.unlink()
        best = {name: min(seconds, best.get(name, seconds)) for name, seconds in slowest.items()}
        if comm.bcast(time.perf_counter() - begin > duration and repeat > 0):
            break
    return best


def _once(comm: Comm, path: Path, way: str, size: int) -> dict[str, float]:
    """Seconds of writing and reading a new file once, on this rank. Collective."""
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
    reread = np.empty_like(content)
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

        with h5py.File(path, "r", driver="mpio", comm=comm) as hdf5:
            again = time.perf_counter()
            hdf5["rows"].read_direct(reread, np.s_[first:first + rows])
            read = time.perf_counter()
    elif way == "MPI.File":
        file = MPI.File.Open(comm, os.fspath(path), MPI.MODE_RDONLY)
        again = time.perf_counter()
        file.Read_at(place, reread)
        read = time.perf_counter()
        file.Close()
    else:  # as training reads with --input read
        with open(path, "rb", buffering=0) as stream:
            again = time.perf_counter()
            done, buffer = 0, reread.reshape(-1)
            while done < size and (count := os.preadv(stream.fileno(), [buffer[done:].data],
                                                      place + done)):
                done += count
            read = time.perf_counter()
    ended = time.perf_counter()
    if not np.array_equal(reread, content):
        raise RuntimeError(f"{way} read other bytes than were written to {path}")
    return {"write": written - raw, "write_open_close": closed - opening, "read": read - again,
            "read_open_close": ended - reopening}


def _allocate(path: Path, shape: tuple[int, int]) -> int:
    """Create the file with its rows allocated, as preprocessing does, and return their offset."""
    import h5py

    from preprocessing import store

    with h5py.File(path, "w") as file:
        return store.allocate(file, "rows", shape, np.dtype("u1")).id.get_offset()


def _forget(path: Path) -> None:
    """Ask the kernel to drop the file from this node's page cache, so that reads reach the disk."""
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


def _printer(comm: Comm) -> Callable[[str], None]:
    """A function that prints on rank 0 only."""
    def show(text: str) -> None:
        if comm.rank == 0:
            print(text, flush=True)

    return show


def _write(path: Path, figures: dict[str, Any]) -> None:
    try:
        write_json(path, figures)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another place with "
                         "--json") from None
