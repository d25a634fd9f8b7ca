"""Data sets below a folder: where they are, and which pictures, masks and labels they have."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from hpc_deepfake.core import watchdog
from hpc_deepfake.core.text import plural
from preprocessing.listing import masks, parts, walk
from preprocessing.listing.item import NO_PART, Item, some
from preprocessing.listing.layouts import LAYOUTS, Reader
from preprocessing.names import AUTHENTIC, PICTURES, TAMPERED, VIDEOS

_SEARCHED = 100_000  # folders that are searched for pictures in no class
DEPTH = 3  # levels of folders below the given one that are searched for data sets
CLASSES = {
    AUTHENTIC: ("au", "auth", "authentic", "real", "reals", "original", "originals", "pristine",
                "genuine", "untampered", "4cam_auth", "original_sequences", "celeb-real",
                "youtube-real"),
    TAMPERED: ("tp", "sp", "modified tp", "tampered", "fake", "fakes", "forged", "forgery",
               "forgeries", "manipulated", "spliced", "4cam_splc", "manipulated_sequences",
               "celeb-synthesis", "deepfakes", "face2face", "faceswap", "faceshifter",
               "neuraltextures", "deepfakedetection"),
}
_LABEL_OF = {name: label for label, names in CLASSES.items() for name in names}
# DEFACTO: splicing_1_img/img/0_000000195755.tif, made from picture 195755 of MS COCO
_DEFACTO = re.compile(r"(?:splicing_\d+|copymove|inpainting)_img", re.IGNORECASE)
_COCO = re.compile(rb"(?:\d{1,6}_|coco_(?:train|val|test)\d{4}_)?0{3}(\d{9})", re.IGNORECASE)


class Place(NamedTuple):
    """A data set.

    Attributes:
        home: its folder.
        prefix: path of ``home`` relative to the root, with a final slash unless empty.
        classes: names of the class folders by label; empty where ``reader`` knows the labels.
        masks: names of folders of masks beside the class folders.
        reader: of a published layout.
        part: of an author's split, that all of it belongs to.
    """

    home: Path
    prefix: bytes
    classes: dict[int, list[str]]
    masks: list[str]
    reader: Reader | None = None
    part: int = NO_PART


class Listed(NamedTuple):
    """What was found.

    Attributes:
        items: pictures and videos.
        masks: mask of each tampered picture that has one, paths relative to the root.
        left: other masks.
        lists: which lists the parts come from; empty if from none.
        inverted: whether black marks what was changed in the masks.
    """

    items: list[Item]
    masks: dict[bytes, bytes]
    left: list[bytes]
    lists: str = ""
    inverted: bool = False


def label_of(name: str) -> int | None:
    """The label that the name of a folder of a class means; None for other folders."""
    return TAMPERED if _DEFACTO.fullmatch(name) else _LABEL_OF.get(name.lower())


def class_folders(names: Sequence[str]) -> dict[int, list[str]]:
    """Those of the names that are folders of a class, by label."""
    folders: dict[int, list[str]] = {AUTHENTIC: [], TAMPERED: []}
    for name in names:
        label = label_of(name)
        if label is not None:
            folders[label].append(name)
    return folders


def search(folder: Path, notes: list[str], seen: walk.Seen, prefix: bytes = b"", depth: int = 0,
           part: int = NO_PART, classes: Callable[[Iterable[object]], bool] = all,
           apart: dict[Path, bytes] | None = None) -> Iterator[Place]:
    """The data sets in ``folder`` and up to ``DEPTH`` levels below: folders that contain both
    classes, or with ``any`` one of them, or have one of ``LAYOUTS``. ``apart`` gets the folders
    of masks that are in none of them, with their paths relative to the root."""
    try:
        if not walk.is_new(folder, seen):
            return
    except OSError as error:
        notes.append(f"{folder} left out: {error.strerror}")
        return
    names = [name for name in walk.subfolders(folder, notes) if not name.startswith(".")]
    folders = class_folders(names)
    if classes(folders.values()):
        yield Place(folder, prefix, folders, note_others(folder, names, notes), part=part)
        return
    for layout in LAYOUTS:
        reader = layout(folder, names, notes)
        if reader:
            yield Place(folder, prefix, {}, [], reader, part)
            return
    if depth == DEPTH:
        return
    split = parts.are_parts(names)
    found: set[str] = set()
    for name in names:
        if masks.is_place(os.fsencode(name)):  # classes may be folders of masks too
            if apart is not None:
                apart[folder / name] = prefix + os.fsencode(name) + b"/"
            continue
        below = parts.part_of(name) if split else NO_PART
        before = set() if below == NO_PART else set(seen)

        def deeper(visited: walk.Seen, wanted: Callable[[Iterable[object]], bool],
                   name: str = name, below: int = below) -> list[Place]:
            return list(search(folder / name, notes, visited, prefix + os.fsencode(name) + b"/",
                               depth + 1, part if below == NO_PART else below, wanted, apart))

        places = deeper(seen, classes)
        if not places and below != NO_PART:  # a part may have one class only
            places = deeper(before, any)
            if not places and walk.count(folder / name):
                notes.append(f"{folder / name}: a part of the author's split without folders of "
                             "classes")
        found.update([name] if places else [])
        yield from places
    if not split:
        parts.note_alone(str(folder), found, notes)


def note_others(folder: Path, names: Sequence[str], notes: list[str]) -> list[str]:
    """Of the folders beside those of the classes, those of masks, with a note on the others."""
    others = [name for name in names if label_of(name) is None]
    places = [name for name in others if masks.is_place(os.fsencode(name))]
    lost = {name: walk.count(folder / name) for name in others
            if name not in places and not _adds_nothing(folder, folder / name)}
    named = [name for name, count in lost.items() if count or name != parts.SPLITS]
    if named:
        count = sum(lost.values())
        notes.append(f"{folder}: left out {some([*map(os.fsencode, named)], 9)} ("
                     + (f"{plural(count, 'picture')}, " if count else "no pictures, ")
                     + ("folders whose names are no class)" if len(named) > 1 else
                        "a folder whose name is no class)"))
    return places


def _adds_nothing(folder: Path, name: Path) -> bool:
    """Whether this is a link into the folder itself, or above it."""
    if not os.path.islink(name):
        return False
    first, second = os.path.realpath(folder), os.path.realpath(name)
    return os.path.commonpath([first, second]) in (first, second)


def outside(data: Path, places: Sequence[Place],
            known: Collection[Path] = ()) -> list[tuple[bytes, int]]:
    """Folders with pictures or videos that are in no data set, or in one but in no class of it, and
    their numbers; links, hidden and ``known`` folders aside. Of the first ``_SEARCHED`` folders."""
    homes = {walk.key_of(place.home): place for place in places}
    skipped = {walk.key_of(folder) for folder in known}
    top = os.path.realpath(os.fsencode(data))
    found = []
    for current, folders, files in islice(os.walk(top), _SEARCHED):
        watchdog.advance()
        try:
            key = walk.key_of(current)
        except OSError:  # `search` has a note
            continue
        if key in skipped:
            folders.clear()
            continue
        place = homes.get(key)
        folders[:] = sorted(name for name in folders if not name.startswith(b".")) \
            if place is None else []  # `note_others` tells of those
        count = sum(name.lower().endswith(PICTURES + VIDEOS) for name in files
                    if not name.startswith(b"."))
        if count and (place is None or not place.reader):
            found.append((os.path.relpath(current, os.path.dirname(top)), count))
    return found


def owners_of(places: Iterable[Place]) -> dict[walk.Key, int]:
    """The label of the folder of each class."""
    owners: dict[walk.Key, int] = {}
    for place in places:
        for label, names in place.classes.items():
            for name in names:
                owners.setdefault(walk.key_of(place.home / name), label)
    return owners


def listed(place: Place, notes: list[str], seen: walk.Seen,
           owners: Mapping[walk.Key, int]) -> Listed:
    """The pictures, videos and masks of a data set, in a fixed order; ``owners`` are those of all
    data sets, whose classes may lie within each other through links."""
    if place.reader:
        return _read(place, place.reader, notes, seen)
    found: list[tuple[bytes, int, int]] = []  # path below home, label, length of the class folder
    for label, names in place.classes.items():
        for name in names:
            top = os.fsencode(name) + b"/"
            found += [(top + path, label, len(top))
                      for path in walk.media(place.home / name, notes, seen, label, owners)]
    gt = _masks(place, [path for path, _, _ in found], notes)
    items = [Item(place.prefix + path, label, place.prefix, path[length:], place.part)
             for path, label, length in found if path not in gt]
    beside = [candidate for name in place.masks
              for path in walk.media(place.home / name, notes, seen)
              for candidate in (masks.in_place(os.fsencode(name) + b"/" + path),)]
    items, lists = parts.listed(place.home, items, notes)
    items = parts.below_classes(place.home, items, notes)
    if any(_DEFACTO.fullmatch(name) for name in place.classes[TAMPERED]):
        items = [_defacto(item) for item in items]
    return _with_masks(place, items, [*gt.values(), *beside])._replace(lists=lists)


def pictures_of(folder: Path, prefix: bytes, label: int, notes: list[str],
                seen: walk.Seen, owners: Mapping[walk.Key, int]) -> Listed:
    """The pictures and videos of a folder of one class.

    Args:
        folder: the folder.
        prefix: path to it from the root, with a final slash.
        label: of its pictures.
        notes: gets remarks for the user.
        seen: folders visited so far.
        owners: label of the folder of each class.
    """
    place = Place(folder, prefix, {}, [])
    paths = walk.media(folder, notes, seen, label, owners)
    gt = _masks(place, paths, notes)
    items = [Item(prefix + path, label, b"", path) for path in paths if path not in gt]
    if _DEFACTO.fullmatch(folder.name):
        items = [_defacto(item) for item in items]
    return _with_masks(place, items, list(gt.values()))


def masks_apart(folders: Mapping[Path, bytes], listed: Sequence[Listed], notes: list[str],
                seen: walk.Seen) -> tuple[Listed, set[Path]]:
    """The masks in folders of masks that are in no data set, of pictures that have none so far.

    Args:
        folders: with their paths relative to the root, with a final slash.
        listed: the data sets.
        notes: gets remarks for the user.
        seen: folders visited so far.

    Returns:
        The masks, and the folders that have any: others may hold pictures.
    """
    found: list[masks.Candidate] = []
    used: set[Path] = set()
    for folder, prefix in folders.items():
        there = [masks.in_place(path) for path in walk.media(folder, notes, seen)]

        def is_mask(path: bytes, top: bytes = os.fsencode(folder)) -> bool | None:
            return masks.two_valued(os.path.join(top, path))

        confirmed, _ = masks.confirmed(there, (), is_mask, lambda path, other: False, by_top=False)
        found += [each._replace(path=prefix + each.path) for each in confirmed]
        used.update([folder] if confirmed else [])
    items = [item for each in listed for item in each.items] if found else []
    known = {path for each in listed for path in each.masks}
    tampered, authentic = ([item.path for item in items
                            if item.label == label and item.path not in known]
                           for label in (TAMPERED, AUTHENTIC))
    of = masks.matched(found, tampered, authentic)
    taken = set(of.values())
    return Listed([], of, [each.path for each in found if each.path not in taken]), used


def with_coco(items: list[Item]) -> list[Item]:
    """Items with the ids of MS COCO's pictures in their names, where others are DEFACTO's, which
    are made from such pictures."""
    if not any(item.rule == "DEFACTO" for item in items):
        return items
    return [item if item.keys else _defacto(item) for item in items]


def _defacto(item: Item) -> Item:
    match = _COCO.fullmatch(item.path.rpartition(b"/")[2].rpartition(b".")[0])
    return item._replace(rule="DEFACTO", keys=(f"COCO {int(match[1])}",)) if match else item


def _read(place: Place, reader: Reader, notes: list[str], seen: walk.Seen) -> Listed:
    """The data set of a published layout."""
    seen.discard(walk.key_of(place.home))  # `search` has looked at it, but not listed it
    paths = walk.media(place.home, notes, seen, used=reader.lists)
    items: list[Item] = []
    gt: dict[bytes, bytes] = {}
    others: list[bytes] = []
    verdicts = {path: reader.verdict(path) for path in paths}
    unnamed = [path for path in paths if not verdicts[path]] if reader.named else paths
    known = _masks(place, unnamed, notes)
    present = set(paths)
    for path in paths:
        verdict = verdicts[path]
        if path in known:
            continue
        if verdict is None:
            others.append(path)
            continue
        items.append(Item(place.prefix + path, verdict.label, place.prefix, path, place.part,
                          reader.name, verdict.keys))
        mask = reader.masks(path)
        if mask in present:
            gt[place.prefix + path] = place.prefix + mask
    items.sort(key=lambda item: item.label)  # as of other data sets, the authentic ones first
    tampered = sum(item.label == TAMPERED for item in items)
    notes.append(f"{place.home}: read as {reader.name}"
                 + (f", {reader.guess}: {tampered:,} (if that is wrong, list the files with "
                    "--manifest)" if reader.guess else ""))
    missing = [path for path in reader.named if path not in present]
    if missing:
        notes.append(f"{place.home}: {plural(len(missing), 'file')} of {reader.name}'s list "
                     f"{'is' if len(missing) == 1 else 'are'} missing: {some(missing)}")
    if others:
        folders = Counter(os.fsdecode(path.rpartition(b"/")[0]) or "the top folder"
                          for path in others)
        notes.append(f"{place.home}: {plural(len(others), 'file')} left out, {reader.others} "
                     f"({some(others)}" + (": " + ", ".join(
                         f"{count:,} in {name}" for name, count in folders.most_common(3))
                         + " …" * (len(folders) > 3)) * (len(others) > 3) + ")")
    by_name = _with_masks(place, items, list(known.values()))
    used = {*by_name.masks.values(), *gt.values()}
    return by_name._replace(masks={**by_name.masks, **gt}, inverted=reader.inverted, left=[
        path for path in (place.prefix + path for path in known) if path not in used])


def _masks(place: Place, paths: list[bytes], notes: list[str]) -> dict[bytes, masks.Candidate]:
    """Masks among the files of a data set, whose paths are relative to its folder."""
    found = masks.candidates(paths)
    if not found:
        return {}
    top = os.fsencode(place.home)
    confirmed, rejected = masks.confirmed(
        found.values(), paths, lambda path: masks.two_valued(os.path.join(top, path)),
        lambda path, other: masks.is_copy(os.path.join(top, path), os.path.join(top, other)),
        by_top=bool(place.classes))
    named = [candidate.path for candidate in rejected if candidate.why != "pair"]
    if named:
        notes.append(f"{place.home}: {plural(len(named), 'file')} named or placed like masks "
                     f"listed as pictures, since they have many colours: {some(sorted(named))}")
    return {candidate.path: candidate for candidate in confirmed}


def _with_masks(place: Place, items: list[Item], found: list[masks.Candidate]) -> Listed:
    tampered, authentic = ([item.path[len(place.prefix):] for item in items if item.label == label]
                           for label in (TAMPERED, AUTHENTIC)) if found else ([], [])
    of = masks.matched(found, tampered, authentic)
    used = set(of.values())
    return Listed(items, {place.prefix + path: place.prefix + mask for path, mask in of.items()},
                  [place.prefix + each.path for each in found if each.path not in used])
