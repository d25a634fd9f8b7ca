"""The list of pictures in folders: path, label and group of every row, in a fixed order."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple, NoReturn
from urllib.parse import quote_from_bytes

import numpy as np

from hpc_deepfake.core import watchdog
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import plural
from preprocessing.names import (
    AUTHENTIC,
    FRAMES,
    PICTURES,
    TAMPERED,
    VIDEOS,
    Moment,
    evenly,
    frame_path,
    parse,
    parse_path,
)
from preprocessing.listing.ids import of_video

EXTENSIONS = PICTURES
Moments = Callable[[bytes], Sequence[Moment]]  # file name of a video → its frames to use
FOLDERS = {
    AUTHENTIC: ("au", "authentic", "real", "original", "pristine"),
    TAMPERED: ("tp", "sp", "modified tp", "tampered", "fake", "forged"),
}
LABELS = ("authentic", "tampered")
SAMPLE_MARK = "SAMPLE_DATA.txt"  # marks a folder of generated sample data
_MASK = b"_gt"  # ends the name of a ground-truth mask
_DEPTH = 3  # levels of folders below the given one that are searched for data sets


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
        sample: whether any of the pictures were drawn by this project (``SAMPLE_MARK``).
    """

    roots: dict[str, Path]
    paths: list[bytes]
    labels: np.ndarray
    groups: np.ndarray
    notes: list[str] = field(default_factory=list)
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


def locate(roots: dict[str, Path], path: bytes) -> bytes:
    """Absolute path of the file of a row, given the roots of the catalogue."""
    name, _, rest = path.partition(b"/")
    if os.fsdecode(name) in roots:
        return os.path.join(os.fsencode(roots[os.fsdecode(name)]), rest)
    return os.path.join(os.fsencode(roots[""]), path)


def _default_moments(path: bytes) -> Sequence[Moment]:
    return evenly(FRAMES)


def scan(data: Path, moments: Moments = _default_moments, one_class: bool = False) -> Catalogue:
    """Catalogue of all data sets in a folder (CASIA 1, CASIA 2, real/ and fake/ …).

    Args:
        data: the folder.
        moments: the frames of a video that become rows, given the file name of the video.
        one_class: accept a folder of one class only, such as ``Au/`` alone.

    Raises:
        InputError: there is no such folder, or no data set in it.
    """
    if not data.is_dir():
        raise InputError(f"there is no folder of pictures '{data}'. {_advice(data)}")
    notes: list[str] = []
    data_sets = list(_data_sets(data, 0, notes, set()))
    if one_class and not data_sets:
        data_sets = list(_data_sets(data, 0, notes, set(), any))
    real = [(home, folders) for home, folders in data_sets if not is_sample(home)]
    if real and len(real) < len(data_sets):
        notes.append("generated sample data left out, since there are other pictures")
        data_sets = real
    entries: list[_Entry] = []
    seen: set[tuple[int, int]] = set()
    for home, folders in data_sets:
        prefix = b"" if home == data else os.fsencode(home.relative_to(data)) + b"/"
        for label, names in folders.items():
            for name in names:
                top = prefix + os.fsencode(name) + b"/"
                entries += _entries(home / name, top, label, prefix, moments, notes, seen)
    if not entries:
        raise InputError(f"no pictures in '{data}': looked for folders Au/ and Tp/ (or Sp/), "
                         f"or real/ and fake/, down to {_DEPTH} levels. "
                         + "".join(f"({note}) " for note in notes) + _advice(data))
    return replace(_catalogue({"": data.resolve()}, entries, notes, one_class),
                   sample=any(is_sample(home) for home, _ in data_sets))


