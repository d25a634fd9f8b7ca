"""The split that the author of a data set made: folders, or lists of its videos."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from hpc_deepfake.core import json_data
from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.core.text import plural
from preprocessing.listing.item import NO_PART, Item, folder, some, stem
from preprocessing.names import VIDEOS
from preprocessing.split import PARTS, TEST, TRAIN, VALIDATION

FOLDERS = {TRAIN: ("train", "training", "trn"), VALIDATION: ("val", "valid", "validation", "dev"),
           TEST: ("test", "testing", "tst")}
_PART_OF = {name: part for part, names in FOLDERS.items() for name in names}
_SET = re.compile(r"[-_ ]?(?:set|data|dataset|images?|imgs|videos?|split|part)$")
_CELEB_DF = "List_of_testing_videos.txt"  # "1 YouTube-real/00170.mp4", where 1 means real
SPLITS = "splits"  # folder of:
_LABEL = re.compile(rb"[01]\s+")
_FACE_FORENSICS = {TRAIN: "train.json", VALIDATION: "val.json", TEST: "test.json"}


def part_of(name: str | bytes) -> int:
    """The part that a folder or a word stands for, such as ``Test`` or ``test_set``; ``NO_PART``
    for any other name."""
    text = os.fsdecode(name).strip().lower()
    return _PART_OF.get(_SET.sub("", text), NO_PART)


def are_parts(names: Sequence[str]) -> bool:
    """Whether folders of these names are a split: two different parts at least."""
    return len({part_of(name) for name in names} - {NO_PART}) > 1


def note_alone(place: str, names: Iterable[str], notes: list[str]) -> None:
    """Name the folders that are called like a part, while the others beside them are not."""
    names = set(names)
    named = {name for name in names if part_of(name) != NO_PART}
    if named and named < names and not are_parts([*named]):
        notes.append(f"{place}: {_shown(named)} {'is' if len(named) == 1 else 'are'} named like a "
                     f"part of an author's split, but not {_shown(names - named)}, so no split is "
                     "kept: name the others train, validation or test, or use --manifest")


def _shown(names: Iterable[str]) -> str:
    return some([os.fsencode(name) for name in sorted(names)])


def below_classes(home: Path, items: list[Item], notes: list[str]) -> list[Item]:
    """Items of a data set whose class folders are divided into parts (``real/train/…``), with their
    parts, each of which is a data set of its own; the same items if they aren't. Those in no part
    stay as they are."""
    firsts = {os.fsdecode(item.inside.partition(b"/")[0]) for item in items if b"/" in item.inside}
    if not are_parts([*firsts]):
        note_alone(f"{home}, in its classes", firsts, notes)
        return items
    divided = []
    for item in items:
        name, _, inside = item.inside.partition(b"/")
        part = part_of(name) if inside else NO_PART
        divided.append(item if part == NO_PART else item._replace(
            home=item.home + name.lower() + b"/", inside=inside, part=part))
    return divided


def listed(home: Path, items: list[Item], notes: list[str]) -> tuple[list[Item], str]:
    """Items with the parts of the lists that lie in a data set: ``List_of_testing_videos.txt`` of
    Celeb-DF; ``train.json``, ``val.json`` and ``test.json`` of FaceForensics++ (in ``splits/``
    too). Also where these lists are; without any, the same items and an empty text.

    Args:
        home: folder of the data set.
        items: of it.
        notes: gets a remark on a list that isn't used, and on what it names in vain.

    Raises:
        InputError: a list can't be read.
    """
    places = ((partial(_celeb_df, home), _CELEB_DF),
              *((partial(_face_forensics, home, inside),
                 os.path.join(inside, "{train,val,test}.json")) for inside in ("", SPLITS)))
    for find, where in places:
        part = find(items, notes)
        if part is None:
            continue
        found = [item._replace(part=part(item)) if item.part == NO_PART else item
                 for item in items]
        return found, where
    return items, ""


def _read(path: Path) -> bytes | None:
    """A list of an author's; None if there is none.

    Raises:
        InputError: it can't be read.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"cannot read {path}, which gives the author's split: {reason(error)}; "
                      "repair it, or move it away")


def _name(item: Item) -> bytes:
    """Name of the video that an item is, or is a frame of."""
    return stem(item.path) if item.path.lower().endswith(VIDEOS) else \
        folder(item.path).rpartition(b"/")[2]


def _celeb_df(home: Path, items: list[Item], notes: list[str]) -> Callable[[Item], int] | None:
    """Lines such as ``1 YouTube-real/00170.mp4``, the number being optional."""
    path = home / _CELEB_DF
    content = _read(path)
    if content is None:
        return None
    lines = [_LABEL.sub(b"", line.strip()) for line in content.split(b"\n") if line.strip()]
    test = {(folder(line).lower(), stem(line)): line for line in lines if b"/" in line}

    def video(item: Item) -> tuple[bytes, bytes]:
        return item.path[len(item.home):].partition(b"/")[0].lower(), _name(item)

    present = test.keys() & {video(item) for item in items}
    unclear = sum(b"/" not in line for line in lines)
    if unclear:
        notes.append(f"{path}: {plural(unclear, 'line')} not understood, expected ones like "
                     "1 YouTube-real/00170.mp4")
    if not present:
        notes.append(f"{path} is not used: it names none of the videos that are there")
        return None
    missing = [line for key, line in test.items() if key not in present]
    if missing:
        notes.append(f"{path} names {plural(len(missing), 'video')} that "
                     f"{'is' if len(missing) == 1 else 'are'} not there: {some(missing)}")
    return lambda item: TEST if video(item) in test else TRAIN


def _face_forensics(home: Path, inside: str, items: list[Item],
                    notes: list[str]) -> Callable[[Item], int] | None:
    """Lists of pairs of sequences, such as ``[["071", "054"], …]``."""
    parts: dict[str, int] = {}
    absent, used = [], []
    for part, name in _FACE_FORENSICS.items():
        path = home / inside / name
        content = _read(path)
        if content is None:
            absent.append(name)
            continue
        try:
            pairs = json_data.parse(content)
        except ValueError as error:
            raise _unreadable(path, error) from None
        if not isinstance(pairs, list) or not all(isinstance(pair, list) and all(
                isinstance(sequence, str) for sequence in pair) for pair in pairs):
            notes.append(f"{path} is not used: it is no list of pairs of sequences, as of "
                         "FaceForensics++, that would give the author's split")
            return None
        used.append(path)
        parts.update((sequence, part) for pair in pairs for sequence in pair)

    def part_of_video(item: Item) -> int:
        return parts.get(os.fsdecode(_name(item)).partition("_")[0], NO_PART)

    if not used:
        return None
    if all(part_of_video(item) == NO_PART for item in items):
        notes.append(f"{', '.join(map(str, used))}: not used, naming none of the videos that are "
                     "there")
        return None
    if absent:
        notes.append(f"{used[0].parent}: without {', '.join(absent)} of the author's split")
    return part_of_video


def names_of(parts: set[int]) -> str:
    """Parts as text, in order, such as ``train, test``."""
    return ", ".join(PARTS[part] for part in sorted(parts - {NO_PART}))
