"""Decoding untrusted picture files to pixels, within bounds."""

from __future__ import annotations

import io
import os
import stat
import warnings

import cv2
import numpy as np
from PIL import Image

MAX_BYTES = 512 * 1024**2
MAX_PIXELS = 120_000_000
MAX_SIDE = 65_500  # what JPEG can encode
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "DIB", "GIF", "WEBP")  # EPS would start a program

cv2.setNumThreads(1)  # one rank, one core: the ranks are the parallelism
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
Image.MAX_IMAGE_PIXELS = None  # checked here, before anything is decoded


class Rejected(Exception):
    """This picture can't be used; the message says why."""


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


def decode(data: bytes) -> np.ndarray:
    """Pixels of a picture file, as stored (no EXIF rotation: that would move JPEG's 8×8 grid).

    Whole 8-bit three-channel JPEG files go to OpenCV, which gives Pillow's pixels in less time;
    everything else goes to Pillow: alpha is dropped, 16 bits are cut to 8, of several pages or
    frames the first is taken.

    Returns:
        uint8 (height, width, 3), blue-green-red.

    Raises:
        Rejected: not a picture, damaged, truncated, or too large.
    """
    header = _jpeg_header(data)
    if header is not None and data.endswith(b"\xff\xd9"):
        _check_size(*header)
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8),
                              cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if pixels is not None:
            return pixels
    return decode_with_pillow(data)


def decode_with_pillow(data: bytes) -> np.ndarray:
    """``decode`` by Pillow alone: for all formats but plain JPEG, and the reference in tests."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(*image.size)
                if image.mode.startswith(("I;16", "I")):  # 16 bits: keep the high ones
                    values = np.asarray(image).astype(np.int64)
                    image = Image.fromarray((values >> 8).clip(0, 255).astype(np.uint8))
                rgb = np.asarray(image.convert("RGB"))
    except Rejected:
        raise
    except MemoryError:
        raise Rejected("needs more memory than there is") from None
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files
        text = " ".join(str(error).split()) or type(error).__name__
        if "cannot identify image file" in text:
            text = "not a picture that Pillow knows"
        raise Rejected(text) from None
    return np.ascontiguousarray(rgb[..., ::-1])


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise Rejected(f"{width}×{height} pixels are too many (at most "
                       f"{MAX_PIXELS // 10**6} million, {MAX_SIDE} a side)")
    if width * height == 0:
        raise Rejected("no pixels")


def _jpeg_header(data: bytes) -> tuple[int, int] | None:
    """Width and height of an 8-bit, three-channel JPEG file; None for anything else."""
    if not data.startswith(b"\xff\xd8"):
        return None
    at = 2
    while at + 10 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if 0xC0 <= marker <= 0xC2:  # baseline, extended, progressive frame header (ITU T.81 B.2.2)
            if data[at + 4] != 8 or data[at + 9] != 3:
                return None
            height = int.from_bytes(data[at + 5:at + 7], "big")
            return int.from_bytes(data[at + 7:at + 9], "big"), height
        if marker in (0xD9, 0xDA):  # the scan, without a frame header of that kind before it
            return None
        at += 2 + int.from_bytes(data[at + 2:at + 4], "big")
    return None
