"""The files to predict, from what the user named: files, folders, patterns, a list on stdin."""

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

    A word is an existing file or folder, or else a pattern such as ``'*/photo?.jpg'`` (``**`` for
    any depth), or ``-``: a list on standard input, with one path per line, or with each path ended
    by a NUL character as ``find -print0`` writes it, for names that contain line ends.

    A missing file or an unreadable folder is kept in the list if it came from standard input or
    from within a folder: reading it gives the reason, and all others are processed.

    Args:
        words: from the command line.
        stdin: standard input; that of this process by default.

    Raises:
        InputError: a word matches nothing.
    """
    paths: list[bytes] = []
    for word in words:
        if word == STDIN:
            for path in listed(_stdin() if stdin is None else stdin):
                paths += _below(path) if os.path.isdir(path) else [path]
        elif os.path.isdir(word):
            paths += _below(os.fsencode(word))
        elif os.path.lexists(word):
            paths.append(os.fsencode(word))
        else:
            matches = sorted(map(os.fsencode, glob.iglob(word, recursive=True)))
            if not matches:
                raise InputError(f"no picture or folder matches the pattern '{word}'"
                                 if glob.has_magic(word)
                                 else f"there is no picture or folder '{word}'")
            for path in matches:
                paths += _below(path) if os.path.isdir(path) else [path]
    return paths


def _stdin() -> BinaryIO | None:
    """Standard input as bytes; None if it is closed."""
    return getattr(sys.stdin, "buffer", None)


def listed(stdin: BinaryIO | None) -> list[bytes]:
    """Paths of a list: NUL-separated if it contains a NUL, else one per line.

    Raises:
        InputError: standard input is closed.
    """
    if stdin is None:
        raise InputError("- reads a list of paths from standard input, which is closed: give it "
                         "one, such as find folder -name '*.jpg' -print0 | "
                         "hpc-deepfake predict --model RUN -")
    data = stdin.read()
    if b"\0" in data:
        return [path for path in data.split(b"\0") if path]
    return [path for path in (line.removesuffix(b"\r") for line in data.split(b"\n")) if path]


def _below(folder: bytes) -> Iterator[bytes]:
    """Pictures and videos below a folder, sorted; then the folders that can't be listed."""
    unreadable: list[bytes] = []
    for parent, folders, files in os.walk(
            folder, onerror=lambda error: unreadable.append(os.fsencode(error.filename))):
        folders.sort()
        for name in sorted(files):
            if not name.startswith(b".") and name.lower().endswith(PICTURES + VIDEOS):
                yield os.path.join(parent, name)
    yield from unreadable
