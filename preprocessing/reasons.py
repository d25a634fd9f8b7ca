"""Why the decoders can't read a picture, in words of their own for each kind, with what to do."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import Any

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from preprocessing import jpeg

RAW = ("a camera's raw picture (such as DNG, NEF or ARW), or only its preview: develop it to TIFF "
       "or PNG, such as with darktable or RawTherapee")
_AGAIN = "copy or download it again"
_LOSSLESS = "convert it without loss, to PNG or 16-bit TIFF, such as with ImageMagick or GDAL"
# processes that libjpeg-turbo doesn't decode; lossless and arithmetic-coded ones it does
_PROCESSES = {0xCB: "lossless and arithmetic-coded", 0xF7: "JPEG-LS",
              **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical")}
# tags and values of TIFF 6.0, its supplements and DNG 1.7
SUBFILE, BITS, _COMPRESSION, PHOTOMETRIC, _SAMPLES, SUBIFDS, _FORMAT, _DNG = (
    254, 258, 259, 262, 277, 330, 339, 50706)
_FILTER_ARRAY, _LINEAR_RAW = 32803, 34892
_COMPRESSIONS = {6: "old-style JPEG", 34712: "JPEG 2000", 33003: "JPEG 2000", 33005: "JPEG 2000",
                 34887: "LERC", 34892: "lossy JPEG", 34925: "LZMA", 50000: "Zstandard",
                 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL", 34718: "MBI", 34676: "SGI LogL",
                 34677: "SGI LogLuv", 32766: "NeXT", 32809: "ThunderScan", 32767: "Sony raw",
                 34713: "Nikon raw", 65000: "Kodak raw", 65535: "Pentax raw"}


def of(data: bytes, text: str) -> str:
    """The reason why a picture can't be decoded.

    Args:
        data: contents of the file.
        text: the decoder's own words.
    """
    why = _of_jpeg(data) or _of_tiff(data)
    if why is None and data[12:16] == b"CgBI":
        why = ("a PNG as iPhone programs contain them (CgBI), which only Apple's software reads: "
               "convert it with pngcrush -revert-iphone-optimizations")
    if why is not None:
        return f"{why} ({text})" if "truncated" in text.lower() else why
    if "truncated" in text.lower() or "unexpected end" in text.lower():
        return f"{text}: {_AGAIN}"
    if text in ("broken data stream when reading image file",
                "unrecognized data stream contents when reading image file"):
        return f"damaged ({text}): {_AGAIN}"
    return text


def is_raw(tags: Mapping[int, Any]) -> bool:
    """Whether the first page of a TIFF file is a sensor's values, or the preview of such a page."""
    return (_DNG in tags or tags.get(PHOTOMETRIC) in (_FILTER_ARRAY, _LINEAR_RAW)
            or (SUBIFDS in tags and _int(tags.get(SUBFILE)) & 1 == 1))


def _of_jpeg(data: bytes) -> str | None:
    frame = jpeg.frame(data)
    if frame is None:
        return None
    process = _PROCESSES.get(frame.marker)
    if frame.bits != 8:
        return f"a JPEG of {frame.bits} bits per value, which isn't read: {_LOSSLESS}"
    return None if process is None else f"a JPEG of a rare kind ({process}) that isn't read: " \
                                        f"{_LOSSLESS}"


def _of_tiff(data: bytes) -> str | None:
    tags = _tags(data)
    if tags is None:
        return None
    bits, form = _numbers(tags.get(BITS)), _numbers(tags.get(_FORMAT))
    bands = _int(tags.get(_SAMPLES)) or len(bits) or 1
    compression = _int(tags.get(_COMPRESSION)) or 1
    if is_raw(tags):
        return RAW
    if bands > 4 or (bands == 2 and max(bits, default=0) > 8):
        return (f"a TIFF of {bands} bands, as satellites and microscopes make them: export three "
                "of them as an RGB picture of 8 or 16 bits")
    if any(kind not in (1, 4) for kind in form) or any(size > 16 for size in bits):
        return UNBOUNDED
    if compression in _COMPRESSIONS:
        return (f"a TIFF compressed by a method that isn't read ({_COMPRESSIONS[compression]}): "
                "save it with LZW, Deflate or without compression")
    return None


UNBOUNDED = ("32-bit or signed values have no fixed range of brightness: save the picture with 8 "
             "or 16 bits")


def _tags(data: bytes) -> Mapping[int, Any] | None:
    """Tags of the first page of a TIFF file; None for anything else."""
    if not data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            directory = ImageFileDirectory_v2(data[:16 if 43 in data[2:4] else 8])
            file = io.BytesIO(data)
            file.seek(directory.next)
            directory.load(file)
            return {tag: directory[tag] for tag in (
                SUBFILE, BITS, _COMPRESSION, PHOTOMETRIC, _SAMPLES, SUBIFDS, _FORMAT, _DNG)
                if tag in directory}
    except Exception:  # Pillow raises many kinds of exceptions for damaged files
        return None


def _numbers(value: object) -> list[int]:
    values = value if isinstance(value, tuple) else (value,)
    return [number for number in values if isinstance(number, int)]


def _int(value: object) -> int:
    return next(iter(_numbers(value)), 0)
