"""The parallel part: every rank writes the features of its pictures into the shared file."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice, pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hpc_deepfake.core import holder, watchdog
from hpc_deepfake.core.progress import Progress
from preprocessing import facts, video
from preprocessing.catalogue import Catalogue, locate
from preprocessing.deal import block_of, deal_files
from preprocessing.ela import features, features_of_pixels
from preprocessing.facts import Facts
from preprocessing.integrity import damaged_rows
from preprocessing.names import parse_path
from preprocessing.picture import Rejected, read
from preprocessing.store import (
    DONE,
    PENDING,
    REJECTED,
    Header,
    Writer,
    checksum,
    open_writer,
)

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.core.stop import StopFlag

_SYNC_BYTES = 32 << 20  # bytes written between two syncs to the disk
STAGES = ("read", "compute", "write", "sync")


@dataclass
class Tally:
    """The work of one rank.

    Attributes:
        images: rows computed.
        left: rows not computed because of a request to stop.
        read_bytes: bytes of picture and video files.
        written_bytes: bytes of features.
        seconds: by stage.
        rejects: row and reason of each rejected picture.
        host: name of its node.
    """

    images: int = 0
    left: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    rejects: list[tuple[int, str]] = field(default_factory=list)
    host: str = field(default_factory=platform.node)

    @property
    def busy(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())


@dataclass
class Result:
    """The work of all ranks.

    Attributes:
        tallies: in rank order.
        wall: wall-clock seconds of the parallel part.
        resumed: rows that an earlier run had computed.
        damaged: rows of an earlier run whose checksum was wrong, computed again.
        writer: name of the writer.
    """

    tallies: list[Tally]
    wall: float
    resumed: int
    damaged: int
    writer: str


def run(comm: Comm, header: Header, catalogue: Catalogue | None, writer: str = "auto",
        stop: StopFlag | bool = False) -> Result:
    """Compute the rows of the file that are not done yet. Collective.

    Rows already done are first compared with their checksums. Rejected pictures are tried again:
    they may have been repaired, and the new report needs the reasons of the others.

    Args:
        comm: all ranks.
        header: header of the file.
        catalogue: on rank 0; None on other ranks.
        writer: see ``store.open_writer``.
        stop: once true, this rank skips the blocks that it has not begun.
    """
    start = time.perf_counter()
    watchdog.enter("checking finished rows")
    damaged = _damaged(comm, header)
    watchdog.enter("computing features")
    work, resumed, total = None, 0, 0
    if catalogue is not None:  # rank 0
        pending = np.flatnonzero(header.array("status") != DONE)
        pending = np.union1d(pending, damaged)
        resumed, total = header.rows - len(pending), len(pending)
        work = [[(block, [locate(catalogue.roots, catalogue.paths[row]) for row in block])
                 for block in blocks]
                for blocks in deal_files(catalogue.paths, pending, comm.size,
                                         block_of(header.parameters.size))]
    resumed, total = comm.bcast((resumed, total))
    blocks = comm.scatter(work)
    progress = Progress(comm, total, "images")
    output = open_writer(header, comm, writer)
    tally = _fill(header, output, blocks, progress.advance, stop)
    progress.close()
    output.close()
    tallies = comm.allgather(tally)
    return Result(tallies, time.perf_counter() - start, resumed, len(damaged), output.name)


def _damaged(comm: Comm, header: Header) -> np.ndarray:
    """All rows that are marked done and have a wrong checksum; each rank checks its share."""
    done = np.flatnonzero(header.array("status") == DONE)
    local = damaged_rows(header, np.array_split(done, comm.size)[comm.rank],
                         shown=comm.rank == 0)
    return np.concatenate(comm.allgather(local))


class _Computed(NamedTuple):
    """What is stored of a picture: its features in the header's order, facts and digest."""

    features: list[np.ndarray]
    facts: Facts
    digest: bytes


