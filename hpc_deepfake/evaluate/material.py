"""The pictures to evaluate a model on: part of a data file, or a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import unquote_to_bytes

import numpy as np

from hpc_deepfake.core import json_data, mpi, watchdog
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.progress import Count, Line, Progress
from hpc_deepfake.data.rows import DataFile, open_data, prefetch, share
from hpc_deepfake.evaluate import common, unlike
from hpc_deepfake.metrics import temperature
from hpc_deepfake.network.guard import Guard
from hpc_deepfake.network.model import Card, find
from hpc_deepfake.network.scoring import Scores, require_finite
from preprocessing import facts
from preprocessing.catalogue import Catalogue, locate
from preprocessing.ela import at_once, features_of_pixels
from preprocessing.facts import Facts
from preprocessing.integrity import require_intact
from preprocessing.names import Moment, parse_path
from preprocessing.picture import Rejected, decode, read
from preprocessing.sample import is_drawn

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

T = TypeVar("T")
BATCH = 64  # pictures of 128 × 128


@dataclass(frozen=True)
class Material:
    """Pictures of known class and a model's predictions, row by row.

    Attributes:
        paths: as in the catalogue, n.
        labels: uint8 (n).
        groups: numbers of the groups of common source, int32 (n).
        group_sizes: pictures in the row's group over all parts, int64 (n).
        probabilities: of tampered, as the network gives them, float64 (n).
        marked: whether they are unlike the model's training pictures, bool (n); None: it wasn't
            asked.
        seen: what the model's training has to do with them, indices into ``pictures.RELATIONS``,
            uint8 (n); None: unknown.
        odds: log-odds of tampered, float64 (n); None: those of the probabilities.
        members: as of ``Scores``.
    """

    paths: list[bytes]
    labels: np.ndarray
    groups: np.ndarray
    group_sizes: np.ndarray
    probabilities: np.ndarray
    marked: np.ndarray | None = None
    seen: np.ndarray | None = None
    odds: np.ndarray | None = None
    members: np.ndarray | None = None

    @property
    def scores(self) -> Scores:
        """What the network says of the pictures."""
        return Scores(self.probabilities, temperature.log_odds(self.probabilities)
                      if self.odds is None else self.odds)

    @property
    def unlike(self) -> np.ndarray:
        """``marked``, where none is if it wasn't asked."""
        return np.zeros(len(self), bool) if self.marked is None else self.marked

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, chosen: np.ndarray) -> Material:
        """Those of the pictures, bool (n)."""
        return Material([path for path, take in zip(self.paths, chosen, strict=True) if take],
                        self.labels[chosen], self.groups[chosen], self.group_sizes[chosen],
                        self.probabilities[chosen], self.unlike[chosen],
                        None if self.seen is None else self.seen[chosen],
                        None if self.odds is None else self.odds[chosen],
                        None if self.members is None else self.members[chosen])


def open_file(path: Path, card: Card) -> DataFile:
    """Open a data file whose features were computed in the same way as the training data.

    Raises:
        InputError: not a data file, or its features were computed with other parameters.
    """
    data = open_data(path, card.feature, "read")  # each row once
    if card.parameters != data.header.parameters:
        made = data.header.parameters
        raise InputError(
            f"the model was trained with ELA parameters {card.parameters.as_dict()}, but {path} "
            f"has {made.as_dict()}: run preprocessing with another --out and "
            f"{card.parameters.options(made)}, or choose a model trained on such a file")
    return data


def rows_of(data: DataFile, part: str) -> np.ndarray:
    """Rows of a part, int64 (n).

    Raises:
        InputError: the part is empty.
    """
    rows = data.rows(part)
    if not len(rows):
        raise InputError(f"{data.header.path} has no {part} part: it was split "
                         f"{data.header.attributes['split']}; choose another --part")
    return rows


