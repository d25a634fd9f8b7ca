"""Checking rows, and the memory of the ways of reading, on the ranks of one node.

    mpirun -np 4 python benchmarks/reading.py [--rows N] [--folder DIR]

Prints how fast the ranks check the rows of a data file of random pixels, and for each way of
reading the growth of a rank's proportional set size (PSS: shared pages are divided by the processes
that share them) and of its resident set, after all rows were read.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from mpi4py import MPI

from hpc_deepfake.data.rows import open_data
from preprocessing import store
from preprocessing.catalogue import Catalogue
from preprocessing.ela import Parameters
from preprocessing.integrity import require_intact

COMM = MPI.COMM_WORLD
BLOCK = 64


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
    options = cli.parse_args()
    folder = Path(COMM.bcast(tempfile.mkdtemp(dir=options.folder) if COMM.rank == 0 else None))
    path = folder / "features.h5"
    try:
        if COMM.rank == 0:
            make(path, options.rows)
        COMM.Barrier()
        compare(path, options.rows)
    finally:
        if COMM.rank == 0:
            path.unlink()
            folder.rmdir()


if __name__ == "__main__":
    main()
