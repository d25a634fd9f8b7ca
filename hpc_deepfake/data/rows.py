"""Rows of the shared HDF5 file for training and evaluation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.log import log
from hpc_deepfake.data import node_copy
from hpc_deepfake.data.inputs import (
    MappedRows,
    Pictures,
    PositionedRows,
    Source,
    StackedRows,
    choose,
)
from preprocessing import ela
from preprocessing.integrity import unfinished
from preprocessing.split import PARTS
from preprocessing.store import DONE, MASK, Header, open_header

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 2  # batches of training and evaluation that are read ahead: one slow read delays no step


@dataclass(frozen=True)
class DataFile:
    """One feature of a data file.

    Attributes:
        header: header of the file.
        feature: name of the feature, or of several that are stacked (``ela.parts``).
        pictures: uint8 (N, S, S, channels), indexed by arrays of row numbers.
        labels: uint8 (N), 0 authentic, 1 tampered.
        parts: uint8 (N), indices into ``split.PARTS``.
        usable: bool (N), False for rejected rows.
        input: how the pictures are read, one of ``inputs.INPUTS``.
        paths: as stored, bytes (N); like the pictures those of the file that was opened, even if
            another one has taken its name since.
        masks: where the pictures were changed, uint8 (N, S, S), of values as in
            ``preprocessing.mask``; None: the file has none.
    """

    header: Header
    feature: str
    pictures: Pictures
    labels: np.ndarray
    parts: np.ndarray
    usable: np.ndarray
    input: str
    paths: np.ndarray
    masks: Pictures | None = None

    @property
    def size(self) -> int:
        """Width and height of the pictures."""
        return int(self.header.attributes["ela"]["size"])

    @property
    def channels(self) -> int:
        """Channels of the pictures."""
        return ela.channels(self.feature)

    def rows(self, part: str) -> np.ndarray:
        """Usable rows of ``train``, ``validation``, ``test`` or ``all``, int64, sorted."""
        if part == "all":
            return np.flatnonzero(self.usable)
        return np.flatnonzero(self.usable & (self.parts == PARTS.index(part)))

    def batch(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pictures and labels of ``rows``, in their order.

        Raises:
            InputError: the file can't be read any more.
        """
        return np.asarray(self.pictures[rows]), self.labels[rows]


def open_data(path: Path, feature: str, input_mode: str = "auto",
              comm: Comm | None = None, masks: bool = False) -> DataFile:
    """Open one feature of a data file; with ``comm`` collective.

    Args:
        path: the data file.
        feature: name of the feature, or of several to be stacked, such as ``ela+raw``.
        input_mode: ``mmap`` maps the pictures from the page cache, ``read`` reads the rows of each
            batch, ``memory`` holds all of them, once per node if there is room, else it is
            ``read``; for ``auto`` see ``inputs.choose``.
        comm: the ranks that open the file together; all get the same mode.
        masks: whether the masks are used often, so that ``memory`` holds them too.

    Raises:
        InputError: no such file or feature, preprocessing has not finished the file, or it can't
            be read.
    """
    header = open_header(path)
    parts = ela.parts(feature)
    if (missing := header.lacks(feature)) is not None:
        advice = f"run preprocessing with --features {' '.join(parts)} and another --out" \
            if ela.computable(feature) else "name one of them with --feature"
        raise InputError(f"{path} has no feature '{missing}', only {', '.join(header.features)}; "
                         + advice)
    pending = len(unfinished(header))
    if pending:
        raise InputError(f"{path} isn't finished: {pending:,} of {header.rows:,} pictures are "
                         "pending; run the same preprocessing command again to complete it")
    if input_mode == "auto":
        input_mode = choose(header, (*parts, *[MASK] * (masks and header.has_masks)), comm)
    stacked = []
    for part in parts:
        rows, input_mode = _pictures(header, part, input_mode, comm)
        stacked.append(rows)
    pictures = stacked[0] if len(stacked) == 1 else StackedRows(stacked)
    return DataFile(header, feature, pictures, np.array(header.array("label")),
                    np.array(header.array("split")), header.array("status") == DONE, input_mode,
                    header.array("path"), _masks(header, input_mode, masks, comm))


