"""The parallel part: every rank writes the features of its pictures into the shared file."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, islice, pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hpc_deepfake.core import holder, watchdog
from hpc_deepfake.core.progress import Progress
from preprocessing import facts, perturb, tracks, video
from preprocessing import mask as masks
from preprocessing.catalogue import Catalogue, locate
from preprocessing.deal import block_of, deal_files
from preprocessing.ela import box_of, features_of_pixels
from preprocessing.faces import Box
from preprocessing.facts import Facts
from preprocessing.integrity import damaged_rows
from preprocessing.mask import CHANGED, SAME, UNKNOWN
from preprocessing.names import TAMPERED, parse_path
from preprocessing.picture import Rejected, decode, read
from preprocessing.store import (
    DONE,
    MASK,
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
    from preprocessing.video import Frame

_SYNC_BYTES = 32 << 20  # bytes written between two syncs to the disk
STAGES = ("read", "compute", "write", "sync")


@dataclass
class Tally:
    """The work of one rank.

    Attributes:
        images: rows computed, without those of which only the mask was tried again in vain.
        left: rows not computed because of a request to stop.
        read_bytes: bytes of picture and video files.
        written_bytes: bytes of features.
        seconds: by stage.
        rejects: row and reason of each rejected picture.
        masks: number of rows with a mask, of those computed.
        mostly: number of these that mark more than half of their picture.
        unknown: row, path and reason of each mask that can't be used.
        host: name of its node.
    """

    images: int = 0
    left: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    rejects: list[tuple[int, str]] = field(default_factory=list)
    masks: int = 0
    mostly: int = 0
    unknown: list[tuple[int, bytes, str]] = field(default_factory=list)
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

    Rows already done are first compared with their checksums. Rejected pictures, and pictures whose
    masks couldn't be used, are tried again: they may have been repaired, and the new report needs
    the reasons of the others.

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
        again = np.setdiff1d(_without_mask(header, catalogue), pending)
        if header.parameters.crop is not None:
            whole = _with_whole_videos(catalogue.paths, np.union1d(pending, again))
            pending = np.setdiff1d(whole, again)
        resumed, pending = header.rows - len(pending), np.union1d(pending, again)
        total = len(pending)
        work = dealt(header, catalogue, pending, comm.size, again)
    resumed, total = comm.bcast((resumed, total))
    blocks = comm.scatter(work)
    progress = Progress(comm, total, "images")
    output = open_writer(header, comm, writer)
    tally = _fill(header, output, blocks, progress.advance, stop)
    progress.close()
    output.close()
    tallies = comm.allgather(tally)
    return Result(tallies, time.perf_counter() - start, resumed, len(damaged), output.name)


def dealt(header: Header, catalogue: Catalogue, pending: np.ndarray, ranks: int,
          again: np.ndarray) -> list[list[_Task]]:
    """The blocks of each rank.

    Args:
        header: of the file.
        catalogue: the pictures.
        pending: rows to compute, int64, sorted.
        ranks: number of ranks.
        again: those of them that are done but for their mask, int64, sorted.
    """
    return [[_task(header, catalogue, block, again) for block in blocks] for blocks in
            deal_files(catalogue.paths, pending, ranks, block_of(header.parameters.size))]


def _damaged(comm: Comm, header: Header) -> np.ndarray:
    """All rows that are marked done and have a wrong checksum; each rank checks its share."""
    done = np.flatnonzero(header.array("status") == DONE)
    local = damaged_rows(header, np.array_split(done, comm.size)[comm.rank],
                         shown=comm.rank == 0)
    return np.concatenate(comm.allgather(local))


class _Task(NamedTuple):
    """A block of rows.

    Attributes:
        rows: their numbers, int64 (n).
        paths: of their pictures or frames.
        masks: where their masks are (``masks.of``).
        again: whether a row is done but for its mask, bool (n).
    """

    rows: np.ndarray
    paths: list[bytes]
    masks: list[masks.File | None]
    again: np.ndarray


def _task(header: Header, catalogue: Catalogue, rows: np.ndarray, again: np.ndarray) -> _Task:
    return _Task(rows, [locate(catalogue.roots, catalogue.paths[row]) for row in rows],
                 [masks.of(catalogue, row) if header.has_masks else None for row in rows.tolist()],
                 np.isin(rows, again))


def _without_mask(header: Header, catalogue: Catalogue) -> np.ndarray:
    """Rows that are done, but whose mask couldn't be used."""
    if not header.has_masks:
        return np.array([], np.int64)
    stored = header.array(MASK)
    done = np.flatnonzero((header.array("status") == DONE) & (header.array("label") == TAMPERED))
    corners = stored[done, 0, 0] == UNKNOWN  # of most rows no more is read
    return np.array([row for row in done[corners].tolist()
                     if catalogue.mask_of(row) and (stored[row] == UNKNOWN).all()], np.int64)


