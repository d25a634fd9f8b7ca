"""The pictures to evaluate a model on: part of a data file, or a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote_to_bytes

import numpy as np

from hpc_deepfake.core import json_data, mpi, watchdog
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.progress import Count, Line, Progress
from hpc_deepfake.data.rows import DataFile, open_data, prefetch, share
from hpc_deepfake.evaluate import common, pixels, unlike
from hpc_deepfake.evaluate.originals import MaskRows
from hpc_deepfake.evaluate.pictures import Asked, Prepared, brightest, by_file, prepared
from hpc_deepfake.evaluate.pixels import ELA, Mapper
from hpc_deepfake.metrics import temperature
from hpc_deepfake.network import device, maps
from hpc_deepfake.network.guard import Guard
from hpc_deepfake.network.model import Card, find
from hpc_deepfake.network.scoring import Scores, launched, require_finite
from preprocessing.catalogue import Catalogue
from preprocessing.ela import at_once
from preprocessing.integrity import require_intact
from preprocessing.perturb import Perturbation
from preprocessing.picture import Rejected

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
        plain: ``brightest`` of their error levels, float64 (n); None: it wasn't asked.
        counted: pixels of the model's map and of baselines, by the names of ``pixels``, each as of
            ``metrics.masks.histograms``; empty: the model has no map.
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
    plain: np.ndarray | None = None
    counted: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def pixels(self) -> np.ndarray | None:
        """Those of ``counted`` of the model's map, int32 (n, 2, 256)."""
        return self.counted.get(pixels.MODEL)

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
                        None if self.members is None else self.members[chosen],
                        None if self.plain is None else self.plain[chosen],
                        {name: counts[chosen] for name, counts in self.counted.items()})


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
            guard: Guard | None = None, where: bool = True) -> Material:
    """Material from rows of a data file; with ``comm`` collective.

    Args:
        network: the trained model.
        data: the data file.
        rows: int64 (n).
        comm: the ranks; None: this process is alone.
        guard: what the model knows of its training pictures; None: it isn't asked.
        where: whether to count pixels of the model's maps, if it has some.
    """
    mapper = Mapper(network, data.feature, ())
    if where and maps.has(network):
        mapper = Mapper.of(network, data.feature, ELA in data.header.features,
                           pixels.mean_mask(data, comm))
    found, counted = _judged(mapper, data, rows, comm)
    groups = np.array(data.header.array("group"))
    sizes = np.bincount(groups[data.usable], minlength=groups.max() + 1)
    paths = data.paths[rows].tolist()
    return Material([unquote_to_bytes(path) for path in paths], data.labels[rows], groups[rows],
                    sizes[groups[rows]], found.probabilities,
                    None if guard is None else unlike.of_rows(guard, data, rows, comm),
                    None if guard is None or guard.pictures is None else
                    common.of_rows(guard, data, rows, comm), found.odds, found.members,
                    counted=counted)


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
    return _judged(Mapper(network, data.feature, ()), data, rows, comm)[0]


def _judged(mapper: Mapper, data: DataFile, rows: np.ndarray,
            comm: Comm | None) -> tuple[Scores, dict[str, np.ndarray]]:
    """``scores``, and the pixels of the mapper's maps."""
    watchdog.enter("checking the rows")
    require_intact(data.header, rows, comm)
    blocks = _dealt(rows, data.header.parameters.size, comm)

    def load(block: np.ndarray) -> tuple[np.ndarray, ...]:
        features = data.batch(block)[0]
        return (features, *pixels.of_block(mapper, data, block)) if mapper.names else (features,)

    def judge(advance: Callable[[int], None]) -> _Judged:
        found = []
        for outputs, block in launched(lambda block: (mapper.launch(block[0]), block),
                                       prefetch(load, blocks, ahead=2)):
            found.append(mapper.judge(outputs, *block))
            advance(len(block[0]))
        return found

    return _everywhere(comm, mapper, _shared(comm, len(rows), judge))


