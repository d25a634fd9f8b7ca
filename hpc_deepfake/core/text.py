"""Numbers and names as text, in the same form in everything that the project prints."""

from __future__ import annotations

from hpc_deepfake.core.json_data import finite


def number(value: object, form: str = ".3f") -> str:
    """``value`` in the format ``form``, such as 0.948; a dash if it is not a finite number."""
    checked = finite(value)
    return "–" if checked is None else format(checked, form)


def whole_number(text: str) -> int | None:
    """The whole number that a text consists of; None for any other text, or more than 18 digits
    (Python refuses 4,300)."""
    return int(text) if text.isdecimal() and len(text) <= 18 else None


def percent(value: object) -> str:
    """A fraction such as 94.8%; a dash if it is not a finite number."""
    return number(value, ".1%")


def probability(value: float) -> str:
    """A probability such as 0.737, with more digits where it would be 0 or 1, such as 0.99997."""
    digits = 3
    while digits < 9 and 0 < value < 1 and round(value, digits - 1) in (0, 1):
        digits += 1
    return f"{value:.{digits}f}"


def count(value: object) -> str:
    """A count such as 7,392,962; a dash if it is not a finite number."""
    return number(value, ",.0f")


def printable(name: str) -> str:
    """``name`` with escapes for line ends, terminal codes and other unprintable characters."""
    return "".join(character if character.isprintable()
                   else character.encode("unicode_escape").decode() for character in name)


def plural(number: int, noun: str) -> str:
    """A count with its noun, such as ``1 rank`` and ``1,000 ranks``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
