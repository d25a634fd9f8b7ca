"""Decoding untrusted picture files to pixels, within limits of size and time."""

from __future__ import annotations

import io
import os
import re
import stat
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from hpc_deepfake.core.log import log
from hpc_deepfake.core.quiet import Captured
from hpc_deepfake.core.text import printable

MAX_BYTES = 512 * 1024**2
MAX_PIXELS = 120_000_000
MAX_SIDE = 65_500  # limit of libjpeg
MAX_SCANS = 100  # of a JPEG file; each scan processes all pixels, however few bytes it has
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "DIB", "GIF", "WEBP")  # EPS starts a program

cv2.setNumThreads(1)  # one core per rank: the ranks are the parallelism
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
Image.MAX_IMAGE_PIXELS = None  # checked by _check_size, before decoding

_STRIP = 1 << 22  # pixels converted at a time
_TIFF_BITS, _TIFF_ORIENTATION, _TIFF_TILE = 258, 274, (322, 323)  # tags of TIFF 6.0
# undoes the rotation that Pillow applies to a TIFF picture when loading it
_TURN_BACK = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
              4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
              6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
              8: Image.Transpose.ROTATE_270}
# not a stuffed zero, a restart marker or a fill byte
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


class Rejected(Exception):
    """A picture that can't be used; the message is the reason."""


def read(path: bytes | str) -> bytes:
    """Contents of a regular file of at most ``MAX_BYTES``.

    Raises:
        Rejected: missing, unreadable, empty, too large, or not a regular file.
    """
    try:
        # O_NONBLOCK: opening a named pipe must not wait for a writer
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Rejected(f"cannot be opened: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Rejected("not a regular file")
        if status.st_size > MAX_BYTES:
            raise Rejected(f"larger than {MAX_BYTES >> 20} MiB")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read()
    except OSError as error:
        raise Rejected(f"cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if not data:
        raise Rejected("empty file")
    return data


def decode(data: bytes, path: bytes | str | None = None) -> np.ndarray:
    """Pixels of a picture file, as stored: orientation tags are ignored, since rotating would move
    JPEG's 8×8 grid.

    Complete 8-bit three-channel JPEG files are decoded by OpenCV, with the same pixels as Pillow in
    less time; all other files by Pillow. Alpha is dropped, 16 bits are cut to 8, and of several
    pages or frames the first is used.

    Args:
        data: contents of the file.
        path: of the file, under which a remark of the decoder is logged: it has read the picture,
            but part of it is damaged.

    Returns:
        uint8 (height, width, 3), blue-green-red.

    Raises:
        Rejected: not a picture, damaged, truncated, too large, or values without a fixed range.
    """
    with Captured() as messages:  # libjpeg's and libtiff's, which name no file
        try:
            pixels, reason = _decode(data), ""
        except Rejected as error:
            reason = str(error)
    remark = printable(messages.text.replace("tempfile.tif: ", ""))  # what Pillow calls any TIFF
    if not reason:
        if remark and path is not None:
            log.warning(f"{printable(os.fsdecode(path))}: damaged, but decoded: {remark}")
        return pixels
    del data
    reason += f": {remark}" * bool(remark)
    raise Rejected(reason)  # a new one: the traceback of the first keeps the pixels in memory


def _decode(data: bytes) -> np.ndarray:
    frame = _jpeg_frame(data)
    if frame is not None:
        _check_size(frame.width, frame.height)
        _check_scans(data)
        if frame.plain and data.endswith(b"\xff\xd9"):
            try:
                pixels = cv2.imdecode(np.frombuffer(data, np.uint8),
                                      cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
            except cv2.error:  # Pillow says why
                pixels = None
            if pixels is not None:
                return pixels
    return decode_with_pillow(data)


def decode_with_pillow(data: bytes) -> np.ndarray:
    """``decode`` by Pillow alone: for all formats except plain JPEG, and the reference in tests."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(*image.size)
                return _colours(image)
    except Rejected:
        raise
    except MemoryError:
        raise Rejected("needs more memory than is available") from None
    except Exception as error:  # Pillow raises many kinds of exceptions for damaged files
        text = " ".join(str(error).split()) or type(error).__name__
        if "cannot identify image file" in text:
            text = "not a picture in a known format"
        elif text.startswith("decoder error"):
            text = f"its pixels can't be decoded ({text})"
        raise Rejected(text) from None


def _colours(image: Image.Image) -> np.ndarray:
    """Pixels of an opened file, blue-green-red; converted strip by strip, to need no second copy of
    the whole picture."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    if _TIFF_TILE[0] in tags:  # a tile is decoded completely, even for a picture of one pixel
        _check_size(*(tags[tag] for tag in _TIFF_TILE))
    if image.format == "TIFF" and image.mode in ("I", "F"):
        raise Rejected("32-bit or signed values have no fixed range of brightness: "
                       "save the picture with 8 or 16 bits")
    shift = 4 if tags.get(_TIFF_BITS) == (12,) else 8
    turn_back = _TURN_BACK.get(tags.get(_TIFF_ORIENTATION, 1))
    image.load()
    if turn_back is not None:
        image = image.transpose(turn_back)
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        end = min(top + rows, height)
        strip = image.crop((0, top, width, end))
        if strip.mode.startswith("I"):  # 12 or 16 bits in a larger type: keep the high ones
            pixels[top:end] = (np.asarray(strip) >> shift).clip(0, 255)[..., None]
            continue
        if strip.mode == "La":  # grey multiplied by its alpha
            strip = strip.convert("LA")
        pixels[top:end] = cv2.cvtColor(np.asarray(strip.convert("RGB")), cv2.COLOR_RGB2BGR)
    return pixels


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise Rejected(f"{width}×{height} pixels are too many (at most "
                       f"{MAX_PIXELS // 10**6} million, {MAX_SIDE} a side)")
    if width * height == 0:
        raise Rejected("no pixels")


class _Frame(NamedTuple):
    """A JPEG frame header.

    Attributes:
        width: in pixels.
        height: in pixels.
        plain: Huffman-coded with 8 bits and three channels.
    """

    width: int
    height: int
    plain: bool


def _jpeg_frame(data: bytes) -> _Frame | None:
    """The frame header of a JPEG file (ITU T.81 B.2.2); None for anything else."""
    for marker, at in jpeg_segments(data):
        if marker in (0xD9, 0xDA):  # the end or the scan, without a frame header before it
            return None
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and at + 8 <= len(data):
            width, height = (int.from_bytes(data[i:i + 2], "big") for i in (at + 5, at + 3))
            return _Frame(width, height,
                          marker <= 0xC2 and data[at + 2] == 8 and data[at + 7] == 3)
    return None


def _check_scans(data: bytes) -> None:
    start_of_scan = b"\xff\xda"
    if data.count(start_of_scan) <= MAX_SCANS:
        return
    # embedded pictures and bytes after the end may contain it too: parse the segments
    scans = sum(marker == start_of_scan[1] for marker, _ in jpeg_segments(data))
    if scans > MAX_SCANS:
        raise Rejected(f"a JPEG of {scans} scans (at most {MAX_SCANS})")


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Marker of each segment of a JPEG file and the position of its length, up to the end marker.

    Segments are found as libjpeg finds them, also with junk in between: the size that it will
    allocate must be checked before.
    """
    at = 2 if data.startswith(b"\xff\xd8") else len(data)
    while match := _MARKER.search(data, at):
        marker, at = data[match.end() - 1], match.end()
        yield marker, at
        if marker == 0xD9:
            return
        if marker not in (0x01, 0xD8):  # these two have no length
            at += max(2, int.from_bytes(data[at:at + 2], "big"))