def of_folder(network: Any, card: Card, catalogue: Catalogue, comm: Comm | None = None,
              guard: Guard | None = None, perturbation: Perturbation | None = None,
              masks: MaskRows | None = None, mean: np.ndarray | None = None
              ) -> tuple[Material, list[tuple[bytes, str]]]:
    """Material from a folder of pictures, prepared now in the same way as the training data; with
    ``comm`` collective.

    Args:
        network: as in ``of_rows``.
        card: of the model.
        catalogue: the pictures.
        comm: the ranks; None: this process is alone.
        guard: as in ``of_rows``.
        perturbation: what is done to each picture before; then ``plain`` is there.
        masks: of the pictures; None: those of the catalogue's files.
        mean: the mean mask, to compare the model's maps with; None: unknown.

    Returns:
        The material, and the pictures that can't be used, each with the reason.

    Raises:
        InputError: no picture can be used, or a probability is not finite; on all ranks alike.
    """
    mapper = Mapper.of(network, card.feature, True, mean)
    asked = Asked(bool(mapper.names), perturbation is not None)
    blocks = _dealt(np.arange(len(catalogue)), card.parameters.size, comm)
    files = [by_file(catalogue, block) for block in blocks]
    threads = device.cores(1 if comm is None else device.local_ranks(comm)[1])
    kept: list[int] = []
    marked: list[bool] = []
    seen: list[int] = []
    plain: list[float] = []  # with a perturbation
    rejected: list[tuple[bytes, str]] = []

    def load(rows: np.ndarray) -> list[Prepared | Rejected]:
        return list(prepared(card, guard, catalogue, rows, asked, perturbation, masks))

    def judge(advance: Callable[[int], None]) -> _Judged:
        found = []
        # while the network computes one block, threads prepare the pictures of the next
        loaded = prefetch(load, chain.from_iterable(files), ahead=max(BATCH, threads),
                          threads=threads)
        for block, own in zip(blocks, files, strict=True):
            usable = []
            pictures = chain.from_iterable(next(loaded) for _ in own)
            for row, picture in zip(block.tolist(), pictures, strict=True):
                if isinstance(picture, Rejected):
                    rejected.append((catalogue.paths[row], str(picture)))
                else:
                    kept.append(row)
                    usable.append(picture)
                    marked.append(picture.unlike)
                    seen.append(picture.seen)
                    if perturbation is not None:
                        plain.append(brightest(picture.errors))
            if usable:
                features, _, _, known, errors = zip(*usable, strict=True)
                rows = np.stack(features)
                found.append(mapper.judge(mapper.launch(rows), rows, *(
                    map(np.stack, (known, errors)) if mapper.names else ())))
            advance(len(block))
        return found

    unit = "images" if perturbation is None else f"images, {perturbation}"
    found, counted = _everywhere(comm, mapper, _shared(comm, len(catalogue), judge, unit))
    kept, marked, seen, plain, rejected = ([*chain(*parts)] for parts in zip(*mpi.gather(
        comm, (kept, marked, seen, plain, rejected)), strict=True))
    if not kept:
        path, reason = rejected[0]
        raise InputError(f"none of the {len(catalogue):,} pictures can be used; the first: "
                         f"{os.fsdecode(path)}: {reason}", everywhere=True)
    groups = catalogue.groups[kept]
    return Material([catalogue.paths[row] for row in kept], catalogue.labels[kept], groups,
                    np.bincount(groups)[groups], found.probabilities, np.array(marked, bool),
                    np.array(seen, np.uint8) if guard is not None and guard.pictures is not None
                    else None, found.odds, found.members,
                    None if perturbation is None else np.array(plain), counted), rejected


def _dealt(rows: np.ndarray, size: int, comm: Comm | None) -> list[np.ndarray]:
    """This rank's rows, of ``size`` × ``size``, in blocks: the same blocks on any number of ranks,
    so that the network computes the same, in the order of the ranks."""
    most = at_once(BATCH, size)
    blocks = np.split(rows, range(most, len(rows), most))
    if comm is None:
        return blocks
    return [blocks[number] for number in share(np.arange(len(blocks)), comm.rank, comm.size)]


def _shared(comm: Comm | None, images: int, work: Callable[[Callable[[int], None]], T],
            unit: str = "images") -> T:
    """``work(advance)`` on each rank, which counts its images by ``advance``; an InputError of some
    ranks is raised on all. Collective.

    Args:
        comm: the ranks; None: this process is alone.
        images: their number over all ranks.
        work: see above.
        unit: what is counted.
    """
    watchdog.enter("evaluating")
    progress = Count(images, unit, Line()) if comm is None else Progress(comm, images, unit)

    def counted() -> T:
        try:
            result = work(progress.advance)
        except (InputError, OSError):  # the other ranks wait there
            progress.close()
            raise
        progress.close()
        return result

    return mpi.together(comm, counted)


_Judged = list[tuple[Scores, dict[str, np.ndarray]]]  # of blocks, as of ``Mapper.judge``


def _everywhere(comm: Comm | None, mapper: Mapper,
                judged: _Judged) -> tuple[Scores, dict[str, np.ndarray]]:
    """Those of all blocks and ranks on each of them; ``require_finite`` as an error of all."""
    own = Scores.joined([scores for scores, _ in judged])
    counted = mapper.joined([counts for _, counts in judged], comm)
    members = [part for part in mpi.gather(comm, own.members) if part is not None]
    found = Scores(mpi.concatenate(comm, own.probabilities), mpi.concatenate(comm, own.odds),
                   np.concatenate(members) if members else None)
    return mpi.together(comm, partial(require_finite, found)), counted


def trained_on(model: Path, data: Path) -> bool | None:
    """Whether the model was trained on this data file; None if its run directory doesn't say."""
    try:
        config = json_data.read(find(model).parent / "config.json")
        return os.path.realpath(config["data"]) == os.path.realpath(data)
    except (OSError, ValueError, KeyError, TypeError):
        return None
