"""Values from JSON files of unknown shape: from another version, cut off, or edited by hand."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any


def parse(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None


def read(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        OSError: it can't be read.
        ValueError: it is not JSON, or not UTF-8.
    """
    return parse(path.read_text(encoding="utf-8"))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The dictionaries of a file with one per line; without other lines, such as the half line of
    a killed run.

    Raises:
        OSError: it can't be read.
    """
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        with suppress(ValueError):
            lines.append(parse(line))
    return [line for line in lines if isinstance(line, dict)]


def finite(value: object) -> float | None:
    """``value`` as a float; None unless it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer of hundreds of digits
        return None


def dictionary(value: object) -> dict[str, Any]:
    """``value`` if it is a dictionary, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """``value`` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []
