"""Predictions as output: a table, CSV, or JSON lines."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO
from urllib.parse import quote_from_bytes

from hpc_deepfake.core.text import percent, printable

FORMATS = ("table", "csv", "json")


@dataclass(frozen=True)
class Row:
    """One line of output: a picture, a frame of a video (``path#seconds``) or a whole video.

    Attributes:
        path: as named by the user.
        probability: of tampered; None if the file couldn't be read.
        verdict: ``authentic``, ``tampered``, or ``not read: …``.
        kind: ``picture``, ``frame`` or ``video``.
        seconds: a frame's time in its video.
    """

    path: bytes
    probability: float | None
    verdict: str
    kind: str = "picture"
    seconds: float | None = None

    @property
    def name(self) -> str:
        """The path as text, whatever its bytes; those that aren't UTF-8 as ``\\udcff``."""
        text = os.fsdecode(self.path).encode(errors="backslashreplace").decode()
        return text if self.seconds is None else f"{text}#{self.seconds:.2f}"


def _is_utf8(name: bytes) -> bool:
    try:
        return bool(name.decode())
    except UnicodeDecodeError:
        return False


def writer(form: str, out: TextIO) -> Callable[[Row], None]:
    """A function that writes a row to ``out`` in one of ``FORMATS``; the header is written now."""
    return {"table": _table, "csv": _csv, "json": _json}[form](out)


def _table(out: TextIO) -> Callable[[Row], None]:
    print("tampered  verdict    picture", file=out)

    def write(row: Row) -> None:
        print(f"{percent(row.probability):>8}  {row.verdict:<9}  {printable(row.name)}", file=out)

    return write


def _csv(out: TextIO) -> Callable[[Row], None]:
    lines = csv.writer(out)
    lines.writerow(("path", "probability", "verdict"))

    def write(row: Row) -> None:
        lines.writerow((row.name, "" if row.probability is None else f"{row.probability:.6f}",
                        row.verdict))

    return write


def _json(out: TextIO) -> Callable[[Row], None]:
    def write(row: Row) -> None:
        line = {"path": row.name, "probability": row.probability, "verdict": row.verdict}
        if not _is_utf8(row.path):
            line["encoded"] = quote_from_bytes(row.path)
        print(json.dumps(line), file=out)

    return write