def _with_whole_videos(paths: Sequence[bytes], pending: np.ndarray) -> np.ndarray:
    """With all frames of a video of which one is to be computed: a face is followed through all."""
    parsed = [parse_path(path) for path in paths]
    files = {parsed[row][0] for row in pending.tolist() if parsed[row][1] is not None}
    return np.union1d(pending, np.array([row for row, (file, moment) in enumerate(parsed)
                                         if moment is not None and file in files], np.int64))


class _Computed(NamedTuple):
    """What is stored of a picture: its features in the header's order, facts, digest and mask, or
    the reason why its mask can't be used."""

    features: list[np.ndarray]
    facts: Facts
    digest: bytes
    mask: np.ndarray | Rejected


def _parts(tasks: list[_Task], header: Header, tally: Tally,
           clock: _Clock) -> Iterator[tuple[_Task, Iterator[_Computed | Rejected]]]:
    """As many rows of a block at a time as a full one has, each with its results of ``_compute``.
    """
    most = block_of(header.parameters.size)
    for task in tasks:
        results = _compute(task, header, tally, clock)
        for start in range(0, len(task.rows), most):
            end = start + most
            part = _Task(task.rows[start:end], task.paths[start:end], task.masks[start:end],
                         task.again[start:end])
            yield part, islice(results, len(part.rows))


def _compute(task: _Task, header: Header, tally: Tally,
             clock: _Clock) -> Iterator[_Computed | Rejected]:
    """What is stored of each row, or the reason for rejecting it."""
    numbered = zip(map(parse_path, task.paths), task.masks, strict=True)
    for (file, mask), group in groupby(numbered, lambda row: (row[0][0], row[1])):
        moments = [moment for (_, moment), _ in group]
        if moments[0] is None:
            try:
                data = read(file)
                tally.read_bytes += len(data)
                clock.lap("read")
                yield _of_picture(data, file, mask, header)
            except Rejected as reason:
                yield reason
            continue
        tally.read_bytes += video.size(file)
        kind, digest = _video(file) if header.has_facts else (facts.FORMATS[0], b"")
        with masks.Film(mask or masks.File(b""), file) as film:
            for frame in tracks.frames(file, [moment for moment in moments if moment is not None],
                                       header.parameters):
                clock.lap("read")
                try:
                    yield frame if isinstance(frame, Rejected) else _of_frame(
                        frame, kind, digest, header,
                        _mask(header, mask, frame.pixels.shape, frame.box,
                              partial(film.at, frame.number)))
                except Rejected as reason:
                    yield reason


def _of_frame(frame: Frame, kind: str, digest: bytes, header: Header,
              mask: np.ndarray | Rejected) -> _Computed:
    pixels, known = _changed(frame.pixels, header)
    return _Computed(features_of_pixels(pixels, header.features, header.parameters, frame.box),
                     known or Facts(pixels.shape[1], pixels.shape[0], kind), digest, mask)


def _changed(pixels: np.ndarray, header: Header) -> tuple[np.ndarray, Facts | None]:
    """Pixels after the perturbation that the file's recipe draws for them, and facts of the changed
    picture; None if it is as it was."""
    drawn = perturb.drawn(pixels, header.perturbations)
    if not drawn.steps:
        return pixels, None
    changed = drawn.of_pixels(pixels)
    return changed, drawn.facts(changed.shape[1], changed.shape[0])


def _of_picture(data: bytes, file: bytes, mask: masks.File | None, header: Header) -> _Computed:
    pixels = decode(data, file)
    shape = pixels.shape
    pixels, known = _changed(pixels, header)
    box = box_of(pixels, header.parameters)
    values = features_of_pixels(pixels, header.features, header.parameters, box)
    del pixels  # a mask may be as large
    return _Computed(values, known or facts.of(data), facts.digest(data),
                     _mask(header, mask, shape, box, (mask or masks.File(b"")).read))


def _mask(header: Header, file: masks.File | None, shape: tuple[int, ...], box: Box | None,
          read: Callable[[int, int], np.ndarray]) -> np.ndarray | Rejected:
    """The mask of a row as stored, or why it can't be used."""
    size = header.parameters.size
    if file is None or not file.path:
        return np.full((size, size), SAME if file is None else UNKNOWN, np.uint8)
    try:
        mask = read(*shape[:2])
        return masks.shrink(mask if box is None else box.of(mask), size)
    except Rejected as reason:
        return reason


def _video(file: bytes) -> tuple[str, bytes]:
    """Format and digest of a video file; of one that can't be read, whose frames are rejected,
    anything."""
    try:
        with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as start:
            return facts.kind_of(start.read(16)), facts.digest_of_file(file)
    except OSError:
        return facts.FORMATS[0], bytes(facts.DIGEST)


