"""Groups of common source: which pictures may not be on both sides of a split."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from hpc_deepfake.core.text import plural
from preprocessing.listing import alike
from preprocessing.listing.ids import Ids, of_video
from preprocessing.listing.item import Item, folder, some, stem
from preprocessing.names import VIDEOS, like_casia, parse

BY = ("auto", "name", "series", "folder")
CASIA, FOLDER, SERIES, NAME = "CASIA's names", "folder", "numbered series", "name"
BYTES = "equal bytes"
_MANY = 20  # folders that may be groups whatever is in them, if none has a larger share than:
_LARGE = 0.1
_MOSTLY = 0.9  # share of a folder's pictures that makes it a series
_FRAME = re.compile(rb"(.*?)[-_ .]*(?:frames?|frm)[-_ .#]*\d+.*", re.DOTALL | re.IGNORECASE)
_NUMBER = re.compile(rb"((?:.*\D)?)\d+\D*", re.DOTALL)


class Keys(NamedTuple):
    """What groups are made of.

    Attributes:
        keys: of each item: items that share a key are in one group.
        rules: what gave each item its keys, such as ``folder``.
        notes: remarks for the user.
    """

    keys: list[tuple[str, ...]]
    rules: list[str]
    notes: list[str]


class _Series(NamedTuple):
    """Pictures that may be frames of one video: a folder, or names up to a number.

    Attributes:
        kind: ``FOLDER`` or ``SERIES``.
        name: of the folder or series, relative to the folder of its class.
        rows: numbers of the items, in the order of their names.
        plain: whether the name alone says so: a folder of one numbered series, or names with
            "frame".
    """

    kind: str
    name: bytes
    rows: list[int]
    plain: bool


def prefix_of(name: bytes) -> bytes | None:
    """A name without extension up to its frame number: what follows ``frame``, or else the last
    number; None without a number."""
    match = _FRAME.fullmatch(name) or _NUMBER.fullmatch(name)
    return match[1].rstrip(b"-_ .#(") if match else None


def keys_of(items: Sequence[Item], files: Callable[[bytes], bytes], by: str = "auto") -> Keys:
    """Keys of all items.

    In this order: what a layout or a list of files says; the ids in the names of CASIA's pictures
    and of videos; folders and series; the path below the folder of the class, which a picture of
    the other class may share.

    Args:
        items: the pictures and videos.
        files: absolute name of a path's file.
        by: ``auto``: of folders and series, those that ``_accepted`` takes; ``name``: none;
            ``series``: pictures with the same name up to a number; ``folder``: all below classes.
    """
    result = Keys([()] * len(items), [""] * len(items), [])
    others: dict[bytes, list[int]] = defaultdict(list)
    contrary: list[bytes] = []
    unknown: list[bytes] = []
    for row, item in enumerate(items):
        name = os.fsdecode(stem(item.path))
        parsed = parse(name)
        if parsed and parsed.label != item.label:
            contrary.append(item.path)
        if item.keys:
            result.keys[row], result.rules[row] = item.keys, item.rule
        elif parsed:
            result.keys[row], result.rules[row] = parsed.sources, CASIA
        else:
            if like_casia(name):
                unknown.append(item.path)
            ids = of_video(name) if item.path.lower().endswith(VIDEOS) else None
            if ids:
                result.keys[row], result.rules[row] = ids.ids, ids.source
            else:
                scene = item.inside.rpartition(b".")[0]
                result.keys[row] = (f"scene {os.fsdecode(item.home)} {os.fsdecode(scene)}",)
                result.rules[row] = NAME
                if not item.path.lower().endswith(VIDEOS):
                    others[item.home].append(row)
    if by != "name":
        for home, rows in others.items():
            _join(result, items, home, rows, by, files)
    if contrary:
        result.notes.append(f"{plural(len(contrary), 'name')} in the folder of the other class, "
                            f"labelled by the folder: {some(contrary)}")
    if unknown:
        result.notes.append(
            f"{plural(len(unknown), 'name')} like CASIA's not understood, so the pictures' sources "
            f"are not known and they may share them with others: {some(unknown)}")
    _without_sources(result)
    return result


def _join(result: Keys, items: Sequence[Item], home: bytes, rows: list[int], by: str,
          files: Callable[[bytes], bytes]) -> None:
    """Give one key to the pictures of each series of a data set."""
    found = _series(items, rows, by)
    pairs = any(ids and len(ids.ids) > 1 for ids in map(_ids, found))
    for kind in (FOLDER, SERIES):
        series = [each for each in found if each.kind == kind]
        if not series or (by == "auto" and not _accepted(result, items, series, len(rows), files)):
            continue
        for each in series:
            ids = _ids(each)
            if ids and ids.source == "FaceForensics++" and not pairs:  # just a number
                ids = None
            rule, keys = (ids.source, ids.ids) if ids else (
                kind, (f"{kind} {os.fsdecode(home)} {os.fsdecode(each.name)}",))
            for row in each.rows:
                result.rules[row], result.keys[row] = rule, keys
    if by == "auto":
        _warn(result, items, rows, files)


def _ids(series: _Series) -> Ids | None:
    return of_video(os.fsdecode(series.name.rpartition(b"/")[2]))


def _series(items: Sequence[Item], rows: list[int], by: str) -> list[_Series]:
    """Folders below the classes, and series of pictures with the same name up to a number."""
    folders: dict[bytes, list[int]] = defaultdict(list)
    for row in rows:
        folders[folder(items[row].path)].append(row)
    found = []
    for members in folders.values():
        inside = folder(items[members[0]].inside)
        if by == "folder":
            if inside:
                found.append(_Series(FOLDER, inside, members, True))
            continue
        prefixes: dict[bytes, list[int]] = defaultdict(list)
        for row in members:
            prefix = prefix_of(stem(items[row].path))
            if prefix is not None:
                prefixes[prefix].append(row)
        most = max(map(len, prefixes.values()), default=0)
        several = {prefix: same for prefix, same in prefixes.items() if len(same) > 1}
        if by == "auto" and len(members) > 1 and inside and (
                most >= _MOSTLY * len(members)
                or sum(map(len, several.values())) < _MOSTLY * len(members)):
            found.append(_Series(FOLDER, inside, members, most >= _MOSTLY * len(members)))
        elif len(several) > 1 or by == "series":
            found += [_Series(SERIES, b"/".join(filter(None, (inside, prefix))), same,
                              bool(_FRAME.fullmatch(stem(items[same[0]].path))))
                      for prefix, same in several.items()]
    return found


def _accepted(result: Keys, items: Sequence[Item], series: Sequence[_Series], total: int,
              files: Callable[[bytes], bytes]) -> bool:
    """Whether series of a data set are groups; a note says why not.

    Series that look like frames are. So are small folders, whatever is in them: if they are
    unrelated, that does no harm to the split. Other pictures with the same name up to a number
    (``img1`` …) are mostly unrelated, and so are large folders (``cats/`` …).
    """
    look = alike.frames([[files(items[row].path) for row in each.rows] for each in series])
    small = len(series) >= _MANY and max(len(each.rows) for each in series) <= _LARGE * total
    plain = sum(each.plain for each in series) > len(series) / 2
    accepted = (plain if look is None else look) or (series[0].kind == FOLDER and small)
    if not accepted:
        rows = [row for each in series for row in each.rows]
        classes = any(items[row].inside != items[row].path for row in rows)
        what = f"{len(series):,} numbered series" if series[0].kind == SERIES else \
            plural(len(series), "folder") + " below the classes" * classes
        result.notes.append(
            f"{plural(len(rows), 'picture')} in {what} "
            f"({some(sorted({folder(items[each.rows[0]].path) for each in series}))}) "
            + ("look unrelated" if look is not None else "can't be looked at")
            + ", so they are not grouped by that; --group-by "
            f"{'folder' if series[0].kind == FOLDER else 'series'} groups them")
    return accepted


def _warn(result: Keys, items: Sequence[Item], rows: list[int],
          files: Callable[[bytes], bytes]) -> None:
    """Warn of class folders whose pictures are one numbered series and look like frames: where one
    video ends in it can't be seen."""
    flat: dict[bytes, list[int]] = defaultdict(list)
    for row in rows:
        if result.rules[row] == NAME:
            flat[folder(items[row].path)].append(row)
    found: dict[bytes, int] = {}
    for place, members in flat.items():
        if len(members) < _MANY:
            continue
        prefixes = Counter(prefix_of(stem(items[row].path)) for row in members)
        prefix, count = prefixes.most_common(1)[0]
        if prefix is None or count < _MOSTLY * len(members):
            continue
        if alike.frames([[files(items[row].path) for row in members]], alike.PAIRS // 3):
            found[place] = len(members)
    if found:
        result.notes.append(
            "pictures in one numbered series look like frames of videos ("
            + ", ".join(f"{count:,} in {os.fsdecode(place) or 'the list'}"
                        for place, count in found.items())
            + "), but it can't be seen which of them belong to one video, so frames of one may be "
            "on both sides of the split: move the frames of each video into a folder of its own, "
            "name the groups with --manifest, or make each series one group with --group-by series")


def _without_sources(result: Keys) -> None:
    """Group videos of FaceForensics++ by their target alone where through the sources nearly all of
    them would be one group, which can't be split."""
    rows = [row for row, rule in enumerate(result.rules) if rule == "FaceForensics++"]
    if not rows:
        return
    both = components(result.keys[row] for row in rows)
    targets = components(result.keys[row][:1] for row in rows)
    largest = int(np.bincount(both).max())
    if len(rows) < _MANY or largest < _MOSTLY * len(rows) or not targets.any():
        return
    for row in rows:
        result.keys[row] = result.keys[row][:1]
    result.notes.append(
        f"{largest:,} of {plural(len(rows), 'file')} named like FaceForensics++'s would be one "
        "group through the faces of the sources: grouped by the target (the first number) alone, "
        "so the same face may be on both sides of the split")


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


def summary(rules: Sequence[str], groups: np.ndarray) -> str:
    """What each rule grouped, the rule of most pictures first.

    Args:
        rules: of each row.
        groups: int32 (N).
    """
    kinds = {rule: number for number, rule in enumerate(dict.fromkeys(rules))}
    of_row = np.fromiter((kinds[rule] for rule in rules), np.int64, len(rules))
    counts = {rule: (int((of_row == kind).sum()), len(np.unique(groups[of_row == kind])))
              for rule, kind in kinds.items()}
    return ", ".join(f"{plural(pictures, 'image')} in {plural(among, 'group')} by {rule}"
                     for rule, (pictures, among) in sorted(
                         counts.items(), key=lambda count: (-count[1][0], count[0])))
