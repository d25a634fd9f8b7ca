"""What a picture file says of itself: metadata, container, embedded thumbnail. All of it is
untrusted text that anyone can have written."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms

from preprocessing import jpeg, picture

_LONGEST = 200  # characters shown of a value
_MOST = 120  # values shown of a group
_EXIF, _GPS, _THUMBNAIL = ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, ExifTags.IFD.IFD1
_OFFSET, _LENGTH = 0x0201, 0x0202  # of the thumbnail, in its directory
_SOFTWARE = ("Software", "ProcessingSoftware", "HostComputer", "CreatorTool", "softwareAgent")
_DATES = {"DateTimeOriginal": "taken", "DateTimeDigitized": "digitised", "DateTime": "changed"}
_HIDDEN = {"MakerNote", "UserComment", "JPEGInterchangeFormat", "StripOffsets", "StripByteCounts",
           "TileOffsets", "TileByteCounts", "ImageResources", "JPEGTables", "InterColorProfile",
           "XMLPacket", "ExifOffset", "GPSInfo"}
_XMP = re.compile(rb"(xmp:CreatorTool|tiff:Software|stEvt:softwareAgent|stEvt:action|stEvt:when|"
                  rb"xmp:CreateDate|xmp:ModifyDate|photoshop:DateCreated|photoshop:Source|"
                  rb"photoshop:Credit|Iptc4xmpExt:DigitalSourceType|stRef:documentID|"
                  rb"xmpMM:DocumentID|xmpMM:OriginalDocumentID)"
                  rb"(?:\s*=\s*[\"']([^\"'<>]{1,200})[\"']|>([^<>]{1,200})<)")
_SUBSAMPLING = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (1, 2): "4:4:0",
                (4, 1): "4:1:1", (4, 2): "4:1:0"}
_MARKERS = {0xC0: "SOF0", 0xC1: "SOF1", 0xC2: "SOF2", 0xC4: "DHT", 0xDA: "SOS", 0xDB: "DQT",
            0xDD: "DRI", 0xD9: "EOI", 0xFE: "COM"}


@dataclass
class Metadata:
    """What a file says.

    Attributes:
        format: by its content, such as ``JPEG``.
        mode: Pillow's pixel mode, such as ``RGB``.
        width: pixels, as stored.
        height: pixels, as stored.
        frames: number of frames or pages.
        orientation: 1 to 8, how to turn the stored pixels (Exif).
        size: bytes.
        bits: of a value.
        progressive: of a JPEG file.
        subsampling: of its chroma, such as ``4:2:0``; empty: none.
        tables: its quantisation tables by number, int (8, 8).
        segments: its segments in their order, such as ``APP1 Exif``.
        trailing: bytes after its end.
        groups: names and values of metadata, by group.
        software: programs that it names.
        dates: by what they are of.
        position: latitude and longitude in degrees.
        profile: name of the ICC profile.
        credentials: whether it has content credentials (C2PA).
        thumbnail: contents of the embedded thumbnail.
        problems: what couldn't be read.
    """

    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    frames: int = 1
    orientation: int = 1
    size: int = 0
    bits: int = 8
    progressive: bool = False
    subsampling: str = ""
    tables: dict[int, np.ndarray] = field(default_factory=dict)
    segments: list[str] = field(default_factory=list)
    trailing: int = 0
    groups: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    software: list[str] = field(default_factory=list)
    dates: dict[str, str] = field(default_factory=dict)
    position: tuple[float, float] | None = None
    profile: str = ""
    credentials: bool = False
    thumbnail: bytes = b""
    problems: list[str] = field(default_factory=list)


def read(data: bytes) -> Metadata:
    """Everything that the contents of a picture file say, as far as they can be read."""
    said = Metadata(size=len(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _Problem(said, "the file"), picture.opened(io.BytesIO(data)) as image:
            said.format, said.mode = image.format or "", image.mode
            said.width, said.height = image.size
            said.frames = int(getattr(image, "n_frames", 1))
            said.bits = {"1": 1, "I": 32, "F": 32}.get(image.mode, 16 if ";16" in image.mode else 8)
            tables = getattr(image, "quantization", None) or {}
            said.tables = {int(number): np.array(table).reshape(8, 8)
                           for number, table in sorted(tables.items()) if len(table) == 64}
            said.progressive = bool(image.info.get("progressive"))
            said.subsampling = _subsampling(image)
            with _Problem(said, "Exif"):
                _exif(said, image)
            with _Problem(said, "the ICC profile"):
                said.profile = _profile(image.info.get("icc_profile"))
            with _Problem(said, "XMP"):
                _xmp(said, image.info.get("xmp"))
            _texts(said, image.info)
    if data.startswith(b"\xff\xd8"):
        _segments(said, data)
    elif data.startswith(b"\x89PNG"):
        said.credentials = b"caBX" in data
    said.software = list(dict.fromkeys(said.software))
    return said


class _Problem:
    """Records an exception of the block as a problem: readers of metadata raise almost any."""

    def __init__(self, said: Metadata, what: str) -> None:
        self._said, self._what = said, what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 _: object) -> bool:
        if isinstance(error, Exception):
            reason = " ".join(str(error).split())[:_LONGEST] or type(error).__name__
            self._said.problems.append(f"{self._what} can't be read completely: {reason}")
            return True
        return False


def _exif(said: Metadata, image: Image.Image) -> None:
    exif = image.getexif()
    if not exif:
        return
    turn = exif.get(0x0112)
    said.orientation = turn if isinstance(turn, int) and 1 <= turn <= 8 else 1
    _add(said, "picture", exif, ExifTags.TAGS)
    with _Problem(said, "Exif's camera settings"):
        _add(said, "camera settings", exif.get_ifd(_EXIF), ExifTags.TAGS)
    with _Problem(said, "the position"):
        gps = exif.get_ifd(_GPS)
        _add(said, "position", gps, ExifTags.GPSTAGS)
        latitude, longitude = _degrees(gps, 2, "S"), _degrees(gps, 4, "W")
        if latitude is not None and longitude is not None:
            said.position = latitude, longitude
    with _Problem(said, "the thumbnail"):
        small = exif.get_ifd(_THUMBNAIL)
        block = image.info.get("exif", b"")
        start, length = small.get(_OFFSET, 0), small.get(_LENGTH, 0)
        if isinstance(start, int) and isinstance(length, int) and length > 0 and start > 0:
            start += 6 if block.startswith(b"Exif\0\0") else 0
            said.thumbnail = bytes(block[start:start + length])


def _add(said: Metadata, title: str, values: Mapping[int, Any], names: Mapping[int, str]) -> None:
    rows = said.groups.setdefault(title, [])
    for tag, value in list(values.items())[:_MOST]:
        name = names.get(tag, f"tag 0x{tag:04x}")
        if name in _HIDDEN or isinstance(value, dict) or (isinstance(value, bytes)
                                                          and len(value) > 64):
            continue
        shown = text(value)
        if not shown:
            continue
        rows.append((name, shown))
        if name in _SOFTWARE:
            said.software.append(shown)
        if name in _DATES:
            said.dates[_DATES[name]] = shown
    if not rows:
        del said.groups[title]


def text(value: object) -> str:
    """A value from a file as one short line."""
    if isinstance(value, bytes):
        plain = value.rstrip(b"\0")
        readable = plain.isascii() and plain.decode("ascii").isprintable()
        value = plain.decode("ascii") if readable else plain.hex(" ")
    elif isinstance(value, tuple):
        value = ", ".join(text(item) for item in value[:16]) + ", …" * (len(value) > 16)
    elif isinstance(value, float) or hasattr(value, "numerator"):
        value = f"{float(value):.6g}"  # type: ignore[arg-type]
    line = " ".join(str(value)[:4 * _LONGEST].replace("\0", " ").split())
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "…"


def _degrees(gps: Mapping[int, Any], tag: int, negative: str) -> float | None:
    parts = gps.get(tag)
    if not isinstance(parts, tuple) or len(parts) != 3:
        return None
    degrees = sum(float(part) / 60**power for power, part in enumerate(parts))
    if not 0 <= degrees <= 180:  # NaN of 0/0 too
        return None
    return -degrees if str(gps.get(tag - 1, "")).strip("\0 ").upper() == negative else degrees


def _profile(stored: object) -> str:
    if not isinstance(stored, bytes) or not stored:
        return ""
    return text(ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(stored))))


def _xmp(said: Metadata, stored: object) -> None:
    if isinstance(stored, str):
        stored = stored.encode()
    if not isinstance(stored, bytes):
        return
    rows = []
    for match in list(_XMP.finditer(stored[:1 << 20]))[:_MOST]:
        name = match[1].decode()
        value = text((match[2] or match[3]).decode("utf-8", "replace"))
        rows.append((name, value))
        if name.split(":")[1] in _SOFTWARE + ("Software",):
            said.software.append(value)
    said.groups["XMP"] = rows or [("XMP", f"{len(stored):,} bytes, without names of programs")]


def _texts(said: Metadata, values: Mapping[Any, Any]) -> None:
    """Comments, and the texts of PNG and GIF files."""
    rows = [(text(name), text(value)) for name, value in list(values.items())[:_MOST]
            if (isinstance(value, str) and name != "xmp" and not name.startswith("XML:"))
            or (name == "comment" and isinstance(value, bytes))]
    skip = {"compression", "timestamp", "duration", "version", "transparency", "extension"}
    rows = [row for row in rows if row[0] not in skip and row[1]]
    if rows:
        said.groups["texts"] = rows
        said.software += [value for name, value in rows if name.lower() == "software"]


def _subsampling(image: Image.Image) -> str:
    layers = getattr(image, "layer", None) or []
    if len(layers) < 2:
        return ""
    across = layers[0][1] / max(layers[1][1], 1)
    down = layers[0][2] / max(layers[1][2], 1)
    return _SUBSAMPLING.get((int(across), int(down)), f"{across:g}×{down:g}")


def _segments(said: Metadata, data: bytes) -> None:
    names = []
    end = len(data)
    for marker, at in jpeg.segments(data):
        names.append(_segment(marker, data[at + 2:at + 40]))
        said.credentials |= marker == 0xEB and b"c2pa" in data[at:at + 256]
        if marker == jpeg.END:
            end = at
    said.segments = list(_counted(names[:2000]))
    said.trailing = len(data) - end if names and names[-1] == "EOI" else 0
    if not names or names[-1] != "EOI":
        said.problems.append("the file has no end marker: it is cut off")


def _segment(marker: int, start: bytes) -> str:
    name = _MARKERS.get(marker) or (f"APP{marker - 0xE0}" if 0xE0 <= marker <= 0xEF
                                    else f"FF{marker:02X}")
    if not name.startswith("APP"):
        return name
    word = re.match(rb"[A-Za-z0-9_.:/ -]+", start)
    if marker == 0xE1 and word and word[0].startswith(b"http:"):
        return f"{name} XMP"
    return f"{name} {word[0].decode()[:20]}" if word else name


def _counted(names: list[str]) -> Iterator[str]:
    for name, run in groupby(names):
        count = len(list(run))
        yield name if count == 1 else f"{name} ×{count}"