def _fill(header: Header, output: Writer, tasks: list[_Task],
          advance: Callable[[int], None], stop: StopFlag | bool) -> Tally:
    """Compute this rank's blocks, and write them."""
    tally = Tally()
    clock = _Clock(tally.seconds)
    marks = _Marks(header, output, clock)
    tally.left = sum(len(task.rows) for task in tasks)
    features, summed, has_facts = header.features, header.summed, header.has_facts
    # of one block, used again: fresh pages would take longer than the copy into them
    most = min(block_of(header.parameters.size), max((len(task.rows) for task in tasks), default=0))
    buffers = {name: np.empty((most, *header.shapes[name][1:]), np.uint8) for name in summed}
    for task, results in _parts(tasks, header, tally, clock):
        if stop:
            break
        rows = task.rows
        values = {name: buffer[:len(rows)] for name, buffer in buffers.items()}
        if header.has_masks:
            values[MASK][:] = UNKNOWN
        status = np.full(len(rows), PENDING, np.uint8)
        sums = np.zeros(len(rows), np.uint32)
        known: list[tuple[Facts, bytes]] = []
        clock.lap("compute")
        for i, outcome in enumerate(results):
            if isinstance(outcome, Rejected):
                status[i] = REJECTED
                tally.rejects.append((int(rows[i]), str(outcome)))
                for name in features:
                    values[name][i] = 0
                known.append(facts.NOTHING)
            else:
                for name, value in zip(features, outcome.features, strict=True):
                    values[name][i] = value
                if header.has_masks:
                    _put_mask(values[MASK][i], outcome.mask, int(rows[i]), task.masks[i], tally)
                known.append((outcome.facts, outcome.digest))
                sums[i] = checksum([values[name][i] for name in summed])
                status[i] = DONE
                tally.images += not (task.again[i] and isinstance(outcome.mask, Rejected))
            clock.lap("compute")
            advance(1)
        tally.left -= len(rows)
        columns = facts.columns(known) if has_facts else {}
        for start, end in _runs(rows):
            for name in summed:
                output.write(name, int(rows[start]), values[name][start:end])
                tally.written_bytes += values[name][start:end].nbytes
            for name, column in columns.items():
                output.write(name, int(rows[start]), column[start:end])
            marks.add(int(rows[start]), status[start:end], sums[start:end])
        clock.lap("write")
        marks.advance(tally.written_bytes)
    marks.finish()
    return tally


class _Marks:
    """Marks rows as done once they are synced to the disk, and never before.

    A thread waits for the disk while the next rows are computed.
    """

    def __init__(self, header: Header, output: Writer, clock: _Clock) -> None:
        self._header, self._output, self._clock = header, output, clock
        self._pool = ThreadPoolExecutor(1, "sync")
        self._written: list[tuple[int, np.ndarray, np.ndarray]] = []  # rows to be synced
        self._syncing: tuple[Future[None], list[tuple[int, np.ndarray, np.ndarray]]] | None = None
        self._synced_bytes = 0

    def add(self, first: int, status: np.ndarray, sums: np.ndarray) -> None:
        """Rows from ``first`` on were written."""
        self._written.append((first, status, sums))

    def advance(self, written_bytes: int) -> None:
        """Mark rows that are synced by now, and begin a sync if there is enough to sync."""
        due = written_bytes - self._synced_bytes >= _SYNC_BYTES
        if self._syncing is not None and (due or self._syncing[0].done()):
            self._mark()
        if due:
            self._begin()
            self._synced_bytes = written_bytes

    def finish(self) -> None:
        """Sync and mark all rows."""
        if self._syncing is not None:
            self._mark()
        self._begin()
        self._mark()
        self._pool.shutdown()

    def _begin(self) -> None:
        self._syncing = self._pool.submit(self._output.sync), self._written
        self._written = []

    def _mark(self) -> None:
        assert self._syncing is not None
        synced, rows = self._syncing
        holder.verify(self._header.path)  # on rank 0, which holds it
        synced.result()
        self._clock.lap("sync")
        for first, status, sums in rows:
            self._output.write("crc32", first, sums)
            self._output.write("status", first, status)
        self._syncing = None
        self._clock.lap("write")


def _put_mask(target: np.ndarray, mask: np.ndarray | Rejected, row: int, file: masks.File | None,
              tally: Tally) -> None:
    """Set the mask of a row, which is unknown so far."""
    if isinstance(mask, Rejected):
        tally.unknown.append((row, file.path if file else b"", str(mask)))
        return
    target[:] = mask
    if file and file.path:
        tally.masks += 1
        tally.mostly += bool((mask == CHANGED).mean() > 0.5)


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
