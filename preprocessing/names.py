"""What the file names of CASIA 1 and CASIA 2 say about a picture."""

from __future__ import annotations

import re
from dataclasses import dataclass

AUTHENTIC, TAMPERED = 0, 1

# Au_ani_00001 (CASIA 2), Au_ani_0001 (CASIA 1)
_AUTHENTIC = re.compile(r"Au_([a-z]{3})_(\d{4,5})")
# Tp_D_CRN_S_N_cha00063_art00014_11818, Sp_D_NNN_A_ani0099_ani0100.0288 (sic, CASIA 1)
_TAMPERED = re.compile(
    r"(?:Tp|Sp)_([DS])_[A-Za-z]{3}(?:_[A-Z])+_([a-z]{3})(\d{4,5})_([a-z]{3})(\d{4,5})[._](\d+)")


@dataclass(frozen=True)
class Name:
    """A parsed CASIA name: its label and the ids of the pictures it shows.

    ``sources`` are like ``ani87``: category and number without leading zeros, since CASIA 1's
    ``ani0087`` is CASIA 2's ``ani00087``, byte for byte. For a tampered picture they are target
    and source, one and the same for a copy-move.
    """

    label: int
    sources: tuple[str, ...]


def parse(stem: str) -> Name | None:
    """Meaning of a file name without its extension; None if it isn't one of CASIA's."""
    if match := _AUTHENTIC.fullmatch(stem):
        return Name(AUTHENTIC, (_source(*match.groups()),))
    if match := _TAMPERED.fullmatch(stem):
        _, *ids, _ = match.groups()
        return Name(TAMPERED, (_source(*ids[:2]), _source(*ids[2:])))
    return None


def _source(category: str, number: str) -> str:
    return f"{category}{int(number)}"
