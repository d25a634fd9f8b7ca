"""Pictures of a data set that the training of a model knows, or their source."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from hpc_deepfake.audit import WAYS, Known, known_of, shared
from hpc_deepfake.core import json_data
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.files import write_json
from hpc_deepfake.core.json_data import dictionary, items
from hpc_deepfake.crosseval.datasets import DataSet
from preprocessing.split import PARTS, TRAIN

NAME = "shared.json"
_HELD = 4  # data files whose thumbnails are in memory at a time


@dataclass(frozen=True)
class Overlap:
    """What a data set shares with the training and validation part of another, or of itself.

    Attributes:
        ways: index into ``audit.WAYS`` of each row that is evaluated, uint8 (n); 0: not shared.
        note: why it is unknown or incomplete; empty: it is neither.
    """

    ways: np.ndarray
    note: str = ""

    @property
    def counts(self) -> dict[str, int]:
        """Number of pictures by way, without those that aren't shared."""
        counts = np.bincount(self.ways, minlength=len(WAYS)).tolist()
        return dict(zip(WAYS[1:], counts[1:], strict=True))


class Overlaps:
    """The overlaps of a matrix, each computed once and kept in its folder."""

    def __init__(self, out: Path) -> None:
        """
        Args:
            out: the folder.
        """
        self._file = out / NAME
        try:
            self._stored = dictionary(json_data.read(self._file))
        except (OSError, ValueError):
            self._stored = {}

    def of(self, train: DataSet, test: DataSet) -> Overlap:
        """What the rows of ``test`` that are evaluated share with what is learned from ``train``:
        its training part, and unless that is evaluated here its validation part."""
        key = f"{train.digest} {test.digest} {test.part}"
        stored = dictionary(self._stored.get(key))
        ways = np.array(items(stored.get("ways")), np.int64)
        if len(ways) == len(test.tested) and not set(ways.tolist()) - {*range(len(WAYS))}:
            return Overlap(ways.astype(np.uint8), str(stored.get("note", "")))
        found = _compute(train, test)
        self._stored[key] = {"ways": found.ways.tolist(), "note": found.note}
        write_json(self._file, self._stored)
        return found


def _compute(train: DataSet, test: DataSet) -> Overlap:
    try:
        first, second = _known(train.path, train.digest), _known(test.path, test.digest)
    except InputError as error:
        return Overlap(np.zeros(len(test.tested), np.uint8), str(error))
    learned = first.rows.parts == TRAIN
    if train is not test or test.part != "validation":
        learned |= first.rows.parts == PARTS.index("validation")
    ways, complete = shared(first.take(learned), second.take(np.isin(second.rows.rows,
                                                                     test.tested)))
    blind = [data.name for data, known in ((train, first), (test, second)) if not known.made.any()]
    return Overlap(ways, f"{' and '.join(dict.fromkeys(blind))} has no feature raw, so only files "
                   "with the same bytes, and groups, are found" if blind else "" if complete else
                   "more pairs look alike than could be compared, so some may be left")


@lru_cache(_HELD)
def _known(path: Path, digest: str) -> Known:
    """What is known of a data file's pictures; the digest names its state."""
    return known_of(path)
