"""The meaning of file names in CASIA and FaceForensics++, and the paths of frames."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

AUTHENTIC, TAMPERED = 0, 1
PICTURES = (b".jpg", b".jpeg", b".jpe", b".jfif", b".jif", b".pjpeg", b".pjp", b".mpo", b".jps",
            b".tif", b".tiff", b".bmp", b".dib", b".png", b".apng", b".webp", b".gif",
            b".heic", b".heif", b".hif", b".heics", b".heifs", b".avif", b".avifs",
            b".jp2", b".j2k", b".j2c", b".jpc", b".jpf", b".jpx")
VIDEOS = (b".mp4", b".m4v", b".mov", b".qt", b".3gp", b".3g2", b".avi", b".mkv", b".webm",
          b".mpg", b".mpeg", b".mpe", b".m1v", b".m2v", b".vob")
FRAMES = 10  # default number of frames of a video

# Au_ani_00001 (CASIA 2), Au_ani_0001 (CASIA 1)
_AUTHENTIC = re.compile(r"Au_([a-z]{3})_(\d{4,5})")
# Tp_D_CRN_S_N_cha00063_art00014_11818; Sp_D_NNN_A_ani0099_ani0100.0288 (CASIA 1, with a dot)
_TAMPERED = re.compile(
    r"(?:Tp|Sp)_([DS])_[A-Za-z]{3}(?:_[A-Z])+_([a-z]{3})(\d{4,5})_([a-z]{3})(\d{4,5})[._](\d+)")
# 000 and 000_003: dataset/README.md of FaceForensics++, "<target sequence>_<source sequence>"
_SEQUENCES = re.compile(r"(\d{3})(?:_(\d{3}))?")


@dataclass(frozen=True)
class Name:
    """A parsed CASIA name.

    Attributes:
        label: 0 authentic, 1 tampered.
        sources: ids of the pictures it was made from, such as ``ani87``: category and number
            without leading zeros, since CASIA 1's ``ani0087`` is the same file as CASIA 2's
            ``ani00087``. Those of a tampered picture are target and source, which are equal for a
            copy-move.
    """

    label: int
    sources: tuple[str, ...]


def parse(stem: str) -> Name | None:
    """Meaning of a file name without its extension; None if it is not a CASIA name."""
    if match := _AUTHENTIC.fullmatch(stem):
        return Name(AUTHENTIC, (_source(*match.groups()),))
    if match := _TAMPERED.fullmatch(stem):
        _, *ids, _ = match.groups()
        return Name(TAMPERED, (_source(*ids[:2]), _source(*ids[2:])))
    return None


def sequences(stem: str) -> tuple[str, ...]:
    """Ids of the original videos of a FaceForensics++ video; empty for other names."""
    match = _SEQUENCES.fullmatch(stem)
    return tuple(f"sequence {number}" for number in match.groups() if number) if match else ()


def _source(category: str, number: str) -> str:
    return f"{category}{int(number)}"


class Nth(NamedTuple):
    """The frame in the middle of the ``number``-th (from 1) of ``parts`` equal parts of a video."""

    number: int
    parts: int

    def __str__(self) -> str:
        return f"frame={self.number}of{self.parts}"


class At(NamedTuple):
    """The first frame that is not earlier than ``milliseconds`` after a video's start."""

    milliseconds: int

    def __str__(self) -> str:
        return f"frame={self.milliseconds // 1000}.{self.milliseconds % 1000:03}s"


Moment = Nth | At
# not the name of a file in a list, which ends in one of PICTURES or VIDEOS or has no ending
_FRAME = re.compile(rb"(.*)#frame=(?:(\d{1,9})of(\d{1,9})|(\d{1,9})\.(\d{3})s)", re.DOTALL)


def evenly(parts: int) -> list[Nth]:
    """Evenly spaced moments of a video, one in the middle of each of ``parts`` equal parts."""
    return [Nth(number, parts) for number in range(1, parts + 1)]


def frame_path(video: bytes, moment: Moment) -> bytes:
    """Path of the row of a frame: ``clip.mp4#frame=3of10`` or ``clip.mp4#frame=12.500s``."""
    return b"%b#%b" % (video, str(moment).encode())


def parse_path(path: bytes) -> tuple[bytes, Moment | None]:
    """The file of a row and, for a video, its moment."""
    match = _FRAME.fullmatch(path) if b"#frame=" in path else None
    if match is None or not match[1].lower().endswith(VIDEOS):
        return path, None
    file, number, parts, seconds, milliseconds = match.groups()
    if not parts:
        return file, At(int(seconds + milliseconds))
    moment = Nth(int(number), int(parts))
    return (file, moment) if 1 <= moment.number <= moment.parts else (path, None)
