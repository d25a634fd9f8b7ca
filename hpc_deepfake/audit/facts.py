"""Properties of a picture file that can be read without decoding its pixels."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from preprocessing import kinds
from preprocessing.picture import MAX_BYTES, opened

NONE = "none"
_HEADS = (1 << 18, 1 << 22)  # bytes in which a JPEG file's headers must end; usually 1,000
_TEXT = 60  # characters kept of a text in a file
_SUBSAMPLING: dict[tuple[float, float], str] = {
    (1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (1, 2): "4:4:0", (4, 1): "4:1:1",
    (4, 2): "4:1:0"}
_BLOCKS = ("jfif", "adobe", "exif", "icc_profile", "xmp", "photoshop", "comment")
_SOFTWARE = 305  # TIFF tag (TIFF 6.0)

_Tables = tuple[tuple[int, ...], ...]


class Facts(NamedTuple):
    """Facts about one file. A number that the file doesn't have is NaN.

    Attributes:
        format: by the file's content, whatever its name ends in.
        coding: how its pixels are stored, such as ``baseline``, ``progressive``, ``tiff_lzw``.
        mode: Pillow's pixel mode, such as ``RGB``.
        quantisation: tables of a JPEG file: their quality if they are the IJG's, else a digest.
        subsampling: of chroma, such as ``4:2:0``.
        metadata: kinds of metadata blocks.
        software: text of the metadata's software tag.
        comment: text of the file's comment.
        quality: quality of the IJG's luminance table nearest to the file's.
        width: pixels.
        height: pixels.
        size: bytes.
        density: bytes per pixel.
    """

    format: str
    coding: str = NONE
    mode: str = NONE
    quantisation: str = NONE
    subsampling: str = NONE
    metadata: str = NONE
    software: str = NONE
    comment: str = NONE
    quality: float = np.nan
    width: float = np.nan
    height: float = np.nan
    size: float = np.nan
    density: float = np.nan


UNREADABLE = "unreadable"  # as a format: not a picture, or damaged
CONTAINER = ("format", "coding", "quantisation", "subsampling")
NUMBERS = ("quality", "width", "height", "size", "density")


def read(path: bytes | str) -> Facts | None:
    """Facts about a file; None if it doesn't exist, can't be opened or isn't a regular file.

    Reads only the headers; a damaged file has the format ``UNREADABLE``.
    """
    try:
        # O_NONBLOCK: opening a named pipe must not wait for a writer
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        with open(descriptor, "rb", closefd=False) as file:
            return _of_file(file, status.st_size)._replace(size=status.st_size)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def columns(files: Sequence[Facts | None]) -> dict[str, np.ndarray]:
    """Each fact of all N files (None: missing file) as an array.

    Returns:
        Text (N) or, for the facts in ``NUMBERS``, float64 (N); and ``dimensions``, text.
    """
    facts = [file or Facts(UNREADABLE) for file in files]
    table = {name: np.array([getattr(file, name) for file in facts],
                            np.float64 if name in NUMBERS else str) for name in Facts._fields}
    table["dimensions"] = np.array([NONE if np.isnan(file.width) else
                                    f"{file.width:.0f}×{file.height:.0f}" for file in facts])
    return table


def _of_file(file: BinaryIO, size: int) -> Facts:
    start = file.read(16)
    if video := _video(start):
        return Facts(video)
    if size > MAX_BYTES:
        return Facts(UNREADABLE)
    # Pillow searches for a JPEG file's headers byte by byte, to the end of the file
    heads = _HEADS if start.startswith(b"\xff\xd8") else (0,)
    for limit in heads:
        file.seek(0)
        facts = _of_picture(io.BytesIO(file.read(limit)) if limit else file)
        if facts is not None:
            return facts._replace(density=size / (facts.width * facts.height))
        if size <= limit:
            break
    return Facts(UNREADABLE)


def _video(start: bytes) -> str | None:
    if start[4:8] == b"ftyp":  # or a picture: HEIC, AVIF
        kind = kinds.of_content(start)
        return "MP4" if kind is not None and kind.sort == kinds.VIDEO else None
    if start.startswith(b"\x1a\x45\xdf\xa3"):
        return "Matroska"
    if start.startswith(b"\x00\x00\x01\xba"):
        return "MPEG"
    return "AVI" if start.startswith(b"RIFF") and start[8:12] == b"AVI " else None


def _of_picture(file: BinaryIO) -> Facts | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with opened(file) as image:
                width, height = image.size
                if not width * height:
                    return None
                facts = Facts(image.format or UNREADABLE, _coding(image), image.mode,
                              metadata=" ".join(name for name in _BLOCKS if name in image.info)
                              or NONE, software=_text(_software(image)),
                              comment=_text(image.info.get("comment", "")),
                              width=width, height=height)
                if not isinstance(image, JpegImageFile):
                    return facts
                name, quality = _quantisation(_tables(image))
                return facts._replace(quantisation=name, quality=quality,
                                      subsampling=_subsampling(image))
    except Exception:  # Pillow's readers raise almost anything on damaged files
        return None


def _coding(image: Image.Image) -> str:
    if isinstance(image, JpegImageFile):
        return "progressive" if image.info.get("progressive") else "baseline"
    return str(image.info.get("compression", NONE))


def _software(image: Image.Image) -> object:
    try:
        return image.getexif().get(_SOFTWARE, "")
    except Exception:  # a damaged block of metadata; the picture itself is intact
        return ""


def _text(value: object) -> str:
    """A text from a file as one short printable line."""
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    text = "".join(letter if letter.isprintable() else " " for letter in text[:4 * _TEXT])
    return " ".join(text.split())[:_TEXT] or NONE


def _subsampling(image: JpegImageFile) -> str:
    steps = [layer[1:3] for layer in image.layer]
    if len(steps) <= 1:
        return NONE
    across = steps[0][0] / max(steps[1][0], 1)
    down = steps[0][1] / max(steps[1][1], 1)
    return _SUBSAMPLING.get((across, down), f"{across:g}×{down:g}")


def _tables(image: JpegImageFile) -> _Tables:
    return tuple(tuple(image.quantization[key]) for key in sorted(image.quantization))


@lru_cache(maxsize=4096)
def _quantisation(tables: _Tables) -> tuple[str, float]:
    """Name and nearest quality of a file's quantisation tables."""
    usual = _usual_tables()
    if not tables:
        return NONE, np.nan
    if tables in usual:
        return f"quality {usual[tables]}", usual[tables]
    luminance = np.array([key[0] for key in usual])
    nearest = list(usual.values())[int(np.abs(luminance - np.array(tables[0])).sum(1).argmin())]
    digest = hashlib.sha256(repr(tables).encode()).hexdigest()[:6]
    return f"own {digest}, near quality {nearest}", nearest


@lru_cache(maxsize=1)
def _usual_tables() -> dict[_Tables, int]:
    """Quality of each of the IJG's tables (ITU-T T.81 annex K, scaled), as written by Pillow."""
    qualities = {}
    for quality in range(1, 101):
        for mode in ("L", "RGB"):
            file = io.BytesIO()
            Image.new(mode, (8, 8)).save(file, "JPEG", quality=quality)
            file.seek(0)
            qualities[_tables(JpegImageFile(file))] = quality
    return qualities