def scan_pair(authentic: Path | None, tampered: Path | None,
              moments: Moments = _default_moments) -> Catalogue:
    """Catalogue of authentic pictures of one data set and tampered ones of another, or of pictures
    of one class only.

    Either folder may be a whole data set, of which the folder of that class is used, or contain
    just pictures.

    Args:
        authentic: folder of the authentic pictures; None: there are none.
        tampered: folder of the tampered pictures; None: there are none.
        moments: as in ``scan``.

    Raises:
        InputError: a folder is missing or has no pictures.
    """
    roots: dict[str, Path] = {}
    entries: list[_Entry] = []
    notes: list[str] = []
    seen: set[tuple[int, int]] = set()
    for label, folder in ((AUTHENTIC, authentic), (TAMPERED, tampered)):
        if folder is None:
            continue
        if not folder.is_dir():
            raise InputError(f"there is no folder of {LABELS[label]} pictures '{folder}': "
                             f"check --{LABELS[label]}")
        inside = _class_folders(_subfolders(folder, notes))[label]
        start = len(entries)
        for name in inside or [""]:
            top = os.fsencode(os.path.join(LABELS[label], name, ""))
            entries += _entries(folder / name, top, label, b"", moments, notes, seen)
        if len(entries) == start:
            raise InputError(f"no pictures in the folder of {LABELS[label]} ones, '{folder}': "
                             f"check --{LABELS[label]}")
        roots[LABELS[label]] = folder.resolve()
    one_class = authentic is None or tampered is None
    return replace(_catalogue(roots, entries, notes, one_class), sample=any(
        is_sample(place) for root in roots.values() for place in (root, root.parent)))


def is_sample(folder: Path) -> bool:
    """Whether a folder holds drawn sample pictures."""
    return (folder / SAMPLE_MARK).exists()


def _advice(data: Path) -> str:
    return (f"Name your folder with --data DIR, or make sample data first:\n"
            f"  hpc-deepfake sample --out {shlex.quote(str(data / 'sample'))}")


class _Entry(NamedTuple):
    """A row: path and label. ``scene`` is the path without the folder of the class, which a picture
    of the other class may share."""

    path: bytes
    label: int
    scene: bytes


def _entries(folder: Path, top: bytes, label: int, home: bytes, moments: Moments,
             notes: list[str], seen: set[tuple[int, int]]) -> Iterator[_Entry]:
    """Rows of the folder of a class.

    Args:
        folder: the folder.
        top: its path relative to the root, with a final slash.
        label: label of its pictures.
        home: path of its data set relative to the root, with a final slash unless empty.
        moments: the frames of a video that become rows.
        notes: gets remarks for the user.
        seen: device and inode of the folders visited so far.
    """
    videos = rows = 0
    for name in _pictures(folder, notes, seen):
        watchdog.advance()
        if name.lower().endswith(VIDEOS):
            frames = moments(os.path.join(os.fsencode(folder), name))
            videos, rows = videos + 1, rows + len(frames)
            for moment in frames:
                yield _Entry(frame_path(top + name, moment), label, home + name)
        else:
            yield _Entry(top + name, label, home + name)
    if videos:
        notes.append(f"{folder}: {rows:,} frames of {videos:,} videos")


def _subfolders(folder: Path, notes: list[str]) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries
                          if entry.is_dir(follow_symlinks=False)
                          or (entry.is_symlink() and os.path.isdir(entry.path)))
    except OSError as error:  # lost+found and the like
        notes.append(f"{folder} left out: {error.strerror}")
        return []


def _class_folders(names: list[str]) -> dict[int, list[str]]:
    """Those of the names that are folders of a class, by label."""
    folders: dict[int, list[str]] = {AUTHENTIC: [], TAMPERED: []}
    for name in names:
        for label, accepted in FOLDERS.items():
            if name.lower() in accepted:
                folders[label].append(name)
    return folders


def _is_new(folder: Path | bytes, seen: set[tuple[int, int]]) -> bool:
    """Whether ``folder`` was not visited yet: a link may lead back up, or to another data set."""
    status = os.stat(folder)
    key = (status.st_dev, status.st_ino)
    new = key not in seen
    seen.add(key)
    return new


