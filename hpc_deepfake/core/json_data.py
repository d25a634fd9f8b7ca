"""Values out of JSON files that may be of any shape: of another version, cut off, or edited."""

from __future__ import annotations

import math
from typing import Any


def finite(value: object) -> float | None:
    """A number out of JSON; None for anything that isn't one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number of hundreds of digits
        return None


def dictionary(value: object) -> dict[str, Any]:
    """Itself if it is one, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """Itself if it is a list, else none."""
    return value if isinstance(value, list) else []
