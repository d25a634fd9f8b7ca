"""The streams that the container of a video names, for messages about one that isn't decoded.

Only a few bytes are read, and nothing is decoded. What FFmpeg makes of the file is another matter.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from preprocessing import kinds
from preprocessing.boxes import boxes

VIDEO, SOUND = "video", "sound"
_MOST = 16 << 20  # bytes read of an index
_BOXES = 10_000  # boxes looked at
_CODECS = {
    b"avc1": "H.264", b"avc3": "H.264", b"hvc1": "H.265", b"hev1": "H.265", b"av01": "AV1",
    b"vvc1": "H.266", b"vvi1": "H.266", b"dvh1": "Dolby Vision", b"dvhe": "Dolby Vision",
    b"vp08": "VP8", b"vp09": "VP9", b"mp4v": "MPEG-4", b"mp4a": "AAC", b"Opus": "Opus",
    b"encv": "encrypted", b"enca": "encrypted", b"drmi": "encrypted", b"V_AV1": "AV1",
    b"V_MPEG4/ISO/AVC": "H.264", b"V_MPEGH/ISO/HEVC": "H.265", b"A_OPUS": "Opus",
    b"A_VORBIS": "Vorbis", b"A_AAC": "AAC"}


class Stream(NamedTuple):
    """A stream.

    Attributes:
        sort: ``VIDEO``, ``SOUND``, or any other word of the container.
        codec: its name, as far as known.
        samples: number of its frames; None if the index doesn't say.
    """

    sort: str
    codec: str
    samples: int | None = None


def of(descriptor: int) -> list[Stream] | None:
    """The streams of a regular file; None if the index that names them is missing or cut off.

    Raises:
        OSError: it can't be read.
    """
    start = os.pread(descriptor, 1 << 20, 0)
    if start.startswith(b"\x1aE\xdf\xa3"):
        return _matroska(start)
    if start.startswith(b"RIFF"):
        return _avi(start)
    if start.startswith(b"\0\0\1"):
        return _mpeg(start)
    kind = kinds.of_content(start[:kinds.START])
    return _mp4(descriptor) if kind is not None and kind.sort == kinds.VIDEO else []


def _mp4(descriptor: int) -> list[Stream] | None:
    """From the tracks of the movie box (ISO/IEC 14496-12)."""
    size, at = os.fstat(descriptor).st_size, 0
    for _ in range(_BOXES):
        head = os.pread(descriptor, 16, at)
        if len(head) < 8:
            return None
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        elif length == 0:  # to the end of the file
            length = size - at
        if head[4:8] == b"moov":
            if at + length > size:
                return None
            movie = os.pread(descriptor, min(length, _MOST), at)[8:]
            return [_track(body) for kind, body in boxes(movie) if kind == b"trak"]
        if length < 8:
            return None
        at += length
    return None


def _track(data: bytes) -> Stream:
    media = dict(boxes(dict(boxes(data)).get(b"mdia", b"")))
    table = dict(boxes(dict(boxes(media.get(b"minf", b""))).get(b"stbl", b"")))
    handler = media.get(b"hdlr", b"")[8:12]
    sizes = table.get(b"stsz", table.get(b"stz2", b""))
    sort = {b"vide": VIDEO, b"soun": SOUND}.get(handler, _name(handler))
    return Stream(sort, _name(table.get(b"stsd", b"")[12:16]),
                  int.from_bytes(sizes[8:12], "big") if len(sizes) >= 12 else None)


def _matroska(start: bytes) -> list[Stream]:
    """By the CodecIDs (RFC 9559, 5.1.4.1.21), wherever they are near the start."""
    return [Stream(VIDEO if name.startswith(b"V") else SOUND, _name(name)) for name in
            re.findall(rb"\x86[\x80-\xbf]([VA]_[A-Z0-9/_]{2,40})", start)]


def _avi(start: bytes) -> list[Stream]:
    """By the stream headers (AVISTREAMHEADER of Microsoft's AVI RIFF file reference)."""
    return [Stream(VIDEO if kind == b"vids" else SOUND, _name(code)) for kind, code in
            re.findall(rb"strh[\x30-\xff]\0\0\0(vids|auds)(.{4})", start, re.DOTALL)]


def _mpeg(start: bytes) -> list[Stream]:
    """By the stream numbers of packets (ISO/IEC 13818-1, table 2-22)."""
    found = set(re.findall(b"\0\0\1([\xb3\xbd\xc0-\xef])", start))
    sorts = {VIDEO if number >= b"\xe0" or number == b"\xb3" else SOUND for number in found}
    return [Stream(sort, "MPEG") for sort in sorted(sorts)]


def _name(code: bytes) -> str:
    known = _CODECS.get(code) or _CODECS.get(code.split(b"/")[0])
    return known or "".join(letter for letter in code.decode("ascii", "replace").strip("\0 ")
                            if letter.isascii() and letter.isprintable()) or "unnamed"
