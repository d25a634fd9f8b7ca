"""The split that the author of a data set made: folders, or lists of its videos."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from hpc_deepfake.core import json_data
from preprocessing.listing.item import NO_PART, Item, folder, stem
from preprocessing.names import VIDEOS
from preprocessing.split import PARTS, TEST, TRAIN, VALIDATION

FOLDERS = {TRAIN: ("train", "training", "trn"), VALIDATION: ("val", "valid", "validation", "dev"),
           TEST: ("test", "testing", "tst")}
_PART_OF = {name: part for part, names in FOLDERS.items() for name in names}
_CELEB_DF = "List_of_testing_videos.txt"  # "1 YouTube-real/00170.mp4", where 1 means real
SPLITS = "splits"  # folder of:
_FACE_FORENSICS = {TRAIN: "train.json", VALIDATION: "val.json", TEST: "test.json"}


def part_of(name: str | bytes) -> int:
    """The part that a folder or a word stands for; ``NO_PART`` for any other name."""
    return _PART_OF.get(os.fsdecode(name).strip().lower(), NO_PART)


def are_parts(names: Sequence[str]) -> bool:
    """Whether folders of these names are a split: two different parts at least."""
    return len({part_of(name) for name in names} - {NO_PART}) > 1


def below_classes(items: list[Item]) -> list[Item]:
    """Items of a data set whose class folders are divided into parts (``real/train/…``), with their
    parts, each of which is a data set of its own; the same items if they aren't."""
    firsts = {item.inside.partition(b"/")[0] for item in items}
    if not are_parts([os.fsdecode(name) for name in firsts]) \
            or any(part_of(name) == NO_PART for name in firsts):
        return items
    divided = []
    for item in items:
        name, _, inside = item.inside.partition(b"/")
        divided.append(item._replace(home=item.home + name.lower() + b"/", inside=inside,
                                     part=part_of(name)))
    return divided


def listed(home: Path, items: list[Item]) -> tuple[list[Item], str]:
    """Items with the parts of the lists that lie in a data set: ``List_of_testing_videos.txt`` of
    Celeb-DF; ``train.json``, ``val.json`` and ``test.json`` of FaceForensics++ (in ``splits/``
    too). Also where these lists are; without any, the same items and an empty text."""
    places = ((_celeb_df(home), _CELEB_DF),
              *((_face_forensics(home / inside), os.path.join(inside, "{train,val,test}.json"))
                for inside in ("", SPLITS)))
    for part, where in places:
        if part is not None:
            return [item._replace(part=part(item)) if item.part == NO_PART else item
                    for item in items], where
    return items, ""


def _name(item: Item) -> bytes:
    """Name of the video that an item is, or is a frame of."""
    return stem(item.path) if item.path.lower().endswith(VIDEOS) else \
        folder(item.path).rpartition(b"/")[2]


def _celeb_df(home: Path) -> Callable[[Item], int] | None:
    try:
        lines = (home / _CELEB_DF).read_bytes().split(b"\n")
    except OSError:
        return None
    test = {(folder(path).lower(), stem(path)) for line in lines
            for path in (line.strip().partition(b" ")[2].strip(),) if path}
    if not test:
        return None

    def part(item: Item) -> int:
        top = item.path[len(item.home):].partition(b"/")[0].lower()
        return TEST if (top, _name(item)) in test else TRAIN

    return part


def _face_forensics(home: Path) -> Callable[[Item], int] | None:
    """Lists of pairs of sequences, such as ``[["071", "054"], …]``."""
    parts: dict[str, int] = {}
    for part, file in _FACE_FORENSICS.items():
        try:
            pairs = json_data.items(json_data.read(home / file))
        except (OSError, ValueError):
            return None
        for pair in pairs:
            parts.update((name, part) for name in json_data.items(pair) if isinstance(name, str))
    if not parts:
        return None
    return lambda item: parts.get(os.fsdecode(_name(item)).partition("_")[0], NO_PART)


def names_of(parts: set[int]) -> str:
    """Parts as text, in order, such as ``train, test``."""
    return ", ".join(PARTS[part] for part in sorted(parts - {NO_PART}))
