"""Times, amounts of memory and other values of job scripts."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import whole_number


def checked(what: str, value: str) -> str:
    """``value``, if it fits on one line of a script.

    Args:
        what: name of the value, for the message.
        value: any text.

    Raises:
        InputError: it contains a control character, or isn't UTF-8.
    """
    if re.search(r"[\x00-\x1f\x7f]", value):
        raise InputError(f"{what} contains a line break or another control character: {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"{what} is not UTF-8: {value!r}") from None
    return value


def read_time(text: str) -> int:
    """Seconds of a time limit as sbatch reads it: M, M:SS, H:MM:SS, D-H, D-H:MM or D-H:MM:SS.

    Raises:
        InputError: it is none of these, or 0.
    """
    total = 0
    if re.fullmatch(r"(\d{1,9}-)?\d{1,9}(:\d{1,9}){0,2}", text):
        days, dash, rest = text.rpartition("-")
        parts = [int(part) for part in rest.split(":")]
        units = (3600, 60, 1) if dash or len(parts) == 3 else (60, 1)
        total = int(days or 0) * 86400 + sum(map(int.__mul__, parts, units))
    if total == 0:
        raise InputError(f"'{text}' is not a time limit: give minutes, H:MM:SS or D-HH:MM:SS, like "
                         "2:00:00")
    return total


def clock(seconds: int) -> str:
    """Hours, minutes and seconds, like 26:00:00."""
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def read_memory(text: str) -> int:
    """MB of a size like 64G, 512MB or 4000 (MB).

    Raises:
        InputError: it is none of these, or 0.
    """
    match = re.fullmatch(r"(\d{1,12})([MGT]?)B?", text.upper())
    if not match or int(match[1]) == 0:
        raise InputError(f"'{text}' is not an amount of memory: give MB, GB or TB per node, like "
                         "--mem 64G")
    return int(match[1]) * {"": 1, "M": 1, "G": 1024, "T": 1024**2}[match[2]]


def size(megabytes: int) -> str:
    """A size in MB as text, like 64G or 4000M."""
    return f"{megabytes}M" if megabytes % 1024 else f"{megabytes // 1024}G"


def number(text: str | None) -> int | None:
    """A whole number; None for anything else."""
    return whole_number(text) if text else None


def understood(reader: Callable[[str], int | None], text: str | None) -> int | None:
    """The value of a script's own directive; None where it is missing or in another form."""
    with suppress(InputError):
        return reader(text) if text else None
    return None
