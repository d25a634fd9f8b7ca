"""Numbers as text, one way for all that the project prints."""

from __future__ import annotations

from hpc_deepfake.core.json_data import finite


def number(value: object, form: str = ".3f") -> str:
    """Such as 0.948; a dash where there is none."""
    found = finite(value)
    return "–" if found is None else format(found, form)


def percent(value: object) -> str:
    return number(value, ".1%")


def count(value: object) -> str:
    return number(value, ",.0f")


def printable(name: str) -> str:
    """``name`` without line ends and a terminal's own commands: those stand as escapes."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode()
                   for one in name)


def plural(number: int, noun: str) -> str:
    """Such as ``1 rank`` and ``1,000 ranks``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
