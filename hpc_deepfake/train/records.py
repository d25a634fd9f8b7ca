"""The records of a run, as far as they are there. They are not to be trusted: a file may be of an
older version, cut off, or of another shape."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.json_data import dictionary, finite

THRESHOLD = 0.5


@dataclass(frozen=True)
class Records:
    """What a run directory tells.

    Attributes:
        epochs: lines of ``metrics.jsonl``. summary: empty until the run is finished. threshold:
            probability from which a picture is called tampered. made: how the data file was made;
            empty where its ``.json`` isn't there.
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
        """The data file, as it was named when the run started."""
        found = self.config.get("data")
        return Path(found) if isinstance(found, str) and "\0" not in found else None

    @property
    def unfinished(self) -> bool:
        """Whether epochs are missing in the summary, or it isn't there."""
        last = max((finite(line.get("epoch")) or 0 for line in self.epochs), default=0)
        return not self.summary or (finite(self.summary.get("epochs")) or 0) < last


def read(path: Path) -> Records:
    """The records of the run directory ``path``.

    Raises:
        InputError: it holds no run, or a file can't be read.
    """
    if not (path / "metrics.jsonl").is_file() and not (path / "summary.json").is_file():
        raise InputError(f"{path} holds no run with a finished epoch: there is no metrics.jsonl. "
                         "Give a run directory of training")
    config = dictionary(_json(path / "config.json"))
    card = dictionary(_json(path / "model.json"))
    threshold = finite(card.get("threshold"))
    records = Records(path, config, dictionary(_json(path / "environment.json")),
                      _lines(path / "metrics.jsonl"),
                      dictionary(_json(path / "summary.json")),
                      THRESHOLD if threshold is None else threshold, {})
    if records.data is not None:
        with suppress(InputError, OSError):  # no part of the run
            records.made.update(dictionary(_json(Path(f"{records.data}.json"))))
    return records


def _json(file: Path) -> Any:
    """Its content; None where there is no such file."""
    if not file.is_file():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} can't be read: {error}. Move it away, and the report is made "
                         "without it") from None


def _lines(file: Path) -> list[dict[str, Any]]:
    """Lines of ``metrics.jsonl`` that are whole."""
    found = []
    if file.is_file():
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, RecursionError):
                found.append(json.loads(line))
    return [line for line in found
            if isinstance(line, dict) and finite(line.get("epoch")) is not None]
