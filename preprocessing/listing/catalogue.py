"""The list of pictures, row by row."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote_from_bytes

import numpy as np

from hpc_deepfake.core.errors import InputError
from preprocessing.listing import groups, parts
from preprocessing.names import AUTHENTIC, parse_path
from preprocessing.split import PARTS

LABELS = ("authentic", "tampered")


@dataclass(frozen=True)
class Catalogue:
    """The pictures and frames of videos of one or more data sets, row by row.

    Attributes:
        roots: folder of each root by its name. A single root has the name ""; of two roots, paths
            begin with the name of theirs.
        paths: file names relative to their root, as bytes, since names need not be UTF-8; frames as
            in ``names.frame_path``, with the frames of a video one after another.
        labels: uint8 (N), 0 authentic, 1 tampered.
        groups: int32 (N), the same for pictures that share a source picture, directly or through
            others, and for all frames of a video; numbered in order of appearance.
        notes: remarks about the list for the user.
        parts: uint8 (N), the author's split: 0 train, 1 validation, 2 test, ``NO_PART`` where it
            says nothing; None without one.
        parts_from: where ``parts`` come from: ``folder`` or ``manifest``.
        masks: path of the ground-truth mask of each tampered picture or video that has one, by its
            file's path; both relative to the same root.
        rules: what grouped each row, such as ``folder``; empty if unknown.
        given: digest of the groups and parts of a list of files, hexadecimal; empty without.
        inverted: those of the masks in which black marks what was changed.
    """

    roots: dict[str, Path]
    paths: list[bytes]
    labels: np.ndarray
    groups: np.ndarray
    notes: list[str] = field(default_factory=list)
    parts: np.ndarray | None = None
    parts_from: str = ""
    masks: dict[bytes, bytes] = field(default_factory=dict)
    rules: list[str] = field(default_factory=list)
    given: str = ""
    inverted: frozenset[bytes] = frozenset()

    def __len__(self) -> int:
        return len(self.paths)

    def encoded(self) -> list[bytes]:
        """Paths percent-encoded, as ASCII (RFC 3986); ``#`` only precedes the frame of a video."""
        return [quote_from_bytes(file).encode() + path[len(file):]
                for path, file in ((path, parse_path(path)[0]) for path in self.paths)]

    def digest(self) -> str:
        """SHA-256 over paths and labels in row order, hexadecimal."""
        sha = hashlib.sha256(self.labels.tobytes())
        sha.update(b"\0".join(self.paths))
        return sha.hexdigest()

    def mask_of(self, row: int) -> bytes | None:
        """Path of the mask of a row, for a frame of that of its video; empty if it has none, None
        if it is authentic."""
        if self.labels[row] == AUTHENTIC:
            return None
        return self.masks.get(parse_path(self.paths[row])[0], b"")

    def masks_digest(self) -> str:
        """SHA-256 over the paths of pictures and their masks, and which of these are inverted,
        hexadecimal; empty without masks."""
        found = [text for path, mask in sorted(self.masks.items())
                 for text in (path, mask, b"inverted" if mask in self.inverted else b"")]
        return hashlib.sha256(b"\0".join(found)).hexdigest() if found else ""

    def only(self, part: int) -> Catalogue:
        """The rows of a part of the author's split; the groups keep their numbers.

        Raises:
            InputError: there is no such split, or nothing in that part.
        """
        where = ", ".join(map(str, self.roots.values()))
        if self.parts is None or not (self.parts == part).any():
            others = "" if self.parts is None else \
                f", but {parts.names_of(set(self.parts.tolist()))}"
            raise InputError(f"{where} is a folder and has no {PARTS[part]} part{others}: omit "
                             "--part, or run preprocessing on it and name its output with --data")
        rows = np.flatnonzero(self.parts == part).tolist()
        return replace(self, paths=[self.paths[row] for row in rows], labels=self.labels[rows],
                       groups=self.groups[rows], parts=self.parts[rows],
                       rules=[self.rules[row] for row in rows])

    def grouped(self) -> str:
        """What each rule grouped, as text; empty if that is unknown."""
        return groups.summary(self.rules, self.groups) if self.rules else ""
