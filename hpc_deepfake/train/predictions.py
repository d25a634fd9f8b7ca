"""``predictions.csv``: the trained model's probability for each validation and test picture."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import numpy as np

from hpc_deepfake.core import csv_lines, files
from hpc_deepfake.core.errors import InputError, reason

if TYPE_CHECKING:
    from hpc_deepfake.data.rows import DataFile
    from preprocessing.store import Header

NAME = "predictions.csv"
_COLUMNS = ("row", "part", "path", "label", "probability")


@dataclass(frozen=True)
class Predictions:
    """Predictions for one part of a data file.

    Attributes:
        rows: numbers of the rows in the data file, int64 (n).
        paths: as on the disk, relative to the folder of pictures.
        labels: 0 or 1, uint8 (n).
        probabilities: of tampered, float64 (n).
    """

    rows: np.ndarray
    paths: list[str]
    labels: np.ndarray
    probabilities: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def of_file(self, header: Header) -> bool:
        """Whether these rows of a data file have the same paths and labels as here."""
        if len(self) and (self.rows.min() < 0 or self.rows.max() >= header.rows):
            return False
        return (np.array_equal(header.array("label")[self.rows], self.labels)
                and [readable(path) for path in header.array("path")[self.rows]] == self.paths)


def of(data: DataFile, part: str, probabilities: np.ndarray) -> Predictions:
    """Rows, paths and labels of a part, with its probabilities, which are in the order of its
    rows."""
    rows = data.rows(part)
    paths = [readable(path) for path in data.paths[rows]]
    return Predictions(rows, paths, data.labels[rows], np.asarray(probabilities, np.float64))


def readable(path: bytes) -> str:
    """A path of the data file as on the disk; bytes that are not UTF-8 as ``\\xNN``."""
    return unquote_to_bytes(bytes(path)).decode("utf-8", "backslashreplace")


def write(run: Path, data: DataFile, probabilities: dict[str, np.ndarray]) -> None:
    """Write the file of a run directory whole; ``probabilities`` by part."""
    with files.whole(run / NAME) as temporary, \
            open(temporary, "w", encoding="utf-8", newline="") as file:
        lines = csv_lines.writer(file)
        lines.writerow(_COLUMNS)
        for part, values in probabilities.items():
            made = of(data, part, values)
            lines.writerows(
                (row, part, path, label, _digits(probability))
                for row, path, label, probability in zip(
                    made.rows, made.paths, made.labels, made.probabilities.tolist(), strict=True))


def _digits(probability: float) -> str:
    """As many as it needs: nine for those that the network gives, as float32."""
    return f"{probability:.9g}" if probability == np.float32(probability) else repr(probability)


def read(run: Path) -> dict[str, Predictions]:
    """The predictions of a run directory by part; empty without the file, as in older runs.

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
        raise InputError(f"{file} is damaged ({reason(error)}). Move it away, and the "
                         "probabilities are computed with the model") from None
    parts = {}
    for part, values in lines.items():
        rows, paths, labels, probabilities = zip(*values, strict=True)
        parts[part] = Predictions(np.array(rows, np.int64), list(paths),
                                  np.array(labels, np.uint8), np.array(probabilities))
    return parts
