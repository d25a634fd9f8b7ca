"""Files of generated pictures: JPEG saves, masks as PNG, and the comment that names their set."""

from __future__ import annotations

import zlib
from pathlib import Path

import cv2
import numpy as np

_COMMENT = b"\xff\xd8\xff\xfe"  # a comment right after the start marker (ITU-T T.81, B.2.4.5)
_HEADER = 33  # bytes of a PNG file's signature and its first chunk, IHDR (ISO/IEC 15948)


def encode(pixels: np.ndarray, quality: int, comment: str = "") -> bytes:
    """Baseline JPEG with 4:2:0, as used for every save.

    Args:
        pixels: uint8 (H, W, 3), blue-green-red.
        quality: of the IJG's tables, 1 to 100.
        comment: at the start of the file, if any; ASCII.
    """
    options = {
        cv2.IMWRITE_JPEG_QUALITY: quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR: cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    }
    data = cv2.imencode(".jpg", pixels, sum(options.items(), ()))[1].tobytes()
    return commented(comment) + data[2:] if comment else data


def saved(pixels: np.ndarray, quality: int | None) -> np.ndarray:
    """The pixels after a save at this quality (None: without loss), uint8 (H, W, 3)."""
    if quality is None:
        return pixels
    decoded = cv2.imdecode(np.frombuffer(encode(pixels, quality), np.uint8), cv2.IMREAD_COLOR)
    if decoded is None:
        raise RuntimeError("OpenCV cannot decode the JPEG that it encoded")
    return decoded


def commented(comment: str) -> bytes:
    """The start of a JPEG file with this comment: the start marker and the comment's segment."""
    text = comment.encode("ascii")
    return _COMMENT + (len(text) + 2).to_bytes(2, "big") + text


def says(data: bytes, beginning: str) -> bool:
    """Whether a JPEG file starts with a comment that begins like this."""
    start = commented(beginning)  # the length of the segment is in two bytes before the text
    return data.startswith(start[:4]) and data.startswith(start[6:], 6)


def mask(changed: np.ndarray, comment: str) -> bytes:
    """A mask as a grey PNG file: 255 where the picture was changed, else 0.

    Args:
        changed: bool (H, W).
        comment: at the start of the file; ASCII.
    """
    data = cv2.imencode(".png", changed.astype(np.uint8) * 255)[1].tobytes()
    return data[:_HEADER] + _chunk(comment) + data[_HEADER:]


def is_of(path: Path, comment: str) -> bool:
    """Whether there is a file with this comment, written by ``encode`` or ``mask``."""
    starts = commented(comment), _chunk(comment)
    try:
        with open(path, "rb") as file:
            head = file.read(_HEADER + len(starts[1]))
    except FileNotFoundError:
        return False
    return head.startswith(starts[0]) or head[_HEADER:] == starts[1]


def _chunk(comment: str) -> bytes:
    content = b"tEXtComment\0" + comment.encode("ascii")
    return (len(content) - 4).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")
