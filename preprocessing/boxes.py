"""Boxes of the ISO base media file format (ISO/IEC 14496-12): of MP4 videos, HEIC and AVIF."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

IROT, IMIR = b"irot", b"imir"
_TURNS = {IROT: 3, IMIR: 1}  # the bits of their only byte that count
_PROPERTIES = (1 << 15) - 1  # the highest number of a property


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of the boxes in a box, or in a file; up to the first that isn't one."""
    at = 0
    while at + 8 <= len(data):
        length, head = int.from_bytes(data[at:at + 4], "big"), 8
        if length == 1:
            length, head = int.from_bytes(data[at + 8:at + 16], "big"), 16
        elif length == 0:
            length = len(data) - at
        if length < head:
            return
        yield data[at + 4:at + 8], data[at + head:at + length]
        at += length


def sizes(data: bytes) -> list[tuple[int, int]]:
    """Width and height of each picture in a HEIF or AVIF file (``ispe``, ISO/IEC 23008-12, 6.5.3):
    the whole ones, of which the file may show a part only."""
    properties = _box(_box(_meta(data), b"iprp"), b"ipco")
    return [(int.from_bytes(content[4:8], "big"), int.from_bytes(content[8:12], "big"))
            for kind, content in boxes(properties) if kind == b"ispe"]


def turns(data: bytes) -> list[tuple[bytes, int]]:
    """How the primary picture of a HEIF file is to be turned for display, in this order:
    ``IROT`` with quarter turns against the clock, 0 to 3 (ISO/IEC 23008-12, 6.5.10); ``IMIR`` with
    0 to exchange top and bottom, 1 for left and right (6.5.12). What a damaged file doesn't say is
    left out."""
    meta = _meta(data)
    primary, properties = _box(meta, b"pitm"), _box(meta, b"iprp")
    item = int.from_bytes(primary[4:8 if primary[:1] > b"\0" else 6], "big")
    known = list(islice(boxes(_box(properties, b"ipco")), _PROPERTIES))
    found = [known[number - 1] for number in _properties(properties, item)
             if 0 < number <= len(known)]
    return [(kind, content[0] & _TURNS[kind]) for kind, content in found
            if kind in _TURNS and content]


def _properties(associations: bytes, item: int) -> list[int]:
    """Numbers of the properties of an item, from 1; 0 for none (``ipma``, 9.3 there)."""
    for kind, content in boxes(associations):
        if kind != b"ipma":
            continue
        name, step, at = 4 if content[:1] > b"\0" else 2, 1 + (content[3:4] > b"\0"), 8
        for _ in range(int.from_bytes(content[4:8], "big")):
            end = at + name + 1
            if end > len(content):
                break
            count = content[end - 1]
            if int.from_bytes(content[at:at + name], "big") == item:
                used = content[end:end + step * count]
                # the first bit says that the property is essential
                return [int.from_bytes(used[place:place + step], "big") & (1 << 8 * step - 1) - 1
                        for place in range(0, len(used) - step + 1, step)]
            at = end + step * count
    return []


def _meta(data: bytes) -> bytes:
    """The boxes about the pictures of a HEIF or AVIF file."""
    return _box(data, b"meta")[4:]


def _box(data: bytes, wanted: bytes) -> bytes:
    """Content of the first box of a type; empty if there is none."""
    return next((content for kind, content in boxes(data) if kind == wanted), b"")
