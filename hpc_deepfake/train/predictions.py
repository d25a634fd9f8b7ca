"""``predictions.csv``: what the trained model said of each validation and test picture."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import numpy as np

from hpc_deepfake.core.errors import InputError

if TYPE_CHECKING:
    from hpc_deepfake.data.rows import DataFile
    from preprocessing.store import Header

NAME = "predictions.csv"
_COLUMNS = ("row", "part", "path", "label", "probability")


@dataclass(frozen=True)
class Predictions:
    """Of one part.

    Attributes:
        rows: int64 (n), of the data file. paths: as on the disk, relative to its folder.
        labels: 0 or 1, uint8 (n). probabilities: of tampered, float64 (n).
    """

    rows: np.ndarray
    paths: list[str]
    labels: np.ndarray
    probabilities: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def of_file(self, header: Header) -> bool:
        """Whether these rows of a data file still have the names and labels they had."""
        if len(self) and (self.rows.min() < 0 or self.rows.max() >= header.rows):
            return False
        return (np.array_equal(header.array("label")[self.rows], self.labels)
                and [readable(path) for path in header.array("path")[self.rows]] == self.paths)


def of(data: DataFile, part: str, probabilities: np.ndarray) -> Predictions:
    """Paths and labels of a part beside its probabilities, given in the order of its rows."""
    rows = data.rows(part)
    paths = [readable(path) for path in data.header.array("path")[rows]]
    return Predictions(rows, paths, data.labels[rows], np.asarray(probabilities, np.float64))


def readable(path: bytes) -> str:
    """A path of the data file as on the disk; bytes that are no UTF-8 as ``\\xNN``."""
    return unquote_to_bytes(bytes(path)).decode("utf-8", "backslashreplace")


def write(run: Path, data: DataFile, probabilities: dict[str, np.ndarray]) -> None:
    """Write the file whole; ``probabilities`` by part."""
    new = run / f".new-{NAME}"
    with open(new, "w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(_COLUMNS)
        for part, found in probabilities.items():
            one = of(data, part, found)
            lines.writerows((row, part, path, label, f"{probability:.9g}")  # a float32 exactly
                            for row, path, label, probability in zip(
                                one.rows, one.paths, one.labels, one.probabilities, strict=True))
    os.replace(new, run / NAME)


def read(run: Path) -> dict[str, Predictions]:
    """By part; empty where a run has no such file, as older ones don't.

    Raises:
        InputError: it is damaged.
    """
    file = run / NAME
    if not file.is_file():
        return {}
    lines: dict[str, list[tuple[int, str, int, float]]] = {}
    try:
        with open(file, encoding="utf-8", newline="") as stream:
            for line in csv.DictReader(stream, strict=True):
                label, probability = int(line["label"]), float(line["probability"])
                if label not in (0, 1) or not (0 <= probability <= 1 or probability != probability):
                    raise ValueError(f"label {label}, probability {probability}")
                lines.setdefault(line["part"], []).append(
                    (int(line["row"]), line["path"], label, probability))
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(f"{file} is damaged ({error}). Move it away: the probabilities are then "
                         "computed with the model") from None
    found = {}
    for part, some in lines.items():
        rows, paths, labels, probabilities = zip(*some, strict=True)
        found[part] = Predictions(np.array(rows, np.int64), list(paths),
                                  np.array(labels, np.uint8), np.array(probabilities))
    return found
