"""Boxes of the ISO base media file format (ISO/IEC 14496-12): of MP4 videos, HEIC and AVIF."""

from __future__ import annotations

from collections.abc import Iterator


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
    meta = next((content for kind, content in boxes(data) if kind == b"meta"), b"")[4:]
    items = dict(boxes(meta)).get(b"iprp", b"")
    properties = dict(boxes(items)).get(b"ipco", b"")
    return [(int.from_bytes(content[4:8], "big"), int.from_bytes(content[8:12], "big"))
            for kind, content in boxes(properties) if kind == b"ispe"]
