"""Values from JSON files of unknown shape: from another version, cut off, or edited by hand."""

from __future__ import annotations

import math
from typing import Any


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
