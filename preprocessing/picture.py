"""Decoding untrusted picture files to pixels, within limits of size and time."""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import Image

from hpc_deepfake.core.log import log
from hpc_deepfake.core.quiet import Captured
from hpc_deepfake.core.text import printable
from preprocessing import jpeg, kinds, reasons
from preprocessing.boxes import IMIR, IROT, sizes, turns

MAX_BYTES = 512 * 1024**2
MAX_PIXELS = 120_000_000
MAX_SIDE = 65_500  # limit of libjpeg
MAX_SCANS = 100  # of a JPEG file; each scan processes all pixels, however few bytes it has
# EPS starts a program; MPO is a JPEG file that contains others
FORMATS: tuple[str, ...] = ("JPEG", "PNG", "TIFF", "BMP", "DIB", "GIF", "WEBP", "JPEG2000")
_HEIF = "HEIF"
_MAX_MODERN = 60_000_000  # pixels of these, whose decoders need twice the memory of the others
_BOXED = ("AVIF", _HEIF)
_MODERN = ("JPEG2000", *_BOXED)

cv2.setNumThreads(1)  # one core per rank: the ranks are the parallelism
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
Image.MAX_IMAGE_PIXELS = None  # checked by _check_size, before decoding
with suppress(ImportError):  # a site's own Pillow may be older than 11.3
    from PIL import AvifImagePlugin

    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    FORMATS += ("AVIF",)

_STRIP = 1 << 22  # pixels converted at a time
_TIFF_ORIENTATION, _TIFF_TILE = 274, (322, 323)  # tags of TIFF 6.0
# undoes the rotation that Pillow applies to a TIFF picture when loading it
_TURN_BACK = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
              4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
              6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
              8: Image.Transpose.ROTATE_270}
# undoes what libheif applies
_UNDO = {(IROT, 1): Image.Transpose.ROTATE_270, (IROT, 2): Image.Transpose.ROTATE_180,
         (IROT, 3): Image.Transpose.ROTATE_90, (IMIR, 0): Image.Transpose.FLIP_TOP_BOTTOM,
         (IMIR, 1): Image.Transpose.FLIP_LEFT_RIGHT}


class Rejected(Exception):
    """A picture that can't be used; the message is the reason, and what to do about it."""


