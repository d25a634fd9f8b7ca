"""Random reads of rows against plain reads; checking rows; the memory of the ways of reading.

    python benchmarks/reading.py [--rows N] [--folder DIR] [--json FILE]
    mpirun -np 4 python benchmarks/reading.py

Makes a data file of random pixels. Batches of random rows are read from it in each way of
``--input``, and by plain ``pread`` at random offsets in threads that need not wait for each other,
as ``fio --rw=randread`` reads: from the page cache (warm), and after ``POSIX_FADV_DONTNEED`` took
the file from it (cold; what a disk or a host of this machine keeps is not emptied). All ranks read
at once, and the slowest counts. Then, how fast the ranks check the rows, and for each way of
reading the growth of a rank's proportional set size (PSS: shared pages are divided by the processes
that share them) and of its resident set, after all rows were read.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from common import finish, ratio, table
from mpi4py import MPI

from hpc_deepfake.core.text import plural
from hpc_deepfake.data.inputs import READERS, REMOTE, file_system
from hpc_deepfake.data.rows import AHEAD, open_data, prefetch
from preprocessing import store
from preprocessing.catalogue import Catalogue
from preprocessing.ela import Parameters
from preprocessing.integrity import require_intact

COMM = MPI.COMM_WORLD
BLOCK = 64
BATCH = 32
PLAIN = (1, 2, 4, READERS, 16)  # threads of plain reads


def make(path: Path, rows: int) -> None:
    """A complete data file with one feature of random pixels."""
    labels = (np.arange(rows) % 2).astype(np.uint8)
    names = [b"Au/%08d.jpg" % row for row in range(rows)]
    catalogue = Catalogue({"": path.parent}, names, labels, np.arange(rows, dtype=np.int32))
    store.create(path, catalogue, np.zeros(rows, np.uint8), store.Recipe(
        ("ela",), Parameters(), "100/0", "image", 0, catalogue.digest(), rows))
    header = store.open_header(path)
    pixels, sums = header.array("ela", "r+"), header.array("crc32", "r+")
    random = np.random.default_rng(0)
    for start in range(0, rows, BLOCK):
        block = pixels[start:start + BLOCK]
        block[:] = np.frombuffer(random.bytes(block.nbytes), np.uint8).reshape(block.shape)
        sums[start:start + BLOCK] = [store.checksum([row]) for row in block]
    header.array("status", "r+")[:] = store.DONE


Reader = Callable[[list[np.ndarray]], object]  # reads batches of row numbers


def plain(path: Path, start: int, size: int, batches: list[np.ndarray], threads: int) -> None:
    """Read rows by ``pread`` in threads, each into memory of its own for a batch."""
    descriptor = os.open(path, os.O_RDONLY)

    def work(part: list[np.ndarray]) -> None:
        buffer = np.empty((BATCH, size), np.uint8)
        for rows in part:
            for target, row in zip(buffer, rows.tolist(), strict=False):
                os.preadv(descriptor, [target.data], start + row * size)

    running = [threading.Thread(target=work, args=(batches[number::threads],))
               for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    os.close(descriptor)


def cached(path: Path, cold: bool) -> None:
    """Have the file in the page cache, or (almost) not at all."""
    with open(path, "rb+") as file:
        size = os.fstat(file.fileno()).st_size
        if not cold:
            while file.read(1 << 24):
                pass
            return
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with mmap.mmap(file.fileno(), size) as mapped:
            pages = np.frombuffer(mapped, np.uint8)
            there = np.zeros(-(-size // mmap.PAGESIZE), np.uint8)
            code = ctypes.CDLL(None).mincore(ctypes.c_void_p(pages.ctypes.data),
                                             ctypes.c_size_t(size),
                                             ctypes.c_void_p(there.ctypes.data))
            del pages
        assert code == 0 and (there & 1).mean() < 0.05, "the page cache keeps the file"


def random_reads(path: Path, rows: int, rounds: int, count: int) -> dict[str, list[float]]:
    """MB/s of all ranks in each round, by way of reading; the ways take turns.

    Args:
        path: the data file.
        rows: their number in it.
        rounds: rounds that count; one more comes first.
        count: random rows that each rank reads in a round in each way.
    """
    header = store.open_header(path)
    start, size = header.offsets["ela"], header.bytes_of("ela") // rows

    def ours(mode: str, ahead: bool = False, touched: bool = False) -> Callable[[], Reader]:
        def opened() -> Reader:
            data = open_data(path, "ela", mode, COMM)
            if touched:
                for first in range(0, rows, BLOCK):
                    data.batch(np.arange(first, min(first + BLOCK, rows)))
            return lambda batches: deque(
                prefetch(data.batch, batches, ahead=AHEAD) if ahead else map(data.batch, batches),
                maxlen=0)
        return opened

    def by_plain(threads: int) -> Callable[[], Reader]:
        return lambda: lambda batches: plain(path, start, size, batches, threads)

    ways = {**{f"plain, {plural(number, 'thread')}": by_plain(number) for number in PLAIN},
            "read": ours("read"), "read, ahead as in training": ours("read", ahead=True),
            "mmap": ours("mmap"), "mmap, once more": ours("mmap", touched=True),
            "memory": ours("memory")}
    rates: dict[str, list[float]] = {}
    random = np.random.default_rng(COMM.rank)
    for number in range(rounds + 1):
        for kind in ("cold", "warm"):
            for name, opened in ways.items():
                if kind == "cold" and name in ("memory", "mmap, once more"):
                    continue
                batches = np.split(random.permutation(rows)[:count], count // BATCH)
                read = opened()
                COMM.Barrier()
                if COMM.rank == 0:
                    cached(path, kind == "cold")
                COMM.Barrier()
                began = time.perf_counter()
                read(batches)
                spent = COMM.allreduce(time.perf_counter() - began, MPI.MAX)
                del read
                if number:
                    rates.setdefault(f"{kind}: {name}", []).append(
                        COMM.size * count * size / 1e6 / spent)
    return rates


def ratios(path: Path, rates: dict[str, list[float]]) -> Iterator[tuple[str, float]]:
    """Our ways over plain reads by as many threads as we use here, and over the fastest plain."""
    threads = READERS if file_system(path) in REMOTE else 1
    for kind in ("cold", "warm"):
        fastest = max((name for name in rates if name.startswith(f"{kind}: plain")),
                      key=lambda name: float(np.median(rates[name])))
        for name in rates:
            if name.startswith(f"{kind}: ") and "plain" not in name:
                number = threads if "read" in name else 1
                yield (f"{name} / plain, {plural(number, 'thread')}",
                       ratio(rates, name, f"{kind}: plain, {plural(number, 'thread')}"))
                yield f"{name} / the fastest plain", ratio(rates, name, fastest)


def memory() -> np.ndarray:
    """PSS and RSS of this process, in MB."""
    lines = dict(line.split(":") for line in
                 Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    return np.array([int(lines[name].split()[0]) / 1000 for name in ("Pss", "Rss")])


def compare(path: Path, rows: int) -> None:
    header = store.open_header(path)
    COMM.Barrier()
    began = time.perf_counter()
    require_intact(header, np.arange(rows), COMM)
    seconds = time.perf_counter() - began
    size = header.bytes_of("ela") / 1e6
    if COMM.rank == 0:
        print(f"{size:,.0f} MB checked by {COMM.size} ranks in {seconds:.2f} s: "
              f"{size / seconds:,.0f} MB/s", flush=True)
    for mode in ("mmap", "read", "memory"):
        before = memory()
        began = time.perf_counter()
        data = open_data(path, "ela", mode, COMM)
        opened = time.perf_counter() - began
        began = time.perf_counter()
        for start in range(0, rows, BLOCK):
            data.batch(np.arange(start, min(start + BLOCK, rows)))
        spent = time.perf_counter() - began
        COMM.Barrier()
        grown = (memory() - before).tolist()
        COMM.Barrier()
        del data
        growth = COMM.gather(grown)
        if growth is not None:
            pss, rss = np.mean(growth, 0)
            print(f"{mode:6}  opened in {opened:5.2f} s, all rows read in {spent:5.2f} s; "
                  f"each rank PSS {pss:+,.0f} MB, RSS {rss:+,.0f} MB", flush=True)


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--rows", type=int, default=16000, help="rows of 49 KB")
    cli.add_argument("--folder", type=Path, help="where to make the data file")
    cli.add_argument("--rounds", type=int, default=5, help="rounds of random reads")
    cli.add_argument("--count", type=int, default=640,
                     help="random rows that each rank reads in each way in a round")
    cli.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    options = cli.parse_args()
    folder = Path(COMM.bcast(tempfile.mkdtemp(dir=options.folder) if COMM.rank == 0 else None))
    path = folder / "features.h5"
    try:
        if COMM.rank == 0:
            make(path, options.rows)
        COMM.Barrier()
        rates = random_reads(path, options.rows, options.rounds, options.count)
        if COMM.rank == 0:
            table(rates, "MB/s")
            found = dict(ratios(path, rates))
            finish(options, rates, found, {name: "at least 0.9" for name in found
                                           if "fastest" not in name})
            print(flush=True)
        compare(path, options.rows)
    finally:
        if COMM.rank == 0:
            path.unlink()
            folder.rmdir()


if __name__ == "__main__":
    main()
