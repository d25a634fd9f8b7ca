"""What a picture file says about itself before any of its pixels is decoded."""

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

from preprocessing.picture import FORMATS, MAX_BYTES

NONE = "none"
_HEADS = (1 << 18, 1 << 22)  # bytes of a JPEG file in which its headers must end; mostly 1,000
_TEXT = 60  # characters kept of a text in a file
_SUBSAMPLING = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (1, 2): "4:4:0",
                (4, 1): "4:1:1", (4, 2): "4:1:0"}
_BLOCKS = ("jfif", "adobe", "exif", "icc_profile", "xmp", "photoshop", "comment")
_SOFTWARE = 305  # TIFF tag (TIFF 6.0)


class Facts(NamedTuple):
    """Facts of one file. A number that the file doesn't have is NaN.

    Attributes:
        format: by the file's content, whatever its name ends in. coding: how its pixels are
            stored, like ``baseline``, ``progressive``, ``tiff_lzw``. mode: Pillow's, like ``RGB``.
        quantisation: the tables of a JPEG file, by their quality if the usual encoder writes
            them, else by a digest. subsampling: of chroma, like ``4:2:0``.
        metadata: kinds of further data. software, comment: their texts.
        quality: of the usual encoder's luminance table that is nearest. width, height: pixels.
        size: bytes. density: bytes per pixel.
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


UNREADABLE = "unreadable"  # a format: not a picture, or damaged
CONTAINER = ("format", "coding", "quantisation", "subsampling")
NUMBERS = ("quality", "width", "height", "size", "density")


def read(path: bytes | str) -> Facts | None:
    """Facts of a file; None if it isn't there, can't be opened or isn't a regular file.

    Reads no more than the headers; a damaged file has the format ``UNREADABLE``.
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


def columns(facts: Sequence[Facts | None]) -> dict[str, np.ndarray]:
    """Each fact of all files (None: not there): text (N), or float64 (N) for those of ``NUMBERS``;
    and ``dimensions``, text."""
    facts = [one or Facts(UNREADABLE) for one in facts]
    found = {name: np.array([getattr(one, name) for one in facts],
                            np.float64 if name in NUMBERS else str) for name in Facts._fields}
    found["dimensions"] = np.array([NONE if np.isnan(one.width) else
                                    f"{one.width:.0f}×{one.height:.0f}" for one in facts])
    return found


def _of_file(file: BinaryIO, size: int) -> Facts:
    start = file.read(16)
    if video := _video(start):
        return Facts(video)
    if size > MAX_BYTES:
        return Facts(UNREADABLE)
    # Pillow looks for a JPEG file's headers byte by byte, however much else there is
    heads = _HEADS if start.startswith(b"\xff\xd8") else (0,)
    for limit in heads:
        file.seek(0)
        found = _of_picture(io.BytesIO(file.read(limit)) if limit else file)
        if found is not None:
            return found._replace(density=size / (found.width * found.height))
        if size <= limit:
            break
    return Facts(UNREADABLE)


def _video(start: bytes) -> str | None:
    if start[4:8] == b"ftyp":
        return "MP4"
    if start.startswith(b"\x1a\x45\xdf\xa3"):
        return "Matroska"
    if start.startswith(b"\x00\x00\x01\xba"):
        return "MPEG"
    return "AVI" if start.startswith(b"RIFF") and start[8:12] == b"AVI " else None


def _of_picture(file: BinaryIO) -> Facts | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as image:
                width, height = image.size
                if not width * height:
                    return None
                found = Facts(image.format or UNREADABLE, _coding(image), image.mode,
                              metadata=" ".join(name for name in _BLOCKS if name in image.info)
                              or NONE, software=_text(_software(image)),
                              comment=_text(image.info.get("comment", "")),
                              width=width, height=height)
                return found._replace(**_jpeg(image)) if hasattr(image, "quantization") else found
    except Exception:  # Pillow's readers raise nearly anything on damaged files
        return None


def _coding(image: Image.Image) -> str:
    if hasattr(image, "quantization"):
        return "progressive" if image.info.get("progressive") else "baseline"
    return str(image.info.get("compression", NONE))


def _software(image: Image.Image) -> object:
    try:
        return image.getexif().get(_SOFTWARE, "")
    except Exception:  # a damaged block of metadata; the picture is good
        return ""


def _text(value: object) -> str:
    """One short printable line of a text from a file."""
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    text = "".join(one if one.isprintable() else " " for one in text[:4 * _TEXT])
    return " ".join(text.split())[:_TEXT] or NONE


def _jpeg(image: Image.Image) -> dict[str, str | float]:
    tables = tuple(tuple(image.quantization[key]) for key in sorted(image.quantization))
    name, quality = _quantisation(tables)
    steps = [layer[1:3] for layer in image.layer]
    chroma = steps[1] if len(steps) > 1 else (1, 1)
    across, down = steps[0][0] / max(chroma[0], 1), steps[0][1] / max(chroma[1], 1)
    subsampling = _SUBSAMPLING.get((across, down), f"{across:g}×{down:g}")
    return {"quantisation": name, "quality": quality,
            "subsampling": subsampling if len(steps) > 1 else NONE}


@lru_cache(maxsize=4096)
def _quantisation(tables: tuple[tuple[int, ...], ...]) -> tuple[str, float]:
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
def _usual_tables() -> dict[tuple[tuple[int, ...], ...], int]:
    """Qualities of the IJG's tables (ITU-T T.81 annex K, scaled), as written by Pillow."""
    found = {}
    for quality in range(1, 101):
        for mode in ("L", "RGB"):
            file = io.BytesIO()
            Image.new(mode, (8, 8)).save(file, "JPEG", quality=quality)
            written = Image.open(file).quantization
            found[tuple(tuple(written[key]) for key in sorted(written))] = quality
    return found