def _data_sets(folder: Path, depth: int, notes: list[str], seen: set[tuple[int, int]],
               classes: Callable[[Iterable[object]], bool] = all
               ) -> Iterator[tuple[Path, dict[int, list[str]]]]:
    """Folders that contain both classes, or with ``any`` one of them, with the names of their class
    folders by label."""
    if not _is_new(folder, seen):
        return
    names = [name for name in _subfolders(folder, notes) if not name.startswith(".")]
    folders = _class_folders(names)
    if classes(folders.values()):
        others = [name for name in names if name not in chain(*folders.values())]
        if others:  # ground-truth masks, for example
            notes.append(f"{folder}: left out {', '.join(others)}")
        yield folder, folders
    elif depth < _DEPTH:
        for name in names:
            yield from _data_sets(folder / name, depth + 1, notes, seen, classes)


def _pictures(folder: Path, notes: list[str], seen: set[tuple[int, int]]) -> list[bytes]:
    """Pictures and videos below ``folder``, relative to it, sorted by their bytes."""
    def fail(error: OSError) -> NoReturn:
        raise InputError(f"cannot list {os.fsdecode(error.filename)}: {error.strerror}")

    top = os.fsencode(folder)
    pictures: list[bytes] = []
    others: Counter[str] = Counter()
    for current, folders, files in os.walk(top, followlinks=True, onerror=fail):
        if not _is_new(current, seen):
            folders.clear()
            continue
        folders.sort()
        watchdog.advance()
        inside = current[len(top):].lstrip(b"/")
        for name in files:
            if name.startswith(b"."):
                continue
            stem, ending = os.path.splitext(name.lower())
            if stem.endswith(_MASK):
                others["ground-truth masks"] += 1
            elif ending in PICTURES or ending in VIDEOS:
                pictures.append(inside + b"/" + name if inside else name)
            else:
                others[os.fsdecode(ending) or "no extension"] += 1
    if others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in others.most_common(4))
        notes.append(f"{folder}: {plural(others.total(), 'file')} left out, not named like "
                     f"pictures or videos ({kinds})")
    return sorted(pictures)


def _catalogue(roots: dict[str, Path], entries: list[_Entry], notes: list[str],
               one_class: bool = False) -> Catalogue:
    paths = [entry.path for entry in entries]
    labels = np.fromiter((entry.label for entry in entries), np.uint8, len(entries))
    keys: list[tuple[str, ...]] = []
    contradictions: dict[str, None] = {}  # an ordered set, since a video has many rows
    for path, label, scene in entries:
        stem = scene.rpartition(b".")[0]
        name = os.fsdecode(stem.rpartition(b"/")[2])
        parsed = parse(name)
        if parsed is None:  # real/0001.png and fake/0001.png are of the same scene
            shown = of_video(name) if scene.lower().endswith(VIDEOS) else None
            keys.append(shown.ids if shown else (f"scene {os.fsdecode(stem)}",))
        else:
            keys.append(parsed.sources)
            if parsed.label != label:
                contradictions.setdefault(os.fsdecode(parse_path(path)[0]))
    if contradictions:
        notes.append(f"{plural(len(contradictions), 'name')} in the folder of the other class, "
                     "labelled by the folder: "
                     + ", ".join(list(contradictions)[:3])
                     + (" …" if len(contradictions) > 3 else ""))
    missing = set(range(2)) - set(labels.tolist())
    if missing and not one_class:
        raise InputError(f"no {LABELS[missing.pop()]} pictures in "
                         + ", ".join(str(root) for root in roots.values()))
    return Catalogue(roots, paths, labels, components(keys), notes)


def components(keys: Iterable[tuple[str, ...]]) -> np.ndarray:
    """Group of each row: rows that share a key, directly or through others, are in one group.

    Returns:
        int32 (N), numbered from 0 in order of appearance.
    """
    parent: list[int] = []
    number: dict[str, int] = {}

    def find(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    first = []
    for row in keys:
        nodes = []
        for key in row:
            node = number.setdefault(key, len(parent))
            if node == len(parent):
                parent.append(node)
            nodes.append(find(node))
        for node in nodes[1:]:
            parent[find(node)] = find(nodes[0])
        first.append(nodes[0])
    names: dict[int, int] = {}
    return np.fromiter((names.setdefault(find(node), len(names)) for node in first),
                       np.int32, len(first))
