"""What preprocessing writes per second, against plain MPI-IO of the same bytes.

    python benchmarks/writing.py [--json FILE]
    mpirun -np 2 python benchmarks/writing.py [--rows N] [--folder DIR]

Everything of preprocessing but pictures: rows of random features go through checksums, the writer
(parallel HDF5, or MPI-IO), ``fdatasync`` and marks into a data file, as blocks of the ranks. Plain
MPI-IO writes the same features at the same places in the same blocks by ``MPI.File.Write_at``, with
one ``MPI.File.Sync`` at the end, and no checksum, facts or marks. The ways take turns, each in a
new file, from its opening to the end of the slowest rank. "Sequential" is one rank that writes the
same bytes from first to last, with one ``fsync``: what the file system can do.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from common import finish, ratio, table
from mpi4py import MPI

from preprocessing import extract, facts, store
from preprocessing.catalogue import Catalogue
from preprocessing.deal import block_of, deal
from preprocessing.ela import Parameters
from preprocessing.split import PARTS
from preprocessing.store import Header

COMM = MPI.COMM_WORLD
PLAIN, SEQUENTIAL = "plain MPI-IO", "sequential"


def create(path: Path, rows: int) -> Header:
    """A new data file with all rows pending; collective."""
    if COMM.rank == 0:
        path.unlink(missing_ok=True)
        names = [b"Au/%08d.jpg" % row for row in range(rows)]
        catalogue = Catalogue({"": path.parent}, names, (np.arange(rows) % 2).astype(np.uint8),
                              np.arange(rows, dtype=np.int32))
        store.create(path, catalogue, np.full(rows, PARTS.index("train"), np.uint8), store.Recipe(
            ("ela",), Parameters(), "100/0", "image", 0, catalogue.digest(), rows))
    COMM.Barrier()
    return store.open_header(path)


def by_store(header: Header, blocks: list[np.ndarray], pixels: np.ndarray, writer: str) -> None:
    """As preprocessing, with features that take no time to compute."""
    tasks = [extract._Task(rows, [b""] * len(rows), [None] * len(rows),
                           np.zeros(len(rows), bool)) for rows in blocks]
    known, digest = facts.Facts(384, 256, facts.FORMATS[1], 90), bytes(facts.DIGEST)

    def computed(task: extract._Task, *_: object) -> Iterator[extract._Computed]:
        for row in task.rows.tolist():
            yield extract._Computed([pixels[row % len(pixels)]], known, digest,
                                    np.empty(0, np.uint8))

    extract._compute = computed  # type: ignore[assignment]
    output = store.open_writer(header, COMM, writer)
    extract._fill(header, output, tasks, lambda rows: None, False)
    output.close()


def by_plain(header: Header, blocks: list[np.ndarray], pixels: np.ndarray) -> None:
    """By ``MPI.File`` alone."""
    file = MPI.File.Open(COMM, os.fspath(header.path), MPI.MODE_RDWR)
    start, size = header.offsets["ela"], pixels[0].nbytes
    for rows in blocks:
        values = pixels[np.arange(rows[0], rows[0] + len(rows)) % len(pixels)]
        file.Write_at(start + int(rows[0]) * size, values)
    file.Sync()
    file.Close()


def sequential(header: Header, pixels: np.ndarray) -> None:
    """By rank 0 alone, through ``pwrite``."""
    if COMM.rank == 0:
        descriptor = os.open(header.path, os.O_RDWR)
        place, end = header.offsets["ela"], header.offsets["ela"] + header.bytes_of("ela")
        while place < end:
            place += os.pwrite(descriptor, pixels.reshape(-1).data[:end - place], place)
        os.fsync(descriptor)
        os.close(descriptor)
    COMM.Barrier()


def measure(path: Path, rows: int, rounds: int) -> dict[str, list[float]]:
    """MB/s of all ranks in each round; one more round comes first."""
    random = np.random.default_rng(COMM.rank)
    pixels = random.integers(0, 256, (block_of(128), 128, 128, 3), np.uint8)
    blocks = deal(np.arange(rows), COMM.size, rows)[COMM.rank]
    ways: dict[str, Callable[[Header], None]] = {
        "parallel HDF5": lambda header: by_store(header, blocks, pixels, "hdf5"),
        "store's MPI-IO": lambda header: by_store(header, blocks, pixels, "mpi-io"),
        PLAIN: lambda header: by_plain(header, blocks, pixels),
        SEQUENTIAL: lambda header: sequential(header, pixels)}
    rates: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for name, write in ways.items():
            header = create(path, rows)
            COMM.Barrier()
            began = time.perf_counter()
            write(header)
            spent = COMM.allreduce(time.perf_counter() - began, MPI.MAX)
            if number:
                rates.setdefault(name, []).append(header.bytes_of("ela") / 1e6 / spent)
    if COMM.rank == 0:
        assert (header.array("ela")[-1] == pixels[(rows - 1) % len(pixels)]).all()
    return rates


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--rows", type=int, default=4000, help="rows of 49 kB")
    cli.add_argument("--rounds", type=int, default=5, help="rounds, each with all ways in turn")
    cli.add_argument("--folder", type=Path, help="where to write")
    cli.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    options = cli.parse_args()
    folder = Path(COMM.bcast(tempfile.mkdtemp(dir=options.folder) if COMM.rank == 0 else None))
    try:
        rates = measure(folder / "features.h5", options.rows, options.rounds)
    finally:
        COMM.Barrier()
        if COMM.rank == 0:
            (folder / "features.h5").unlink(missing_ok=True)
            folder.rmdir()
    if COMM.rank == 0:
        table(rates, "MB/s")
        names = [name for name in rates if name not in (PLAIN, SEQUENTIAL)]
        finish(options, rates, {
            **{f"{name} over {PLAIN}": ratio(rates, name, PLAIN) for name in names},
            f"{PLAIN} over {SEQUENTIAL}": ratio(rates, PLAIN, SEQUENTIAL)},
            {f"{name} over {PLAIN}": "at least 0.9" for name in names})


if __name__ == "__main__":
    main()