def _pictures(header: Header, feature: str, mode: str,
              comm: Comm | None) -> tuple[Pictures, str]:
    """The pictures, and how they are read, which may be ``read`` for want of memory."""
    what = "masks" if feature == MASK else "pictures"
    if mode == "memory" and comm is not None:
        held, problem = node_copy.hold(header, feature, comm)
        if comm.rank == 0 and held is not None:
            log.info(f"{held.nbytes / 1e6:,.0f} MB of {what} are held in memory, once on each "
                     "node")
        if held is not None:
            return held, mode
        if comm.rank == 0:
            log.warning(f"note: the {what} can't be held in memory, so each batch is read from "
                        f"the file (--input read): {problem}")
        mode = "read"
    if mode == "memory":
        pictures = np.empty(header.shapes[feature], np.uint8)
        Source(header, feature).read(0, pictures)
        return pictures, mode
    return (PositionedRows if mode == "read" else MappedRows)(header, feature), mode


def _masks(header: Header, mode: str, used: bool, comm: Comm | None) -> Pictures | None:
    """The masks; held in memory only if they are used."""
    if not header.has_masks:
        return None
    return _pictures(header, MASK, "read" if mode == "memory" and not used else mode, comm)[0]


def check_trainable(data: DataFile) -> None:
    """Raise InputError unless the train and the validation part hold both classes."""
    for part in ("train", "validation"):
        classes = set(data.labels[data.rows(part)].tolist())
        if classes != {0, 1}:
            raise InputError(f"{data.header.path}: the {part} part needs authentic and tampered "
                             f"pictures, and has {'one class only' if classes else 'none'}; "
                             "preprocess more pictures or with another --split")


def epoch_order(rows: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The rows in the order of an epoch, which depends on seed and epoch, not on the ranks."""
    return np.random.default_rng([seed, epoch]).permutation(rows)


def first_rows(rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """``count`` of the rows, sorted; all of them for 0.

    They come first in an order that depends on the seed alone, so that a larger count includes the
    rows of a smaller one.

    Raises:
        InputError: there are fewer rows; on all ranks alike.
    """
    if not count:
        return rows
    if count > len(rows):
        raise InputError(f"--rows {count:,}: the training part has {len(rows):,} rows; give a "
                         "smaller number, or omit --rows to use all", everywhere=True)
    return np.sort(epoch_order(rows, seed, 0)[:count])  # epochs are counted from 1


def class_weights(labels: np.ndarray) -> tuple[float, float]:
    """Weights n / (2·n of the class) of authentic and tampered rows, with which both classes count
    the same (King & Zeng 2001); their mean over the rows is 1.

    Args:
        labels: of the training rows, 0 or 1 (n).

    Raises:
        InputError: one of the classes has no rows.
    """
    counts = np.bincount(labels, minlength=2)
    if not counts.all():
        raise InputError("--class-weight balanced: all training rows are of one class; leave it "
                         "out, or use more --rows", everywhere=True)
    authentic, tampered = (len(labels) / (2 * counts)).tolist()
    return authentic, tampered


def share(rows: np.ndarray, rank: int, ranks: int) -> np.ndarray:
    """This rank's part of a global batch (or of any list); sizes differ by at most one."""
    size, larger = divmod(len(rows), ranks)  # as np.array_split, which would cut all parts
    start = rank * size + min(rank, larger)
    return rows[start:start + size + (rank < larger)]


def prefetch(load: Callable[[T], R], items: Iterable[T], *, ahead: int = 1,
             threads: int = 1) -> Iterator[R]:
    """``load(item)`` of each item, in order, computed by threads while earlier ones are used.

    Whoever leaves early closes the generator, as does the end of its last reference: loads that
    haven't begun are dropped, and only those under way are waited for.

    Args:
        load: loads an item; by several threads at once if ``threads`` is more than 1.
        items: read one after the other by the caller's thread, up to ``ahead`` ahead of use.
        ahead: items loaded or being loaded beside the one in use, at least 1. Memory holds at
            most ``ahead`` + 1 results.
        threads: that load; more than ``ahead`` + 1 have nothing to do.

    Raises:
        Exception: what a load raised, where its result would have been.
    """
    pending: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads, "prefetch")
    try:
        for item in items:
            pending.append(pool.submit(load, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