def read(path: bytes | str) -> bytes:
    """Contents of a regular file of at most ``MAX_BYTES``.

    Raises:
        Rejected: missing, unreadable, empty, too large, or not a regular file.
    """
    try:
        # O_NONBLOCK: opening a named pipe must not wait for a writer
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Rejected(f"cannot be opened: {error.strerror}{_link(path)}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Rejected(kinds.irregular(status.st_mode))
        if status.st_size > MAX_BYTES:
            raise Rejected(f"larger than {MAX_BYTES >> 20} MiB")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read()
    except OSError as error:
        raise Rejected(f"cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if not data:
        raise Rejected(kinds.EMPTY)
    return data


def _link(path: bytes | str) -> str:
    """What to add where a link leads to no file."""
    try:
        target = os.readlink(os.fsencode(path))
    except (OSError, ValueError):
        return ""
    if os.path.lexists(os.path.join(os.path.dirname(os.fsencode(path)), target)):
        return ""
    return f": {kinds.ANNEX_LINK}" if b"/annex/objects/" in target else \
        f": a link to {printable(os.fsdecode(target))}, which isn't there"


def decode(data: bytes, path: bytes | str | None = None) -> np.ndarray:
    """Pixels of a picture file, as stored: orientation tags are ignored, since rotating would move
    JPEG's 8×8 grid.

    Complete 8-bit three-channel JPEG files are decoded by OpenCV, with the same pixels as Pillow in
    less time; all other files by Pillow, HEIC by its plugin pillow-heif. Alpha is dropped, more
    bits are cut to 8, and of several pages or frames the first is used, or the primary one.

    Args:
        data: contents of the file.
        path: of the file, under which a remark of the decoder is logged: it has read the picture,
            but part of it is damaged.

    Returns:
        uint8 (height, width, 3), blue-green-red.

    Raises:
        Rejected: not a picture, damaged, truncated, too large, or values without a fixed range.
    """
    for alone in (False, True):
        pixels, reason = None, ""  # at most once in memory
        with Captured(alone) as messages:  # libjpeg's and libtiff's, which name no file
            try:
                pixels = _decode(data)
            except Rejected as error:
                reason = str(error)
        if not (messages.text and messages.shared):
            break  # otherwise it may be a remark on another thread's picture
    remark = printable(messages.text.replace("tempfile.tif: ", ""))  # what Pillow calls any TIFF
    if pixels is not None:
        if remark and path is not None:
            log.warning(f"{printable(os.fsdecode(path))}: damaged, but decoded: {remark}")
        return pixels
    del data
    reason += f": {remark}" * bool(remark)
    raise Rejected(reason)  # a new one: the traceback of the first keeps the pixels in memory


def _decode(data: bytes) -> np.ndarray:
    frame = jpeg.frame(data)
    if frame is not None:
        _check_size(frame.width, frame.height)
        # embedded pictures and bytes after the end may contain it too: parse the segments
        if data.count(b"\xff\xda") > MAX_SCANS and (scans := jpeg.scans(data)) > MAX_SCANS:
            raise Rejected(f"a JPEG of {scans} scans (at most {MAX_SCANS})")
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
    if reason := kinds.reason(data[:kinds.START], kinds.PICTURE):
        raise Rejected(reason)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with opened(io.BytesIO(data)) as image:
                most = _MAX_MODERN if image.format in _MODERN else MAX_PIXELS
                inner = sizes(data) if image.format in _BOXED else []
                for width, height in (image.size, *inner):
                    _check_size(width, height, most)
                turned = turns(data) if image.format == _HEIF else []
                return _colours(image, [_UNDO[turn] for turn in reversed(turned) if turn in _UNDO])
    except Rejected:
        raise
    except MemoryError:
        raise Rejected("needs more memory than is available") from None
    except Image.DecompressionBombError:  # Pillow's own limit is in force in programs of others
        raise Rejected(f"too many pixels (at most {MAX_PIXELS // 10**6} million, {MAX_SIDE} a "
                       "side)") from None
    except Exception as error:  # Pillow raises many kinds of exceptions for damaged files
        text = " ".join(str(error).split()) or type(error).__name__
        if "cannot identify image file" in text:
            text = _unknown(data[:kinds.START])
        elif text.startswith("decoder error"):
            text = f"its pixels can't be decoded ({text})"
        raise Rejected(reasons.of(data, text)) from None


def of_image(image: Image.Image) -> np.ndarray:
    """Pixels of an image that another program has opened or made by Pillow, as of ``decode``; of a
    HEIC whose pixels it has loaded, or of a frame that isn't the primary one, as displayed.

    Raises:
        Rejected: too large, no pixels, values without a fixed range, or a damaged file.
    """
    _check_size(*image.size)
    if image.mode == "F":
        raise Rejected(reasons.UNBOUNDED)
    try:
        file = getattr(image, "fp", None)  # None: loaded
        if image.format == _HEIF and file and image.info.get("primary"):
            file.seek(0)
            return decode(file.read())  # by itself: loading the image would turn it for good
        return _colours(image)
    except (OSError, SyntaxError, ValueError, MemoryError) as error:  # read from its file only now
        raise Rejected(" ".join(str(error).split()) or type(error).__name__) from None


def _unknown(start: bytes) -> str:
    """Why no reader of Pillow accepts a file that begins like this."""
    kind = kinds.of_content(start)
    if kind == kinds.HEIC and not _heif():
        return "a HEIC picture, which needs another package: pip install pillow-heif"
    if kind == kinds.AVIF and "AVIF" not in FORMATS:
        return "an AVIF picture, which needs a newer Pillow: pip install 'pillow>=11.3'"
    if kind is None:
        return kinds.UNKNOWN
    return (f"damaged: it begins like a picture ({kind.text}), but can't be opened: copy or "
            "download it again")


@contextmanager
def opened(file: BinaryIO) -> Iterator[Image.Image]:
    """A picture opened by Pillow, in any format that is read; only its header is read now.

    Raises:
        Exception: almost any, if it can't be opened.
    """
    start = file.read(kinds.START)
    file.seek(0)
    heif = kinds.of_content(start) == kinds.HEIC and _heif()
    with Image.open(file, formats=(*FORMATS, _HEIF) if heif else FORMATS) as image:
        yield image


@cache
def _heif() -> bool:
    """Whether Pillow has its plugin for HEIC, which is loaded now."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False,
                                     aux_images=False)
    return True


def _colours(image: Image.Image, turn_back: Sequence[Image.Transpose] = ()) -> np.ndarray:
    """Pixels of an opened file, blue-green-red; converted strip by strip, to need no second copy of
    the whole picture.

    Args:
        image: not loaded yet, or loaded.
        turn_back: undoes how loading turns it, except for TIFF, where it is known.
    """
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    if _TIFF_TILE[0] in tags:  # a tile is decoded completely, even for a picture of one pixel
        _check_size(*(tags[tag] for tag in _TIFF_TILE))
    if image.format == "TIFF":
        if reasons.is_raw(tags):
            raise Rejected(reasons.RAW)
        if image.mode in ("I", "F"):
            raise Rejected(reasons.UNBOUNDED)
    if tags.get(_TIFF_ORIENTATION, 1) in _TURN_BACK:
        turn_back = [_TURN_BACK[tags[_TIFF_ORIENTATION]]]
    shift = 4 if tags.get(reasons.BITS) == (12,) else 8
    image.load()
    for turn in turn_back:
        image = image.transpose(turn)
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        end = min(top + rows, height)
        strip = image if end - top == height else image.crop((0, top, width, end))
        if strip.mode.startswith("I"):  # 12 or 16 bits in a larger type: keep the high ones
            pixels[top:end] = (np.asarray(strip) >> shift).clip(0, 255)[..., None]
            continue
        if strip.mode == "La":  # grey multiplied by its alpha
            strip = strip.convert("LA")
        if strip.mode != "RGB":  # else it would be one more copy
            strip = strip.convert("RGB")
        cv2.cvtColor(np.asarray(strip), cv2.COLOR_RGB2BGR, dst=pixels[top:end])
    return pixels


def _check_size(width: int, height: int, most: int = MAX_PIXELS) -> None:
    if width * height > most or max(width, height) > MAX_SIDE:
        raise Rejected(f"{width}×{height} pixels are too many (at most "
                       f"{most // 10**6} million, {MAX_SIDE} a side)")
    if width * height == 0:
        raise Rejected("no pixels")
