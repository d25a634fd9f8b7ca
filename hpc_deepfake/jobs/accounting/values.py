"""Times and sizes as schedulers write them."""

from __future__ import annotations

import re
import time


def read_duration(text: str) -> float | None:
    """Seconds of [D-][[HH:]MM:]SS[.fraction]; None for anything else."""
    match = re.fullmatch(r"(?:(\d+)-)?((?:\d+:){0,2}\d+(?:\.\d+)?)", text)
    if not match:
        return None
    parts = [float(part) for part in reversed(match[2].split(":"))]
    return int(match[1] or 0) * 86400 + sum(part * 60**power for power, part in enumerate(parts))


def read_size(text: str) -> float | None:
    """Bytes of 66788K, 1.5G, 45460kb or 1484b; None for nothing, 0 or anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgtp]?)b?", text.lower())
    if not match:
        return None
    return float(match[1]) * 1024 ** " kmgtp".index(match[2] or " ") or None


def read_time(text: str) -> float | None:
    """Seconds since the epoch of 1795645818, 2026-11-25T22:30:18 or Wed Nov 25 22:30:18 2026."""
    if text.isdecimal():
        return float(text)
    for form in ("%Y-%m-%dT%H:%M:%S", "%a %b %d %H:%M:%S %Y"):
        try:
            return time.mktime(time.strptime(text, form))
        except ValueError:
            continue
    return None  # Unknown, None, or not yet


def whole(text: str) -> int | None:
    """A whole number; None for anything else."""
    return int(text) if text.isdecimal() else None


def ratio(part: float | None, all_: float | None) -> float | None:
    """None where a figure is unknown, or there is nothing to divide by."""
    return part / all_ if part is not None and all_ else None
