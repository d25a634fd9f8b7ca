"""Reading a run directory, with whichever records exist.

The content of a file is not trusted: it may be of an older version, cut off, or of another form.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc_deepfake.core import json_data
from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.core.json_data import dictionary, finite
from hpc_deepfake.metrics import temperature

THRESHOLD = 0.5
TRAINING = ("input", "compute", "communication")  # stages whose time ``images_per_s`` counts


@dataclass(frozen=True)
class Records:
    """The records of a run; a dictionary is empty if its file is missing.

    Attributes:
        path: the run directory.
        config: ``config.json``, the options of training.
        environment: ``environment.json``, what the run ran on.
        epochs: lines of ``metrics.jsonl``.
        summary: ``summary.json``, which a finished run has.
        threshold: probability from which a picture is classified as tampered; of the network's
            own probabilities, as in ``predictions.csv``.
        made: how the data file was made, from the ``.json`` beside it.
    """

    path: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    epochs: list[dict[str, Any]]
    summary: dict[str, Any]
    threshold: float
    made: dict[str, Any]

    @property
    def data(self) -> Path | None:
        """The data file, by its path when the run started."""
        path = self.config.get("data")
        return Path(path) if isinstance(path, str) and "\0" not in path else None

    @property
    def unfinished(self) -> bool:
        """Whether the summary is missing, or does not cover all epochs."""
        last = max((finite(line.get("epoch")) or 0 for line in self.epochs), default=0)
        return not self.summary or (finite(self.summary.get("epochs")) or 0) < last


def read(path: Path) -> Records:
    """The records of the run directory ``path``.

    Raises:
        InputError: it holds no run, or a file can't be read.
    """
    if not (path / "metrics.jsonl").is_file() and not (path / "summary.json").is_file():
        raise InputError(f"{path} holds no run with a finished epoch (no metrics.jsonl): give the "
                         "run directory of a training")
    config = dictionary(_json(path / "config.json"))
    card = dictionary(_json(path / "model.json"))
    threshold, calibrated = finite(card.get("threshold")), finite(card.get("temperature")) or 1.0
    if threshold is not None and calibrated > 0:  # the card's is one of calibrated probabilities
        threshold = float(temperature.apply(threshold, 1 / calibrated))
    records = Records(path, config, dictionary(_json(path / "environment.json")),
                      _lines(path / "metrics.jsonl"),
                      dictionary(_json(path / "summary.json")),
                      THRESHOLD if threshold is None else threshold, {})
    if records.data is not None:
        with suppress(InputError, OSError):  # not a file of the run
            records.made.update(dictionary(_json(Path(f"{records.data}.json"))))
    return records


def wall_seconds(line: dict[str, Any]) -> float:
    """Seconds of an epoch by the wall clock; in records of version 0.1, of all its stages."""
    recorded = finite(line.get("wall_s"))
    return recorded if recorded is not None else sum(
        finite(seconds) or 0.0 for seconds in dictionary(line.get("seconds")).values())


def wall_rate(line: dict[str, Any]) -> float | None:
    """Images/s of an epoch by the wall clock; in records of version 0.1, over all its stages."""
    recorded, rate = finite(line.get("wall_images_per_s")), finite(line.get("images_per_s"))
    whole, stages = wall_seconds(line), dictionary(line.get("seconds"))
    if recorded is not None or rate is None or not whole:
        return recorded
    return rate * sum(finite(stages.get(stage)) or 0.0 for stage in TRAINING) / whole


def _json(file: Path) -> Any:
    """The content of a JSON file; None if there is no such file."""
    if not file.is_file():
        return None
    try:
        return json_data.read(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{file} can't be read: {reason(error)}. Move it away, and the report is "
                         "made without it") from None


def _lines(file: Path) -> list[dict[str, Any]]:
    """The complete lines of ``metrics.jsonl``."""
    lines = json_data.read_lines(file) if file.is_file() else []
    return [line for line in lines if finite(line.get("epoch")) is not None]
