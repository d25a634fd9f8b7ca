"""What a model was trained on: for its card, and as the list of pictures beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import numpy as np

from hpc_deepfake import metrics
from hpc_deepfake.core import json_data, mpi, watchdog
from hpc_deepfake.data.inputs import Pictures as RowsOf
from hpc_deepfake.data.rows import DataFile, first_rows, share
from hpc_deepfake.metrics import temperature
from hpc_deepfake.metrics.intervals import RESAMPLES, bootstrap
from hpc_deepfake.network.card import Card
from hpc_deepfake.network.pictures import MOST_THUMBNAILS, Pictures
from preprocessing import facts, origin
from preprocessing.ela import at_once
from preprocessing.facts import Facts

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

# training pictures whose statistics are taken: fewer where they are larger than 256 × 256, but a
# limit that 1.5% of them exceed needs some hundreds
MOST_PROFILED, _LEAST_PROFILED = 2000, 400
_BLOCK = 256  # rows of 128 × 128 that are read at a time
_MOST_RESAMPLED = 20_000  # pictures; with more, the intervals are narrow, and resampling is slow
_FEW_RESAMPLES = 200


def pictures(comm: Comm, data: DataFile, train: np.ndarray,
             validation: np.ndarray) -> Pictures | None:
    """The pictures that a run trains on and validates with, on rank 0; None on other ranks.
    Collective: the ranks share the reading.

    Args:
        comm: all ranks.
        data: the run's data.
        train: training rows, int64, sorted.
        validation: validation rows, likewise.

    Raises:
        InputError: the data file can't be read any more; on all ranks.
    """
    rows = np.sort(np.concatenate([train, validation]))
    own = share(rows, comm.rank, comm.size)
    watchdog.enter("listing the training pictures")
    local = mpi.together(comm, partial(_pictures, data, own, len(rows) <= MOST_THUMBNAILS))
    mpi.meet(comm, "gathering the training pictures")
    gathered = comm.gather(local)
    return None if gathered is None else _joined(gathered)


def _pictures(data: DataFile, rows: np.ndarray, thumbnails: bool) -> Pictures:
    header = data.header
    raw = header.array("raw") if thumbnails and "raw" in header.features else None
    digests = header.array("digest") if header.has_facts else None
    parts = []
    most = at_once(_BLOCK, header.parameters.size)
    for start in range(0, max(len(rows), 1), most):  # once without rows, for empty columns
        block = rows[start:start + most]
        watchdog.advance()
        pixels = data.batch(block)[0]
        shown = None if raw is None else pixels if data.feature == "raw" else raw[block]
        parts.append(Pictures.of(pixels, shown, None if digests is None else digests[block],
                                 data.parts[block]))
    return _joined(parts)


def _joined(parts: Sequence[Pictures]) -> Pictures:
    return Pictures(**{field.name: np.concatenate([getattr(part, field.name) for part in parts])
                       for field in fields(Pictures)})


def trained_on(data: DataFile, source: Path | None, train: np.ndarray,
               validation: np.ndarray) -> dict[str, Any]:
    """``Card.trained_on``; takes some seconds.

    Args:
        data: the run's data.
        source: the data file as it was named, beside which its ``.json`` lies; None: random data.
        train: training rows, int64, sorted.
        validation: validation rows, likewise.
    """
    from hpc_deepfake.network.likeness import Profile

    counts = {"train": len(train), "validation": len(validation)}
    if source is None:
        return {"random": True, **counts}
    header = data.header
    roots = _roots(source)
    both = np.sort(np.concatenate([train, validation]))
    paths = [unquote_to_bytes(path) for path in data.paths[both].tolist()]
    whole = " + ".join(dict.fromkeys(root.name for root in roots.values())) or source.name
    most = max(_LEAST_PROFILED, at_once(MOST_PROFILED, header.parameters.size // 2))
    profiled = first_rows(train, min(most, len(train)), 0)
    read = partial(_in_turn, rows=profiled, most=at_once(_BLOCK, header.parameters.size))
    profile = Profile.of(
        read(data.pictures), facts.stored(header, profiled),
        read(header.array("raw")) if "raw" in header.features else None,
        header.array("group")[profiled])
    return {"data": origin.data_sets(paths, data.labels[both].tolist(), whole),
            "sample": _sample(data, roots, paths),
            **({"forged": True} if header.attributes.get("forged") else {}), **counts,
            **_facts(facts.stored(header, train)), "likeness": profile.as_dict()}


def _in_turn(pictures: RowsOf, rows: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Some rows, read ``most`` at a time: all of them might not fit into memory."""
    for start in range(0, len(rows), most):
        yield from np.asarray(pictures[rows[start:start + most]])


def _facts(known: list[Facts] | None) -> dict[str, Any]:
    """Sizes, formats and qualities of pictures; each None where the data file doesn't say."""
    files = [fact for fact in known or () if fact.format != facts.FORMATS[0]]
    formats = Counter(fact.format for fact in files)
    qualities = [fact.quality for fact in files if fact.quality]
    return {"width": _range([fact.width for fact in files if fact.width]),
            "height": _range([fact.height for fact in files if fact.height]),
            "formats": dict(formats.most_common()) or None,
            "qualities": dict(zip(("min", "median", "max"), _range(qualities) or (), strict=True))
            if qualities else None}


def _range(values: list[int]) -> list[int] | None:
    """Minimum, median and maximum."""
    return [min(values), int(np.median(values)), max(values)] if values else None


def _roots(source: Path) -> dict[str, Path]:
    """The folders of the pictures, from the file beside the data file; empty if unknown."""
    try:
        stored = json_data.dictionary(json_data.read(Path(f"{source}.json")))
    except (OSError, ValueError):
        return {}
    return {name: Path(folder) for name, folder in json_data.dictionary(stored.get("roots")).items()
            if isinstance(folder, str) and "\0" not in folder}


def _sample(data: DataFile, roots: dict[str, Path], paths: list[bytes]) -> bool | None:
    """Whether pictures were drawn by this project. The data file says so itself; for one of an
    earlier version, which doesn't, its folders are looked at; None: they are gone."""
    header = data.header
    if header.has_facts or header.attributes.get("sample"):
        return bool(header.attributes.get("sample"))
    return origin.drawn(roots, paths)


def card(data: DataFile, validation: np.ndarray, probabilities: np.ndarray | None, epoch: int,
         known: dict[str, Any] | None, network: str | None = None,
         init: dict[str, Any] | None = None, mask_threshold: int | None = None) -> Card:
    """The card of the model of an epoch.

    Args:
        data: the run's data.
        validation: validation rows, int64 (n).
        probabilities: of tampered for these rows, by that model, float (n); None: unknown.
        epoch: its number, 0 if none was better than the others.
        known: ``trained_on``.
        network: its name, as of ``registry.title``.
        init: ``Card.init``.
        mask_threshold: ``Card.mask_threshold``.
    """
    made = Card(data.feature, data.header.parameters, trained_on=known, network=network, init=init,
                mask_threshold=mask_threshold)
    if probabilities is None:
        return made
    labels = data.labels[validation]
    groups = data.header.array("group")[validation] if "group" in data.header.shapes \
        else np.arange(len(validation))
    intervals = bootstrap(probabilities, labels, groups, made.threshold,
                          RESAMPLES if len(labels) <= _MOST_RESAMPLED else _FEW_RESAMPLES)
    figures = {**metrics.evaluate(probabilities, labels, made.threshold), "epoch": epoch,
               "intervals": {name: ends and list(ends) for name, ends in intervals.items()}}
    return replace(made, temperature=temperature.fit(probabilities, labels), validation=figures)
