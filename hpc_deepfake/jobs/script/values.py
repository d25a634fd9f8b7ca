"""Times, amounts of memory and other values of job scripts."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

from hpc_deepfake.core.errors import InputError


def checked(what: str, value: str) -> str:
    """``value``, which can stand on one line of a script.

    Raises:
        InputError: it holds a control character, or isn't UTF-8.
    """
    if re.search(r"[\x00-\x1f\x7f]", value):
        raise InputError(f"{what} holds a line break or another control character: {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"{what} is not UTF-8: {value!r}") from None
    return value


def read_time(text: str) -> int:
    """Seconds of a limit as sbatch reads it: M, M:SS, H:MM:SS, D-H, D-H:MM or D-H:MM:SS."""
    total = 0
    if re.fullmatch(r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}", text):
        days, dash, rest = text.rpartition("-")
        parts = [int(part) for part in rest.split(":")]
        units = (3600, 60, 1) if dash or len(parts) == 3 else (60, 1)
        total = int(days or 0) * 86400 + sum(map(int.__mul__, parts, units))
    if total == 0:
        raise InputError(f"no time limit: '{text}'; give minutes, H:MM:SS or D-HH:MM:SS, like "
                         "--time 2:00:00")
    return total


def clock(seconds: int) -> str:
    """Like 26:00:00."""
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def read_memory(text: str) -> int:
    """MB of a size like 64G, 512MB or 4000 (MB)."""
    match = re.fullmatch(r"(\d+)([MGT]?)B?", text.upper())
    if not match or int(match[1]) == 0:
        raise InputError(f"no amount of memory: '{text}'; give MB, GB or TB of each node, like "
                         "--mem 64G")
    return int(match[1]) * {"": 1, "M": 1, "G": 1024, "T": 1024**2}[match[2]]


def size(megabytes: int) -> str:
    """Like 64G or 4000M."""
    return f"{megabytes}M" if megabytes % 1024 else f"{megabytes // 1024}G"


def number(text: str | None) -> int | None:
    """A whole number; None for anything else."""
    return int(text) if text and text.isdecimal() else None


def understood(reader: Callable[[str], int | None], text: str | None) -> int | None:
    """What a script's own directive says; None where it says what we don't know."""
    with suppress(InputError):
        return reader(text) if text else None
    return None
