"""From folders, or a list of files, to a catalogue."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, repeat
from pathlib import Path

import numpy as np

from hpc_deepfake.core import watchdog
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import plural
from preprocessing import kinds
from preprocessing.listing import groups, manifest, masks, parts, sets, walk
from preprocessing.listing.catalogue import LABELS, Catalogue
from preprocessing.listing.item import NO_PART, Item, locate, some
from preprocessing.names import AUTHENTIC, FRAMES, TAMPERED, VIDEOS, Moment, evenly, frame_path

Moments = Callable[[bytes], Sequence[Moment]]  # file name of a video → its frames to use
SAMPLE_MARK = "SAMPLE_DATA.txt"  # marks a folder of generated sample data


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
    if not os.path.isdir(data):
        raise InputError(f"there is no folder of pictures '{data}'. {_sample_advice(data)}")
    notes: list[str] = []
    apart: dict[Path, bytes] = {}
    places = list(sets.search(data, notes, set(), apart=apart))
    if one_class and not places:
        places = list(sets.search(data, notes, set(), classes=any, apart=apart))
    every = places
    real = [place for place in places if not os.path.exists(place.home / SAMPLE_MARK)]
    if real and len(real) < len(places):
        notes.append("generated sample data left out, since there are other pictures")
        places = real
    seen: walk.Seen = set()
    owners = sets.owners_of(places)
    listed = [sets.listed(place, notes, seen, owners) for place in places]
    if not any(each.items for each in listed):
        raise InputError(_nothing(data, notes))
    of_apart, used = sets.masks_apart(apart, listed, notes, seen)
    listed.append(of_apart)
    _note_lost(sets.outside(data, every, used), notes)
    return _catalogue({"": data.resolve()}, listed, moments, group_by, notes, one_class)


def _note_lost(lost: list[tuple[bytes, int]], notes: list[str]) -> None:
    if lost:
        shown = [b"%d in %b" % (count, path) for path, count in lost]
        notes.append(f"{plural(sum(count for _, count in lost), 'picture')} in no class left out "
                     f"({some(shown, 6)}): a data set has folders of both classes, at most "
                     f"{sets.DEPTH} levels down; put them into these, or list them with --manifest")


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
    seen: walk.Seen = set()
    names: dict[int, list[str]] = {}
    apart: dict[Path, bytes] = {}  # folders of masks beside the classes
    for label, place in ((AUTHENTIC, authentic), (TAMPERED, tampered)):
        if place is None:
            continue
        if not os.path.isdir(place):
            raise InputError(f"there is no folder of {LABELS[label]} pictures '{place}': "
                             f"check --{LABELS[label]}")
        inside = [name for name in walk.subfolders(place, notes) if not name.startswith(".")]
        names[label] = sets.class_folders(inside)[label] or [""]
        if names[label] != [""]:
            apart.update({place / name: os.fsencode(os.path.join(LABELS[label], name, ""))
                          for name in sets.note_others(place, inside, notes)})
            _note_lost(sets.outside(place, [sets.Place(place, b"", {}, [])]), notes)
    given = [(label, place) for label, place in ((AUTHENTIC, authentic), (TAMPERED, tampered))
             if place]
    owners = sets.owners_of(sets.Place(place, b"", {label: names[label]}, [])
                            for label, place in given)
    for label, place in given:
        found = [sets.pictures_of(place / name, os.fsencode(os.path.join(LABELS[label], name, "")),
                                  label, notes, seen, owners) for name in names[label]]
        if not any(each.items for each in found):
            raise InputError(f"no pictures in the folder of {LABELS[label]} ones, '{place}': "
                             f"check --{LABELS[label]}. {kinds.wanted()}")
        listed += found
        roots[LABELS[label]] = place.resolve()
    listed.append(sets.masks_apart(apart, listed, notes, seen)[0])
    one_class = authentic is None or tampered is None
    return _catalogue(roots, listed, moments, group_by, notes, one_class)


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
    missing = {AUTHENTIC, TAMPERED} - {item.label for item in found.items}
    if missing and not one_class:
        raise InputError(f"no {LABELS[missing.pop()]} pictures in the list {file}: add lines of "
                         "them, and check the labels of the others")
    listed = sets.Listed(found.items, found.masks, [], file.name)
    top = os.fsencode(root)
    likely = masks.likely({item.path: os.path.join(top, item.path) for item in found.items})
    notes = [f"{plural(len(likely), 'file')} of {file} "
             f"{'looks like a ground-truth mask' if len(likely) == 1 else 'look like masks'} by "
             "name and content, and counted as listed: take masks out, or name them in the column "
             f"mask ({some(likely)})"] if likely else []
    if found.idle:
        notes.append(f"{plural(found.idle, 'mask')} of authentic pictures in {file} not used: "
                     "nothing was changed in these")
    catalogue = _catalogue({"": root.resolve()}, [listed], moments, group_by, notes, one_class,
                           "manifest")
    return replace(catalogue, given=found.given)


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
            f"--manifest LIST.csv. {kinds.wanted()}. {_sample_advice(data)}")


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
    of = {path: mask for each in listed for path, mask in each.masks.items()}
    left = [path for each in listed for path in each.left]
    if left:
        notes.append(f"{plural(len(left), 'ground-truth mask')} left out, of authentic pictures, "
                     f"of none, or beside another one of the same picture ({some(left, 1)})")
    lists = ", ".join(sorted({each.lists for each in listed} - {""}))
    items, parts_found = _parts(items, parts_from, notes, lists or parts_from)
    keys = groups.keys_of(items, partial(locate, roots), group_by)
    notes += keys.notes
    paths, counts = _rows(items, roots, moments, notes)
    labels = np.repeat(np.fromiter((item.label for item in items), np.uint8, len(items)), counts)
    if not paths:
        raise InputError("the videos have no frames: check them, or --frame-rate")
    return Catalogue(
        roots, paths, labels, np.repeat(groups.components(keys.keys), counts), notes,
        None if parts_found is None else np.repeat(parts_found, counts),
        "" if parts_found is None else parts_from, of,
        list(chain.from_iterable(map(repeat, keys.rules, counts.tolist()))),
        inverted=frozenset(mask for each in listed if each.inverted
                           for mask in each.masks.values()))


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
    notes += [(f"{os.fsdecode(top)}: " if top else "")
              + f"{plural(sum(rows), 'frame')} of {plural(len(rows), 'video')}"
              for top, rows in videos.items()]
    return paths, counts


def _parts(items: list[Item], parts_from: str, notes: list[str],
           where: str) -> tuple[list[Item], np.ndarray | None]:
    """The author's split, uint8 (number of items); None if there is none, as with one part only."""
    found = np.fromiter((item.part for item in items), np.uint8, len(items))
    present = set(found.tolist()) - {NO_PART}
    if not present or (parts_from == "folder" and len(present) < 2):
        return items, None
    notes.append(f"the author's split, by {where}: "
                 + ", ".join(f"{int((found == part).sum()):,} {parts.names_of({part}) or 'in none'}"
                             for part in sorted({*present, *found.tolist()})) + " (files)")
    return items, found
