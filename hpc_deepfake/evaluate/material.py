"""What a model is evaluated on: part of a data file, or a folder of pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.data.rows import DataFile, open_data, prefetch
from hpc_deepfake.network.model import Card, find
from hpc_deepfake.network.scoring import numbers
from preprocessing.catalogue import Catalogue, locate
from preprocessing.ela import features_of_pixels
from preprocessing.names import parse_path
from preprocessing.picture import Rejected, decode, read

BATCH = 64


@dataclass(frozen=True)
class Material:
    """Pictures of known class and what a model says of them, row by row.

    Attributes:
        paths: as in the catalogue. labels: uint8 (n). groups: int32 (n), of common source.
        group_sizes: int64 (n), pictures in the row's group over all parts. probabilities: of
            tampered, float32 (n).
    """

    paths: list[bytes]
    labels: np.ndarray
    groups: np.ndarray
    group_sizes: np.ndarray
    probabilities: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)


def open_file(path: Path, card: Card) -> DataFile:
    """A data file whose features are the model's.

    Raises:
        InputError: none, or made with other parameters.
    """
    data = open_data(path, card.feature)
    if card.parameters != data.header.parameters:
        raise InputError(f"the model was trained with ELA parameters {card.parameters.as_dict()}, "
                         f"{path} has {data.header.parameters.as_dict()}")
    return data


def rows_of(data: DataFile, part: str) -> np.ndarray:
    """Rows of a part, int64.

    Raises:
        InputError: there are none.
    """
    rows = data.rows(part)
    if not len(rows):
        raise InputError(f"{data.header.path} has no {part} part: it was split "
                         f"{data.header.attributes['split']}; take another --part")
    return rows


def of_rows(network: Any, data: DataFile, rows: np.ndarray) -> Material:
    """Material of some rows of a data file."""
    groups = np.array(data.header.array("group"))
    sizes = np.bincount(groups[data.usable], minlength=groups.max() + 1)
    paths = np.array(data.header.array("path"))[rows].tolist()
    return Material([unquote_to_bytes(path) for path in paths], data.labels[rows], groups[rows],
                    sizes[groups[rows]], probabilities(network, data, rows))


def probabilities(network: Any, data: DataFile, rows: np.ndarray) -> np.ndarray:
    """Of "tampered" for rows of a data file, float32 (n).

    Raises:
        InputError: some are no numbers.
    """
    scores = [network.predict_on_batch(data.batch(rows[start:start + BATCH])[0])[:, 1]
              for start in range(0, len(rows), BATCH)]
    return numbers(np.concatenate(scores))


def of_folder(network: Any, card: Card,
              catalogue: Catalogue) -> tuple[Material, list[tuple[bytes, Rejected]]]:
    """Material of the pictures of a folder, prepared now as the model's were; and those that
    can't be used, with the reason.

    Raises:
        InputError: none can be used, or some probabilities are no numbers.
    """
    rows = np.arange(len(catalogue))
    batches = np.split(rows, range(BATCH, len(rows), BATCH))
    kept: list[int] = []
    scores: list[np.ndarray] = []
    bad: list[tuple[bytes, Rejected]] = []
    for batch, found in zip(batches, prefetch(
            lambda batch: list(_features(card, catalogue.roots,
                                         [catalogue.paths[row] for row in batch])), batches),
            strict=True):
        good = [one for one in found if not isinstance(one, Rejected)]
        bad += [(catalogue.paths[row], one) for row, one in zip(batch, found, strict=True)
                if isinstance(one, Rejected)]
        kept += [row for row, one in zip(batch.tolist(), found, strict=True)
                 if not isinstance(one, Rejected)]
        if good:
            scores.append(network.predict_on_batch(np.stack(good))[:, 1])
    if not kept:
        raise InputError(f"none of the {len(catalogue):,} pictures can be used; the first: "
                         f"{os.fsdecode(bad[0][0])}: {bad[0][1]}")
    groups = catalogue.groups[kept]
    return Material([catalogue.paths[row] for row in kept], catalogue.labels[kept], groups,
                    np.bincount(groups)[groups], numbers(np.concatenate(scores))), bad


def _features(card: Card, roots: dict[str, Path],
              paths: Sequence[bytes]) -> Iterator[np.ndarray | Rejected]:
    """Of each picture or frame, or why it can't be used."""
    for file, some in groupby(map(parse_path, paths), lambda one: one[0]):
        moments = [moment for _, moment in some]
        name = locate(roots, file)
        if moments[0] is None:
            pixels = (_decoded(name) for _ in moments)
        else:
            from preprocessing.video import frames

            pixels = (one if isinstance(one, Rejected) else one.pixels
                      for one in frames(name, moments))
        for one in pixels:
            try:
                yield one if isinstance(one, Rejected) else features_of_pixels(
                    one, (card.feature,), card.parameters)[0]
            except Rejected as reason:
                yield reason


def _decoded(path: bytes) -> np.ndarray | Rejected:
    try:
        return decode(read(path))
    except Rejected as reason:
        return reason


def trained_on(model: Path, data: Path) -> bool | None:
    """Whether the model's run was on this data file; None if its run directory doesn't say."""
    try:
        config = json.loads((find(model).parent / "config.json").read_text(encoding="utf-8"))
        return os.path.realpath(config["data"]) == os.path.realpath(data)
    except (OSError, ValueError, KeyError, TypeError):
        return None