def of_rows(network: Any, data: DataFile, rows: np.ndarray, comm: Comm | None = None,
            guard: Guard | None = None) -> Material:
    """Material from rows of a data file, int64 (n); with ``comm`` collective. ``guard``: what the
    model knows of its training pictures; None: it isn't asked."""
    found = scores(network, data, rows, comm)
    groups = np.array(data.header.array("group"))
    sizes = np.bincount(groups[data.usable], minlength=groups.max() + 1)
    paths = data.paths[rows].tolist()
    return Material([unquote_to_bytes(path) for path in paths], data.labels[rows], groups[rows],
                    sizes[groups[rows]], found.probabilities,
                    None if guard is None else unlike.of_rows(guard, data, rows, comm),
                    None if guard is None or guard.pictures is None else
                    common.of_rows(guard, data, rows, comm), found.odds, found.members)


def probabilities(network: Any, data: DataFile, rows: np.ndarray,
                  comm: Comm | None = None) -> np.ndarray:
    """The probabilities of ``scores``, float64 (n)."""
    return scores(network, data, rows, comm).probabilities


def scores(network: Any, data: DataFile, rows: np.ndarray, comm: Comm | None = None) -> Scores:
    """What the network says of rows of a data file, int64 (n).

    With ``comm`` collective: the ranks share the work, and each gets all of it.

    Raises:
        InputError: a row is damaged, or a probability is not finite; on all ranks alike.
    """
    watchdog.enter("checking the rows")
    require_intact(data.header, rows, comm)
    blocks = _dealt(rows, data.header.parameters.size, comm)

    def score(advance: Callable[[int], None]) -> Scores:
        found = []
        for pictures in prefetch(lambda block: data.batch(block)[0], blocks):
            found.append(Scores.of(network.predict_on_batch(pictures)))
            advance(len(pictures))
        return Scores.joined(found)

    return _everywhere(comm, _shared(comm, len(rows), score))


def of_folder(network: Any, card: Card, catalogue: Catalogue, comm: Comm | None = None,
              guard: Guard | None = None) -> tuple[Material, list[tuple[bytes, str]]]:
    """Material from a folder of pictures, prepared now in the same way as the training data; with
    ``comm`` collective. ``guard``: as in ``of_rows``.

    Returns:
        The material, and the pictures that can't be used, each with the reason.

    Raises:
        InputError: no picture can be used, or a probability is not finite; on all ranks alike.
    """
    blocks = _dealt(np.arange(len(catalogue)), card.parameters.size, comm)
    kept: list[int] = []
    marked: list[bool] = []
    seen: list[int] = []
    rejected: list[tuple[bytes, str]] = []

    def load(block: np.ndarray) -> list[_Feature | Rejected]:
        return list(_features(card, guard, catalogue.roots,
                              [catalogue.paths[row] for row in block]))

    def score(advance: Callable[[int], None]) -> Scores:
        found = []
        for block, loaded in zip(blocks, prefetch(load, blocks), strict=True):
            features = []
            for row, picture in zip(block.tolist(), loaded, strict=True):
                if isinstance(picture, Rejected):
                    rejected.append((catalogue.paths[row], str(picture)))
                else:
                    kept.append(row)
                    features.append(picture.row)
                    marked.append(picture.unlike)
                    seen.append(picture.seen)
            if features:
                found.append(Scores.of(network.predict_on_batch(np.stack(features))))
            advance(len(block))
        return Scores.joined(found)

    found = _everywhere(comm, _shared(comm, len(catalogue), score))
    kept, marked, seen, rejected = ([*chain(*parts)] for parts in zip(*mpi.gather(
        comm, (kept, marked, seen, rejected)), strict=True))
    if not kept:
        path, reason = rejected[0]
        raise InputError(f"none of the {len(catalogue):,} pictures can be used; the first: "
                         f"{os.fsdecode(path)}: {reason}", everywhere=True)
    groups = catalogue.groups[kept]
    return Material([catalogue.paths[row] for row in kept], catalogue.labels[kept], groups,
                    np.bincount(groups)[groups], found.probabilities, np.array(marked, bool),
                    np.array(seen, np.uint8) if guard is not None and guard.pictures is not None
                    else None, found.odds, found.members), rejected


def _dealt(rows: np.ndarray, size: int, comm: Comm | None) -> list[np.ndarray]:
    """This rank's rows, of ``size`` × ``size``, in blocks: the same blocks on any number of ranks,
    so that the network computes the same, in the order of the ranks."""
    most = at_once(BATCH, size)
    blocks = np.split(rows, range(most, len(rows), most))
    if comm is None:
        return blocks
    return [blocks[number] for number in share(np.arange(len(blocks)), comm.rank, comm.size)]


