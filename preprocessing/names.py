"""The meaning of CASIA's file names, and the paths of frames."""

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

# Au_ani_00001 (CASIA 2), Au_ani_0001 (CASIA 1); copies elsewhere are also spelt in lower case
_AUTHENTIC = re.compile(r"au_([a-z]{3})_?(\d{4,5})", re.IGNORECASE | re.ASCII)
# Tp_D_CRN_S_N_cha00063_art00014_11818; Sp_D_NNN_A_ani0099_ani0100.0288 (CASIA 1, with a dot);
# Tp_D_CNN_M_N_ind00001_10601, as copies of CASIA 2 name some, with one id
_TAMPERED = re.compile(
    r"[ts]p_[ds]_[a-z]{3}(?:_[a-z])+_([a-z]{3})_?(\d{4,5})(?:_([a-z]{3})_?(\d{4,5}))?"
    r"(?:[._](\d+))?", re.IGNORECASE | re.ASCII)
_LIKE_CASIA = re.compile(r"(?:au_[a-z]+_?\d|[ts]p_[a-z]_)", re.IGNORECASE)
# what file managers make of the name of a copy
_COPY_OF = re.compile(r"(?:(?:copy of|kopie von|copie de|copia de|copy_of_)\s*)+", re.IGNORECASE)
_COPY = re.compile(r"(?:\s*\(\d{1,4}\)|(?:\s-\s?|\s|_)(?:copy|kopie|copie|copia)(?: \d{1,4})?)+$",
                   re.IGNORECASE)


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
    """Meaning of a file name without its extension, in upper or lower case, also of the name that a
    file manager gives to a copy (``Copy of Au_ani_00001``, ``Au_ani_00001 (1)``); None if it is not
    a CASIA name."""
    name = plain(stem)
    if match := _AUTHENTIC.fullmatch(name):
        return Name(AUTHENTIC, (_source(*match.groups()),))
    if match := _TAMPERED.fullmatch(name):
        *ids, _ = match.groups()
        target = _source(*ids[:2])
        return Name(TAMPERED, (target, _source(*ids[2:]) if ids[2] else target))
    return None


def running_number(stem: str) -> str:
    """The number at the end of the name of a tampered picture of CASIA's, after the letters of its
    set and of how it was made, as in ``t_nrn_s_n_00002``; empty for other names."""
    match = _TAMPERED.fullmatch(plain(stem))
    return f"{match[0][0]}{match[0][4:match.start(1)]}{match[5]}".lower() \
        if match and match[5] else ""


def like_casia(stem: str) -> bool:
    """Whether a name begins like one of CASIA's, which ``parse`` may still not understand."""
    return _LIKE_CASIA.match(plain(stem)) is not None


def plain(stem: str) -> str:
    """A name without extension and without what file managers add to the names of copies."""
    if stem[-1:] == ")" or "op" in stem or "OP" in stem:  # nearly all names need no closer look
        return _COPY.sub("", _COPY_OF.sub("", stem))
    return stem


def _source(category: str, number: str) -> str:
    return f"{category.lower()}{int(number)}"


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
