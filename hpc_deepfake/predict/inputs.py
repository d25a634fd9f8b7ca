"""What a user names: files, folders, patterns, a list on standard input → one list of files."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from hpc_deepfake.core.errors import InputError
from preprocessing.names import PICTURES, VIDEOS

STDIN = "-"


def is_video(path: bytes) -> bool:
    """Whether the name is that of a video."""
    return path.lower().endswith(VIDEOS)


def find(words: Sequence[str], stdin: BinaryIO | None = None) -> list[bytes]:
    """Files in the order in which they are named; of folders all pictures and videos below, sorted.

    A word is a file or folder that exists, else a pattern like ``'*/photo?.jpg'`` (``**`` for any
    depth), or ``-``: a list on standard input, one path a line, or each ended by a NUL character as
    ``find -print0`` writes it, for names that hold line ends.

    A file that is gone or a folder that can't be listed is in the list too if it came from
    standard input or from within a folder: reading it gives the reason, and the others are done.

    Raises:
        InputError: a word names nothing.
    """
    found: list[bytes] = []
    for word in words:
        if word == STDIN:
            for path in listed(sys.stdin and sys.stdin.buffer if stdin is None else stdin):
                found += _below(path) if os.path.isdir(path) else [path]
        elif os.path.isdir(word):
            found += _below(os.fsencode(word))
        elif os.path.lexists(word):
            found.append(os.fsencode(word))
        else:
            matches = sorted(map(os.fsencode, glob.iglob(word, recursive=True)))
            if not matches:
                raise InputError(f"no picture or folder fits the pattern '{word}'"
                                 if glob.has_magic(word)
                                 else f"there is no picture or folder '{word}'")
            for path in matches:
                found += _below(path) if os.path.isdir(path) else [path]
    return found


def listed(stdin: BinaryIO | None) -> list[bytes]:
    """Paths of a list: NUL-separated if there is a NUL in it, else one a line.

    Raises:
        InputError: standard input is closed.
    """
    if stdin is None:
        raise InputError("- stands for a list of paths on standard input, and that is closed; "
                         "use it like: find folder -name '*.jpg' -print0 | "
                         "hpc-deepfake predict --model RUN -")
    data = stdin.read()
    if b"\0" in data:
        return [path for path in data.split(b"\0") if path]
    return [path for path in (line.removesuffix(b"\r") for line in data.split(b"\n")) if path]


def _below(folder: bytes) -> Iterator[bytes]:
    """Pictures and videos below a folder, sorted; a folder that can't be listed, itself."""
    closed: list[bytes] = []
    for here, folders, files in os.walk(
            folder, onerror=lambda error: closed.append(os.fsencode(error.filename))):
        folders.sort()
        for name in sorted(files):
            if not name.startswith(b".") and name.lower().endswith(PICTURES + VIDEOS):
                yield os.path.join(here, name)
    yield from closed
