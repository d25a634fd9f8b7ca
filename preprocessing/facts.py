"""Facts of a picture file from its first bytes, without decoding it: size, format, JPEG quality."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Sequence
from functools import cache
from stat import S_ISREG
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hpc_deepfake.core import watchdog
from preprocessing import jpeg, picture

if TYPE_CHECKING:
    from PIL import Image

    from preprocessing.store import Header

# Their numbers are stored in data files: append only. 0: unknown, as of files from before.
FORMATS = ("unknown", "JPEG", "PNG", "TIFF", "BMP", "GIF", "WebP", "JPEG 2000", "AVIF", "HEIF",
           "MP4", "AVI", "Matroska", "MPEG")
DIGEST = 16  # bytes of SHA-256 that are kept: two files in 2⁶⁴ may agree by chance
# of a data file, with a row each, and what an element has; zeros where nothing is known
COLUMNS: dict[str, tuple[str, tuple[int, ...]]] = {
    "digest": ("u1", (DIGEST,)), "width": ("u4", ()), "height": ("u4", ()), "format": ("u1", ()),
    "quality": ("u1", ())}

_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", **dict.fromkeys(
    (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), "HEIF")}
_STARTS = ((b"\xff\xd8", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF8", "GIF"), (b"BM", "BMP"),
           (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"II+\0", "TIFF"), (b"MM\0+", "TIFF"),
           (b"\xff\x4f\xff\x51", "JPEG 2000"), (b"\0\0\0\x0cjP  ", "JPEG 2000"),
           (b"\x1aE\xdf\xa3", "Matroska"), (b"\0\0\1\xba", "MPEG"), (b"\0\0\1\xb3", "MPEG"))
_BLOCK = 1 << 24  # bytes of a file read at a time
_FRAME, _TABLES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}, 0xDB

# The luminance table of ITU-T T.81, table K.1, in the zigzag order of files
_LUMINANCE = np.array((
    16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40,
    26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51, 61, 60, 57, 51,
    56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87,
    95, 98, 103, 104, 103, 62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99))
# places in a row-by-row table, in that order (figure A.6)
_ZIGZAG = np.array(sorted(range(64), key=lambda place: (
    place // 8 + place % 8, place // 8 if (place // 8 + place % 8) % 2 else place % 8)))


class Facts(NamedTuple):
    """Facts of a picture; 0 and ``unknown`` where they aren't known.

    Attributes:
        width: pixels, as stored, whatever its orientation.
        height: pixels.
        format: one of ``FORMATS``, by the file's content; of a frame that of its video.
        quality: 1 to 100, of the IJG's luminance table nearest to that of a JPEG file; 0: no JPEG.
    """

    width: int = 0
    height: int = 0
    format: str = FORMATS[0]
    quality: int = 0


NOTHING = Facts(), bytes(DIGEST)  # facts and digest of a picture of which nothing is known


def of(data: bytes) -> Facts:
    """Facts of a picture from the contents of its file; of a video only its format."""
    kind = kind_of(data)
    if kind == "JPEG":
        return _of_jpeg(data)
    return Facts(*_size(data), kind) if kind in FORMATS[2:10] else Facts(format=kind)


def of_image(image: Image.Image) -> Facts | None:
    """Facts of an image that Pillow has opened from a file; None: another program has made it."""
    kind = {"MPO": "JPEG", "JPEG2000": "JPEG 2000", "WEBP": "WebP", "DIB": "BMP"}.get(
        image.format or "", image.format)
    if kind not in FORMATS[1:]:
        return None
    quality = 0
    if kind == "JPEG":
        tables, layers = getattr(image, "quantization", {}), getattr(image, "layer", [])
        table = tables.get(layers[0][3]) if layers else None
        quality = quality_of(np.asarray(table)[_ZIGZAG]) if table is not None else 0
    return Facts(*image.size, kind, quality)


def digest(data: bytes) -> bytes:
    """The first ``DIGEST`` bytes of the SHA-256 of a file's contents."""
    return hashlib.sha256(data).digest()[:DIGEST]


def digest_of_file(path: bytes | str) -> bytes:
    """``digest`` of a regular file that may be too large to be held in memory.

    Raises:
        OSError: it can't be read, or is something else.
    """
    sha = hashlib.sha256()
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("not a regular file")
        while block := file.read(_BLOCK):
            sha.update(block)
            watchdog.advance()
    return sha.digest()[:DIGEST]


