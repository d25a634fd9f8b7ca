"""A file of the list, before the groups are known."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

NO_PART = 255  # of a picture that no author's split assigns


class Item(NamedTuple):
    """A picture or video.

    Attributes:
        path: relative to its root.
        label: 0 authentic, 1 tampered.
        home: path of its data set relative to the root, with a final slash unless empty.
        inside: path below the folder of its class.
        part: that its author's split assigns (``split.PARTS``), or ``NO_PART``.
        rule: what says which pictures it shares a source with; empty if nothing does.
        keys: given by ``rule``: pictures that share a key share a source.
    """

    path: bytes
    label: int
    home: bytes
    inside: bytes
    part: int = NO_PART
    rule: str = ""
    keys: tuple[str, ...] = ()


def locate(roots: dict[str, Path], path: bytes) -> bytes:
    """Absolute path of the file of a row, given the roots of the catalogue."""
    name, _, rest = path.partition(b"/")
    if os.fsdecode(name) in roots:
        return os.path.join(os.fsencode(roots[os.fsdecode(name)]), rest)
    return os.path.join(os.fsencode(roots[""]), path)


def stem(path: bytes) -> bytes:
    """The name of a file without folder and extension."""
    return path.rpartition(b"/")[2].rpartition(b".")[0]


def folder(path: bytes) -> bytes:
    """The folder of a file, without a final slash."""
    return path.rpartition(b"/")[0]


def some(values: list[bytes], most: int = 3) -> str:
    """The first of several paths as text."""
    return ", ".join(map(os.fsdecode, values[:most])) + " …" * (len(values) > most)


def encoded(text: str) -> bytes:
    """A path from a text file as bytes; one that no file can have stays some such path."""
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can hold
        return text.encode("utf-8", "surrogatepass")
