"""The list of pictures: path, label and group of every row, in a fixed order."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes

import numpy as np

from hpc_deepfake.core import watchdog
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import plural
from preprocessing.listing import copies, groups, manifest, parts, sets, walk
from preprocessing.listing.groups import components
from preprocessing.listing.item import NO_PART, Item, locate, some
from preprocessing.names import (
    AUTHENTIC,
    FRAMES,
    TAMPERED,
    VIDEOS,
    Moment,
    evenly,
    frame_path,
    parse_path,
)
from preprocessing.split import PARTS

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

__all__ = ["LABELS", "SAMPLE_MARK", "Catalogue", "Moments", "components", "is_sample", "locate",
           "scan", "scan_manifest", "scan_pair", "with_copies"]

Moments = Callable[[bytes], Sequence[Moment]]  # file name of a video → its frames to use
LABELS = ("authentic", "tampered")
SAMPLE_MARK = "SAMPLE_DATA.txt"  # marks a folder of generated sample data


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
        sample: whether any of the pictures were drawn by this project (``SAMPLE_MARK``).
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
    sample: bool = False

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


def _default_moments(path: bytes) -> Sequence[Moment]:
    return evenly(FRAMES)


def scan(data: Path, moments: Moments = _default_moments, one_class: bool = False,
         group_by: str = "auto") -> Catalogue:
    """Catalogue of all data sets in a folder: real/ and fake/, CASIA, and others that docs/data.md
    lists.

    Only a few pictures are opened; ``with_copies`` finds files with the same bytes.

    Args:
        data: the folder.
        moments: the frames of a video that become rows, given the file name of the video.
        one_class: accept a folder of one class only, such as ``Au/`` alone.
        group_by: one of ``groups.BY``.

    Raises:
        InputError: there is no such folder, no data set in it, or only one class.
    """
    if not data.is_dir():
        raise InputError(f"there is no folder of pictures '{data}'. {_sample_advice(data)}")
    notes: list[str] = []
    places = list(sets.search(data, notes, set()))
    if one_class and not places:
        places = list(sets.search(data, notes, set(), classes=any))
    real = [place for place in places if not is_sample(place.home)]
    if real and len(real) < len(places):
        notes.append("generated sample data left out, since there are other pictures")
        places = real
    seen: set[tuple[int, int]] = set()
    listed = [sets.listed(place, notes, seen) for place in places]
    if not any(each.items for each in listed):
        raise InputError(_nothing(data, notes))
    return replace(_catalogue({"": data.resolve()}, listed, moments, group_by, notes, one_class),
                   sample=any(is_sample(place.home) for place in places))


def scan_pair(authentic: Path | None, tampered: Path | None, moments: Moments = _default_moments,
              group_by: str = "auto") -> Catalogue:
    """Catalogue of authentic pictures of one data set and tampered ones of another, or of pictures
    of one class only.

    Either folder may be a whole data set, of which the folder of that class is used, or contain
    just pictures.

    Args:
        authentic: folder of the authentic pictures; None: there are none.
        tampered: folder of the tampered pictures; None: there are none.
        moments: as in ``scan``.
        group_by: as in ``scan``.

    Raises:
        InputError: a folder is missing or has no pictures.
    """
    roots: dict[str, Path] = {}
    notes: list[str] = []
    listed: list[sets.Listed] = []
    seen: set[tuple[int, int]] = set()
    for label, place in ((AUTHENTIC, authentic), (TAMPERED, tampered)):
        if place is None:
            continue
        if not place.is_dir():
            raise InputError(f"there is no folder of {LABELS[label]} pictures '{place}': "
                             f"check --{LABELS[label]}")
        inside = sets.class_folders(walk.subfolders(place, notes))[label]
        found = [sets.pictures_of(place / name, os.fsencode(os.path.join(LABELS[label], name, "")),
                                  label, notes, seen) for name in inside or [""]]
        if not any(each.items for each in found):
            raise InputError(f"no pictures in the folder of {LABELS[label]} ones, '{place}': "
                             f"check --{LABELS[label]}")
        listed += found
        roots[LABELS[label]] = place.resolve()
    one_class = authentic is None or tampered is None
    return replace(_catalogue(roots, listed, moments, group_by, notes, one_class), sample=any(
        is_sample(place) for root in roots.values() for place in (root, root.parent)))


def scan_manifest(file: Path, data: Path | None = None, moments: Moments = _default_moments,
                  one_class: bool = False, group_by: str = "auto") -> Catalogue:
    """Catalogue of the pictures and videos that a list of files names (``manifest.read``).

    Args:
        file: the list.
        data: the folder that its paths are relative to; that of the list by default.
        moments: as in ``scan``.
        one_class: as in ``scan``.
        group_by: as in ``scan``, for rows without a group.

    Raises:
        InputError: the list can't be read or understood, or names files that don't exist.
    """
    root = file.parent if data is None else data
    found = manifest.read(file, root)
    listed = sets.Listed(found.items, found.masks, 0)
    catalogue = _catalogue({"": root.resolve()}, [listed], moments, group_by, [], one_class,
                           "manifest")
    return replace(catalogue, given=found.given, sample=any(is_sample(root / os.fsdecode(place))
                                                            for place in found.folders))


def with_copies(catalogue: Catalogue | None, comm: Comm | None = None) -> Catalogue | None:
    """The catalogue with files of the same bytes in one group; with ``comm`` collective.

    Args:
        catalogue: on rank 0; None on other ranks.
        comm: all ranks, which share the reading.

    Returns:
        It on rank 0; None on other ranks.
    """
    watchdog.enter("comparing files of equal size")
    rows: dict[bytes, int] = {}  # first row of each file
    if catalogue is not None:
        for row, path in enumerate(catalogue.paths):
            rows.setdefault(parse_path(path)[0], row)
        files = [locate(catalogue.roots, path) for path in rows]
    found = copies.identical(files if catalogue is not None else [], comm)
    if catalogue is None or not found:
        return catalogue
    first = list(rows.values())
    keys = [(f"{group}",) for group in catalogue.groups.tolist()]
    by_group: dict[int, list[str]] = {}
    for number, members in enumerate(found):
        for member in members:
            by_group.setdefault(int(catalogue.groups[first[member]]), []).append(f"copy {number}")
    joined = components((*key, *by_group.get(group, ())) for key, group in zip(
        keys, catalogue.groups.tolist(), strict=True))
    paths = list(rows)
    same = {paths[member] for members in found for member in members}
    rules = [groups.BYTES if rule == groups.NAME and parse_path(path)[0] in same else rule
             for rule, path in zip(catalogue.rules, catalogue.paths)]
    notes = [f"{plural(sum(map(len, found)), 'file')} in {plural(len(found), 'set')} of the same "
             "bytes, each set in one group: "
             + some([b" = ".join(paths[member] for member in members[:2]) for members in found], 2)]
    both = [members for members in found
            if len({int(catalogue.labels[first[member]]) for member in members}) > 1]
    if both:
        notes.append(f"{plural(len(both), 'set')} of the same bytes in both classes, so one label "
                     "is wrong: "
                     + some([b" = ".join(paths[member] for member in members[:2])
                             for members in both], 2))
    return replace(catalogue, groups=joined, rules=rules, notes=[*catalogue.notes, *notes])


def is_sample(folder: Path) -> bool:
    """Whether a folder holds drawn sample pictures."""
    return (folder / SAMPLE_MARK).exists()


def _sample_advice(data: Path) -> str:
    return (f"Name your folder with --data DIR, or make sample data first:\n"
            f"  hpc-deepfake sample --out {shlex.quote(str(data / 'sample'))}")


def _nothing(data: Path, notes: list[str]) -> str:
    """Why no pictures were found in a folder, and the ways out."""
    names = [name for name in walk.subfolders(data, []) if not name.startswith(".")]
    there = f"It has the folders {some([os.fsencode(name) for name in names], 5)}. " if names \
        else ""
    return (f"no pictures in '{data}': looked for a folder of each class (real/ and fake/, Au/ and "
            f"Tp/, and others that docs/data.md lists), down to {sets.DEPTH} levels, and for "
            f"COVERAGE, IMD2020, NIST16 and DFDC. {there}"
            + "".join(f"({note}) " for note in notes)
            + "Name the folders of the classes real and fake; or give one folder for each class "
            "with --authentic DIR --tampered DIR; or list the files with their labels, with "
            "--manifest LIST.csv; or " + _sample_advice(data).replace("Name", "name", 1))


def _catalogue(roots: dict[str, Path], listed: Sequence[sets.Listed], moments: Moments,
               group_by: str, notes: list[str], one_class: bool = False,
               parts_from: str = "folder") -> Catalogue:
    items = sets.with_coco([item for each in listed for item in each.items])
    missing = set(range(2)) - {item.label for item in items}
    if missing and not one_class:
        raise InputError(f"no {LABELS[missing.pop()]} pictures in "
                         + ", ".join(str(root) for root in roots.values())
                         + ": add a folder of them beside the others, or give one folder for each "
                         "class with --authentic DIR --tampered DIR")
    masks = {path: mask for each in listed for path, mask in each.masks.items()}
    left = sum(each.left for each in listed)
    if masks or left:
        notes.append(
            f"{plural(len(masks) + left, 'ground-truth mask')}, not counted as pictures: "
            f"{len(masks):,} of tampered pictures" + (f" ({some([*masks.values()], 1)})"
                                                      if masks else "")
            + (f", {left:,} others" if left else ""))
    items, parts_found = _parts(items, parts_from, notes)
    keys = groups.keys_of(items, partial(locate, roots), group_by)
    notes += keys.notes
    paths, counts = _rows(items, roots, moments, notes)
    labels = np.repeat(np.fromiter((item.label for item in items), np.uint8, len(items)), counts)
    if not paths:
        raise InputError("the videos have no frames: check them, or --frame-rate")
    return Catalogue(
        roots, paths, labels, np.repeat(components(keys.keys), counts), notes,
        None if parts_found is None else np.repeat(parts_found, counts),
        "" if parts_found is None else parts_from, masks,
        list(chain.from_iterable(map(repeat, keys.rules, counts.tolist()))))


def _rows(items: Sequence[Item], roots: dict[str, Path], moments: Moments,
          notes: list[str]) -> tuple[list[bytes], np.ndarray]:
    """Paths of all rows, and the number of rows of each item."""
    paths: list[bytes] = []
    counts = np.ones(len(items), np.int64)
    videos: dict[bytes, list[int]] = {}  # rows of the videos of each class folder
    for number, item in enumerate(items):
        if not item.path.lower().endswith(VIDEOS):
            paths.append(item.path)
            continue
        watchdog.advance()
        frames = moments(locate(roots, item.path))
        counts[number] = len(frames)
        top = item.path[:len(item.path) - len(item.inside)].rstrip(b"/")
        videos.setdefault(top, []).append(len(frames))
        paths += [frame_path(item.path, moment) for moment in frames]
    notes += [f"{os.fsdecode(locate(roots, top))}: {sum(rows):,} frames of {len(rows):,} videos"
              for top, rows in videos.items()]
    return paths, counts


def _parts(items: list[Item], parts_from: str,
           notes: list[str]) -> tuple[list[Item], np.ndarray | None]:
    """The author's split, uint8 (number of items); None if there is none, as with one part only."""
    found = np.fromiter((item.part for item in items), np.uint8, len(items))
    present = set(found.tolist()) - {NO_PART}
    if not present or (parts_from == "folder" and len(present) < 2):
        return items, None
    notes.append(f"the author's split, by {parts_from}, is kept unless --split is given: "
                 + ", ".join(f"{int((found == part).sum()):,} {parts.names_of({part}) or 'in none'}"
                             for part in sorted({*present, *found.tolist()})) + " (files)")
    return items, found