def _parts(blocks: list[tuple[np.ndarray, list[bytes]]], header: Header, tally: Tally,
           clock: _Clock) -> Iterator[tuple[np.ndarray, Iterator[_Computed | Rejected]]]:
    """As many rows of a block at a time as a full one has, each with its results of ``_compute``.
    """
    most = block_of(header.parameters.size)
    for rows, paths in blocks:
        results = _compute(paths, header, tally, clock)
        for start in range(0, len(rows), most):
            part = rows[start:start + most]
            yield part, islice(results, len(part))


def _compute(paths: list[bytes], header: Header, tally: Tally,
             clock: _Clock) -> Iterator[_Computed | Rejected]:
    """What is stored of each row, or the reason for rejecting it."""
    for file, rows in groupby(map(parse_path, paths), itemgetter(0)):
        moments = [moment for _, moment in rows]
        if moments[0] is None:
            try:
                data = read(file)
                tally.read_bytes += len(data)
                clock.lap("read")
                yield _Computed(features(data, header.features, header.parameters, file),
                                facts.of(data), facts.digest(data))
            except Rejected as reason:
                yield reason
            continue
        tally.read_bytes += video.size(file)
        kind, digest = _video(file) if header.has_facts else (facts.FORMATS[0], b"")
        for frame in video.frames(file, [moment for moment in moments if moment is not None]):
            clock.lap("read")
            try:
                yield frame if isinstance(frame, Rejected) else _Computed(
                    features_of_pixels(frame.pixels, header.features, header.parameters),
                    Facts(frame.pixels.shape[1], frame.pixels.shape[0], kind), digest)
            except Rejected as reason:
                yield reason


def _video(file: bytes) -> tuple[str, bytes]:
    """Format and digest of a video file; of one that can't be read, whose frames are rejected,
    anything."""
    try:
        with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as start:
            return facts.kind_of(start.read(16)), facts.digest_of_file(file)
    except OSError:
        return facts.FORMATS[0], bytes(facts.DIGEST)


def _fill(header: Header, output: Writer, blocks: list[tuple[np.ndarray, list[bytes]]],
          advance: Callable[[int], None], stop: StopFlag | bool) -> Tally:
    """Compute this rank's blocks, each the rows and their files, and write them."""
    tally = Tally()
    clock = _Clock(tally.seconds)
    unsynced: list[tuple[int, np.ndarray, np.ndarray]] = []
    written = 0

    def mark() -> None:
        """Sync the rows to the disk, and only then mark them as done."""
        nonlocal written
        holder.verify(header.path)  # on rank 0, which holds it
        output.sync()
        clock.lap("sync")
        for first, status, sums in unsynced:
            output.write("crc32", first, sums)
            output.write("status", first, status)
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
        known = facts.empty(len(rows) if header.has_facts else 0)
        clock.lap("compute")
        for i, outcome in enumerate(results):
            if isinstance(outcome, Rejected):
                status[i] = REJECTED
                tally.rejects.append((int(rows[i]), str(outcome)))
            else:
                for name, value in zip(header.features, outcome.features, strict=True):
                    values[name][i] = value
                if header.has_facts:
                    facts.put(known, i, outcome.facts, outcome.digest)
                sums[i] = checksum([values[name][i] for name in header.features])
                status[i] = DONE
                tally.images += 1
            clock.lap("compute")
            advance(1)
        tally.left -= len(rows)
        for start, end in _runs(rows):
            for name in header.features:
                output.write(name, int(rows[start]), values[name][start:end])
                written += values[name][start:end].nbytes
            for name in known if header.has_facts else ():
                output.write(name, int(rows[start]), known[name][start:end])
            unsynced.append((int(rows[start]), status[start:end], sums[start:end]))
        clock.lap("write")
        if written >= _SYNC_BYTES:
            mark()
    mark()
    return tally


def _runs(rows: np.ndarray) -> list[tuple[int, int]]:
    """Runs of consecutive rows, as (start, end) positions."""
    edges = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
    return list(pairwise(edges))


class _Clock:
    """Adds the time since the last lap to a stage."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds, self._last = seconds, time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self._seconds[stage] += now - self._last
        self._last = now
