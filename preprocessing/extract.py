"""The parallel part: every rank computes the features of its pictures into the shared file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice, pairwise
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

from hpc_deepfake.core.progress import Progress
from preprocessing import video
from preprocessing.catalogue import Catalogue, locate
from preprocessing.deal import BLOCK, deal
from preprocessing.ela import features, features_of_pixels
from preprocessing.names import parse_path
from preprocessing.picture import Rejected, read
from preprocessing.store import (
    DONE,
    PENDING,
    REJECTED,
    Header,
    Writer,
    checksum,
    damaged_rows,
    open_writer,
)

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.core.stop import StopFlag

_SYNC_BYTES = 32 << 20  # written between two syncs to the disk
STAGES = ("read", "compute", "write", "sync")


@dataclass
class Tally:
    """What one rank did. ``seconds`` are by stage; ``rejects`` are (row, reason); ``left`` counts
    rows not done because it was told to stop."""

    images: int = 0
    left: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    rejects: list[tuple[int, str]] = field(default_factory=list)

    @property
    def busy(self) -> float:
        return sum(self.seconds.values())


@dataclass
class Result:
    """What all ranks did, in rank order, and the wall-clock seconds of the parallel part."""

    tallies: list[Tally]
    wall: float
    resumed: int
    damaged: int
    writer: str


def run(comm: Comm, header: Header, catalogue: Catalogue | None, writer: str = "auto",
        stop: StopFlag | bool = False) -> Result:
    """Fill the rows of the file that are not done yet; collective.

    Rows already done are checked against their checksum first. Rejected pictures are tried again:
    they may have been mended, and their reasons come back.

    Args:
        catalogue: on rank 0. writer: see ``store.open_writer``. stop: once true, this rank
            leaves the blocks that it has not begun.
    """
    start = time.perf_counter()
    damaged = _damaged(comm, header)
    work, resumed, total = None, 0, 0
    if comm.rank == 0:
        pending = np.flatnonzero(header.array("status") != DONE)
        pending = np.union1d(pending, damaged)
        resumed, total = header.rows - len(pending), len(pending)
        work = [[(block, [locate(catalogue.roots, catalogue.paths[row]) for row in block])
                 for block in blocks] for blocks in _deal(catalogue.paths, pending, comm.size)]
    resumed, total = comm.bcast((resumed, total))
    blocks = comm.scatter(work)
    progress = Progress(comm, total, "images")
    out = open_writer(header, comm, writer)
    tally = _fill(header, out, blocks, progress.advance, stop)
    progress.close()
    out.close()
    tallies = comm.allgather(tally)
    return Result(tallies, time.perf_counter() - start, resumed, len(damaged), out.name)


def _damaged(comm: Comm, header: Header) -> np.ndarray:
    done = np.flatnonzero(header.array("status") == DONE)
    mine = damaged_rows(header, done[comm.rank::comm.size])
    return np.concatenate(comm.allgather(mine))


def _deal(paths: Sequence[bytes], pending: np.ndarray, ranks: int) -> list[list[np.ndarray]]:
    """As ``deal.deal``, by files: all frames of a video go to one rank, which reads it once."""
    number: dict[bytes, int] = {}
    files = np.fromiter((number.setdefault(parse_path(path)[0], len(number)) for path in paths),
                        np.int64, len(paths))[pending]
    return [[pending[slice(*np.searchsorted(files, (block[0], block[-1] + 1)))]
             for block in blocks] for blocks in deal(np.unique(files), ranks, len(number))]


def _parts(blocks: list[tuple[np.ndarray, list[bytes]]], header: Header, tally: Tally,
           clock: _Clock) -> Iterator[tuple[np.ndarray, Iterator[list[np.ndarray] | Rejected]]]:
    """Up to ``BLOCK`` rows of a block, each with what ``_compute`` says of them, not yet begun."""
    for rows, paths in blocks:
        results = _compute(paths, header, tally, clock)
        for start in range(0, len(rows), BLOCK):
            part = rows[start:start + BLOCK]
            yield part, islice(results, len(part))


def _compute(paths: list[bytes], header: Header, tally: Tally,
             clock: _Clock) -> Iterator[list[np.ndarray] | Rejected]:
    """For each row its features in the header's order, or why there are none."""
    for file, rows in groupby(map(parse_path, paths), itemgetter(0)):
        moments = [moment for _, moment in rows]
        if moments[0] is None:
            try:
                data = read(file)
                tally.read_bytes += len(data)
                clock.lap("read")
                yield features(data, header.features, header.parameters)
            except Rejected as reason:
                yield reason
            continue
        tally.read_bytes += video.size(file)
        for frame in video.frames(file, moments):
            clock.lap("read")
            try:
                yield frame if isinstance(frame, Rejected) else features_of_pixels(
                    frame.pixels, header.features, header.parameters)
            except Rejected as reason:
                yield reason


def _fill(header: Header, out: Writer, blocks: list[tuple[np.ndarray, list[bytes]]],
          advance: Callable[[int], None], stop: StopFlag | bool) -> Tally:
    tally = Tally()
    clock = _Clock(tally.seconds)
    unsynced: list[tuple[int, np.ndarray, np.ndarray]] = []
    written = 0

    def mark() -> None:
        """Rows first, then what says that they are there."""
        nonlocal written
        out.sync()
        clock.lap("sync")
        for first, status, sums in unsynced:
            out.write("crc32", first, sums)
            out.write("status", first, status)
        unsynced.clear()
        tally.written_bytes += written
        written = 0
        clock.lap("write")

    tally.left = sum(len(rows) for rows, _ in blocks)
    for rows, results in _parts(blocks, header, tally, clock):
        if stop:
            break
        size = header.parameters.size
        values = {name: np.zeros((len(rows), size, size, 3), np.uint8)
                  for name in header.features}
        status = np.full(len(rows), PENDING, np.uint8)
        sums = np.zeros(len(rows), np.uint32)
        clock.lap("compute")
        for i, got in enumerate(results):
            if isinstance(got, Rejected):
                status[i] = REJECTED
                tally.rejects.append((int(rows[i]), str(got)))
            else:
                for name, value in zip(header.features, got, strict=True):
                    values[name][i] = value
                sums[i] = checksum([values[name][i] for name in header.features])
                status[i] = DONE
                tally.images += 1
            clock.lap("compute")
            advance(1)
        tally.left -= len(rows)
        for start, end in _runs(rows):
            for name in header.features:
                out.write(name, int(rows[start]), values[name][start:end])
                written += values[name][start:end].nbytes
            unsynced.append((int(rows[start]), status[start:end], sums[start:end]))
        clock.lap("write")
        if written >= _SYNC_BYTES:
            mark()
    mark()
    return tally


def _runs(rows: np.ndarray) -> list[tuple[int, int]]:
    """Stretches of consecutive numbers, as (start, end) positions."""
    edges = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
    return list(pairwise(edges))


class _Clock:
    """Charges the time since the last lap to a stage."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds, self._last = seconds, time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self._seconds[stage] += now - self._last
        self._last = now
