"""Segments of JPEG files (ITU-T T.81 annex B), read without decoding them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

SCAN, END = 0xDA, 0xD9
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}  # and JPEG-LS (T.87)
# not a stuffed zero, a restart marker or a fill byte
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


class Frame(NamedTuple):
    """A frame header (B.2.2).

    Attributes:
        marker: its second byte, which names the process.
        bits: of a value.
        width: in pixels.
        height: in pixels.
        channels: number of components.
    """

    marker: int
    bits: int
    width: int
    height: int
    channels: int

    @property
    def plain(self) -> bool:
        """Huffman-coded with 8 bits and three channels."""
        return self.marker <= 0xC2 and self.bits == 8 and self.channels == 3


def frame(data: bytes) -> Frame | None:
    """The frame header of a JPEG file; None for anything else."""
    for marker, at in segments(data):
        if marker in (END, SCAN):  # without a frame header before it
            return None
        if marker in FRAMES and at + 8 <= len(data):
            height, width = (int.from_bytes(data[i:i + 2], "big") for i in (at + 3, at + 5))
            return Frame(marker, data[at + 2], width, height, data[at + 7])
    return None


def scans(data: bytes) -> int:
    """The number of scans, each of which processes all pixels, however few bytes it has."""
    return sum(marker == SCAN for marker, _ in segments(data))


def segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Marker of each segment of a JPEG file and the position of its length, up to the end marker.

    Segments are found as libjpeg finds them, also with junk in between: the size that it will
    allocate must be checked before.
    """
    at = 2 if data.startswith(b"\xff\xd8") else len(data)
    while match := _MARKER.search(data, at):
        marker, at = data[match.end() - 1], match.end()
        yield marker, at
        if marker == END:
            return
        if marker not in (0x01, 0xD8):  # these two have no length
            at += max(2, int.from_bytes(data[at:at + 2], "big"))