def kind_of(start: bytes) -> str:
    """The format, one of ``FORMATS``, that the first 16 bytes of a file or more are the sign of."""
    if start[:4] == b"RIFF":
        return {b"WEBP": "WebP", b"AVI ": "AVI"}.get(start[8:12], FORMATS[0])
    if start[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"):  # ISO 14496-12
        return _BRANDS.get(start[8:12], "MP4") if start[4:8] == b"ftyp" else "MP4"
    return next((kind for begin, kind in _STARTS if start.startswith(begin)), FORMATS[0])


def kind_of_file(path: bytes | str) -> str:
    """``kind_of`` of a regular file; ``unknown`` if it can't be read."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as start:
            return kind_of(start.read(16))
    except OSError:
        return FORMATS[0]


def quality_of(table: Sequence[int] | np.ndarray) -> int:
    """The quality, 1 to 100, whose luminance table of the Independent JPEG Group is nearest.

    Args:
        table: 64 numbers of a luminance quantisation table, in zigzag order.
    """
    return 1 + int(np.abs(_usual() - np.asarray(table, np.int64)).sum(1).argmin())


@cache
def _usual() -> np.ndarray:
    """The tables of qualities 1 to 100, int64 (100, 64): ``jpeg_quality_scaling`` and
    ``jpeg_add_quant_table`` of the IJG's library, with baseline limits."""
    quality = np.arange(1, 101)[:, None]
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    tables: np.ndarray = ((_LUMINANCE * scale + 50) // 100).clip(1, 255)
    return tables


def empty(rows: int) -> dict[str, np.ndarray]:
    """The columns of rows of which nothing is known."""
    return {name: np.zeros((rows, *shape), kind) for name, (kind, shape) in COLUMNS.items()}


def columns(rows: Sequence[tuple[Facts, bytes]]) -> dict[str, np.ndarray]:
    """The columns of rows with these facts and digests."""
    values = {"digest": np.frombuffer(b"".join(digest for _, digest in rows), np.uint8),
              "width": [facts.width for facts, _ in rows],
              "height": [facts.height for facts, _ in rows],
              "format": [FORMATS.index(facts.format) for facts, _ in rows],
              "quality": [facts.quality for facts, _ in rows]}
    return {name: np.asarray(values[name], kind).reshape(len(rows), *shape)
            for name, (kind, shape) in COLUMNS.items()}


def stored(header: Header, rows: np.ndarray) -> list[Facts] | None:
    """Facts of rows of a data file, int64 (n); None for a file from before, which has none."""
    if not header.has_facts:
        return None
    columns = [header.array(name)[rows].tolist() for name in Facts._fields]
    return [Facts(width, height, FORMATS[number] if number < len(FORMATS) else FORMATS[0], quality)
            for width, height, number, quality in zip(*columns, strict=True)]


def _of_jpeg(data: bytes) -> Facts:
    """From the segments up to the first scan (ITU-T T.81 B.2)."""
    tables: dict[int, np.ndarray] = {}
    width = height = selector = 0
    for marker, at in jpeg.segments(data):
        if marker in (0xD9, 0xDA):
            break
        segment = data[at + 2:at + int.from_bytes(data[at:at + 2], "big")]
        if marker == _TABLES:
            while segment:
                size, place = 1 + (segment[0] >> 4 > 0), segment[0] & 15
                values = segment[1:1 + 64 * size]
                if len(values) == 64 * size:
                    tables.setdefault(place, np.frombuffer(values, f">u{size}").astype(np.int64))
                segment = segment[1 + 64 * size:]
        elif marker in _FRAME and len(segment) >= 9 and not width:
            height, width = (int.from_bytes(segment[i:i + 2], "big") for i in (1, 3))
            selector = segment[8]
    table = tables.get(selector)
    return Facts(width, height, "JPEG", 0 if table is None else quality_of(table))


def _size(data: bytes) -> tuple[int, int]:
    """Width and height of another picture; zeros where its head can't be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with picture.opened(io.BytesIO(data)) as image:
                return image.size
    except Exception:  # Pillow's readers raise almost anything on damaged files
        return 0, 0