def _shared(comm: Comm | None, images: int, work: Callable[[Callable[[int], None]], T]) -> T:
    """``work(advance)`` on each rank, which counts its images by ``advance``; an InputError of some
    ranks is raised on all. Collective.

    Args:
        comm: the ranks; None: this process is alone.
        images: their number over all ranks.
        work: see above.
    """
    watchdog.enter("evaluating")
    progress = Count(images, "images", Line()) if comm is None else \
        Progress(comm, images, "images")

    def counted() -> T:
        try:
            result = work(progress.advance)
        except (InputError, OSError):  # the other ranks wait there
            progress.close()
            raise
        progress.close()
        return result

    return mpi.together(comm, counted)


def _everywhere(comm: Comm | None, own: Scores) -> Scores:
    """Those of all ranks on each of them; ``require_finite`` as an error of all."""
    members = [part for part in mpi.gather(comm, own.members) if part is not None]
    found = Scores(mpi.concatenate(comm, own.probabilities), mpi.concatenate(comm, own.odds),
                   np.concatenate(members) if members else None)
    return mpi.together(comm, partial(require_finite, found))


class _Loaded(NamedTuple):
    """A picture or frame: pixels, uint8 (height, width, 3) blue-green-red, facts of its file,
    whether ``hpc-deepfake sample`` drew it, and ``facts.digest`` of the file."""

    pixels: np.ndarray
    facts: Facts
    drawn: bool
    digest: bytes


class _Feature(NamedTuple):
    """A picture's feature, uint8 (S, S, 3), whether it is unlike the training pictures, and what
    the model's training has to do with it, an index into ``pictures.RELATIONS``."""

    row: np.ndarray
    unlike: bool
    seen: int


def _features(card: Card, guard: Guard | None, roots: dict[str, Path],
              paths: Sequence[bytes]) -> Iterator[_Feature | Rejected]:
    """The feature of each picture or frame, and what the guard says of it; or why it can't be
    used."""
    for file, rows in groupby(map(parse_path, paths), lambda parsed: parsed[0]):
        for loaded in _pixels(locate(roots, file), [moment for _, moment in rows]):
            try:
                yield loaded if isinstance(loaded, Rejected) else _feature(card, guard, loaded)
            except Rejected as reason:
                yield reason


def _feature(card: Card, guard: Guard | None, loaded: _Loaded) -> _Feature:
    if guard is None:
        return _Feature(features_of_pixels(loaded.pixels, (card.feature,), card.parameters)[0],
                        False, 0)
    feature, raw = guard.features(loaded.pixels, card)
    return _Feature(feature, bool(guard.unlike(feature, raw, loaded.facts, loaded.drawn)),
                    guard.relation(loaded.digest, feature, raw))


def _pixels(file: bytes, moments: Sequence[Moment | None]) -> Iterator[_Loaded | Rejected]:
    """A file's pixels for each moment, where None stands for a picture."""
    in_video = [moment for moment in moments if moment is not None]
    if not in_video:
        yield from (_decoded(file) for _ in moments)
        return
    from preprocessing.video import frames

    kind, digest = None, b""
    for frame in frames(file, in_video):
        if isinstance(frame, Rejected):
            yield frame
            continue
        if kind is None:
            kind, digest = facts.kind_of_file(file), _digest_of_video(file)
        yield _Loaded(frame.pixels, Facts(frame.pixels.shape[1], frame.pixels.shape[0], kind),
                      False, digest)


def _digest_of_video(file: bytes) -> bytes:
    try:
        return facts.digest_of_file(file)
    except OSError:  # gone since its frames were read
        return b""


def _decoded(path: bytes) -> _Loaded | Rejected:
    try:
        data = read(path)
        return _Loaded(decode(data, path), facts.of(data), is_drawn(data), facts.digest(data))
    except Rejected as reason:
        return reason


def trained_on(model: Path, data: Path) -> bool | None:
    """Whether the model was trained on this data file; None if its run directory doesn't say."""
    try:
        config = json_data.read(find(model).parent / "config.json")
        return os.path.realpath(config["data"]) == os.path.realpath(data)
    except (OSError, ValueError, KeyError, TypeError):
        return None
