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
from preprocessing.listing.item import NO_PART, Item, folder, some, stem
from preprocessing.listing.parts import part_of
from preprocessing.names import VIDEOS, like_casia, parse, plain

BY = ("auto", "name", "series", "folder")
CASIA, FOLDER, SERIES, NAME = "CASIA's names", "folder", "numbered series", "name"
_HOME, _AMONG = "folder above the classes", "series among other pictures"
BYTES = "equal bytes"
_MANY = 20  # folders that may be groups whatever is in them, if none has a larger share than:
_LARGE = 0.1
_MOSTLY = 0.9  # share of a folder's pictures that makes it a series
_FRAME = re.compile(rb"(.*?)[-_ .]*(?:frames?|frm)[-_ .#]*\d+.*", re.DOTALL | re.IGNORECASE)
_NUMBER = re.compile(rb"((?:.*\D)?)\d+\D*", re.DOTALL)
# a time: vid_t0.5s, vid_1m30s, vid_t12.25, vid_00-01-30.500, vid_0.5
_TIME = re.compile(
    rb"(.*?)(?:^|[-_ .@]+)(?:(?:t|at|time|sec|pts)[-_ =]*)?"
    rb"(?:(?:\d+h)?(?:\d+m)?\d+(?:[.,]\d+)?(?:s|secs?|ms)|(?<=[a-z =])\d+[.,]\d+"
    rb"|\d\d[-_.:h]\d\d[-_.:m]\d\d(?:[.,]\d{1,6})?s?|(?<![.\d])\d+\.\d{1,3})",
    re.DOTALL | re.IGNORECASE)
_FIRST = re.compile(rb"(?:frames?|frm)?[-_ #]*\d+[-_ .]+(.*[^\W\d].*)", re.DOTALL | re.IGNORECASE)
_OF_FRAMES = re.compile(rb"[-_ .]*(?:frames?|images?|pngs?|jpe?gs?)$", re.IGNORECASE)
_APART = 32  # kinds of series that are judged apart
_SINGLE = 5  # pictures that make a series a kind of its own
_NUMBERED_COPIES = 5  # of "name (1)", "name (2)" …; more are pictures of one download, not copies


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
        kind: ``FOLDER`` or ``SERIES``, or ``_HOME``: the pictures of a class in one of many data
            sets that may be videos, such as ``VIDEO/real/0001.png``; or ``_AMONG``: the only series
            among other pictures. Of the last two no note says that they aren't frames.
        home: of its data set.
        name: of the folder or series, relative to the folder of its class.
        rows: numbers of the items, in the order of their names.
        plain: whether the name alone says so: a folder of one numbered series, or names with
            "frame".
    """

    kind: str
    home: bytes
    name: bytes
    rows: list[int]
    plain: bool


def prefix_of(name: bytes) -> bytes | None:
    """A name without extension up to its frame number: what follows ``frame``, or else a time or
    the last number; None without a number."""
    match = _FRAME.fullmatch(name) or _TIME.fullmatch(name) or _NUMBER.fullmatch(name)
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
    others: list[int] = []
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
                    others.append(row)
    if by != "name":
        _join(result, items, others, by, files)
    _with_clips(result, items, others)
    _with_copies(result, items)
    if contrary:
        result.notes.append(f"{plural(len(contrary), 'name')} in the folder of the other class, "
                            f"labelled by the folder: {some(contrary)}")
    if unknown:
        result.notes.append(
            f"{plural(len(unknown), 'name')} like CASIA's not understood, so the pictures' sources "
            f"are not known and they may share them with others: {some(unknown)}")
    _without_sources(result)
    return result


def _join(result: Keys, items: Sequence[Item], rows: list[int], by: str,
          files: Callable[[bytes], bytes]) -> None:
    """Give one key to the pictures of each series."""
    found = _series(items, rows, by)
    pairs = {each.home for each in found for ids in (_ids(each),) if ids and len(ids.ids) > 1}
    rejected: list[tuple[_Series, bool]] = []
    for kinds in ((FOLDER,), (_HOME,), (SERIES, _AMONG)):
        series = [each for each in found if each.kind in kinds]
        looks = _looks(items, series, files) if by == "auto" else [True] * len(series)
        small = _small(items, rows, series) if by == "auto" and FOLDER in kinds else set()
        rejected += _accept(result, series, looks, small, pairs)
    if by != "auto":
        return
    left = [row for row in rows if result.rules[row] == NAME]
    backwards = _numbered_first(items, left)
    _accept(result, backwards, _looks(items, backwards, files), set(), pairs)
    _note(result, items, rejected)
    homes: dict[bytes, list[int]] = defaultdict(list)
    for row in left:
        homes[items[row].home].append(row)
    for members in homes.values():
        _warn(result, items, members, files)


def _accept(result: Keys, series: Sequence[_Series], looks: Sequence[bool | None],
            small: set[bytes], pairs: set[bytes]) -> list[tuple[_Series, bool]]:
    """Group the series that look like frames, those whose name says so where nothing can be looked
    at, and the small ones; the others are returned, with whether they could be looked at."""
    rejected = []
    for each, look in zip(series, looks, strict=True):
        if not (each.plain if look is None else look) and each.home not in small:
            rejected.append((each, look is not None))
            continue
        ids = _ids(each)
        if ids and ids.source == "FaceForensics++" and each.home not in pairs:  # just a number
            ids = None
        kind = {_HOME: FOLDER, _AMONG: SERIES}.get(each.kind, each.kind)
        rule, keys = (ids.source, ids.ids) if ids else (
            kind, (f"{kind} {os.fsdecode(each.home)} {os.fsdecode(each.name)}",))
        for row in each.rows:
            result.rules[row], result.keys[row] = rule, keys
    return rejected


def _ids(series: _Series) -> Ids | None:
    return of_video(os.fsdecode(series.name.rpartition(b"/")[2]))


def _series(items: Sequence[Item], rows: list[int], by: str) -> list[_Series]:
    """Folders below the classes, and series of pictures with the same name up to a number."""
    folders: dict[bytes, list[int]] = defaultdict(list)
    for row in rows:
        folders[folder(items[row].path)].append(row)
    videos = _homes_of_videos(items, rows) if by == "auto" else set()
    found = []
    for members in folders.values():
        home, inside = items[members[0]].home, folder(items[members[0]].inside)
        if by == "folder":
            if inside:
                found.append(_Series(FOLDER, home, inside, members, True))
            continue
        prefixes: dict[bytes, list[int]] = defaultdict(list)
        for row in members:
            prefix = prefix_of(stem(items[row].path))
            if prefix is not None:
                prefixes[prefix].append(row)
        most = max(map(len, prefixes.values()), default=0)
        several = {prefix: same for prefix, same in prefixes.items() if len(same) > 1}
        one = most >= _MOSTLY * len(members)
        if by == "auto" and len(members) > 1 and inside and (
                one or sum(map(len, several.values())) < _MOSTLY * len(members)):
            found.append(_Series(FOLDER, home, inside, members, one))
        elif len(members) > 1 and home in videos and one:
            found.append(_Series(_HOME, home, b"", members, _is_frame(items, members)))
        elif len(several) > 1 or by == "series" or (several and not one):
            kind = SERIES if len(several) > 1 or by == "series" else _AMONG
            found += [_Series(kind, home, b"/".join(filter(None, (inside, prefix))), same,
                              _is_frame(items, same)) for prefix, same in several.items()]
    return found


def _is_frame(items: Sequence[Item], rows: list[int]) -> bool:
    return _FRAME.fullmatch(stem(items[rows[0]].path)) is not None


def _homes_of_videos(items: Sequence[Item], rows: list[int]) -> set[bytes]:
    """Data sets that may be a video each: three or more in one folder, none of them most of it."""
    beside: dict[bytes, Counter[bytes]] = defaultdict(Counter)
    for row in rows:
        above, _, name = items[row].home.rstrip(b"/").rpartition(b"/")
        if name and part_of(name) == NO_PART:
            beside[above][items[row].home] += 1
    return {home for homes in beside.values() if len(homes) > 2
            and 2 * max(homes.values()) <= homes.total() for home in homes}


def _numbered_first(items: Sequence[Item], rows: list[int]) -> list[_Series]:
    """Series of pictures with the same name after a number at its beginning, ``1_clip.jpg``."""
    folders: dict[bytes, list[int]] = defaultdict(list)
    for row in rows:
        folders[folder(items[row].path)].append(row)
    found = []
    for members in folders.values():
        same: dict[bytes, list[int]] = defaultdict(list)
        for row in members:
            if match := _FIRST.fullmatch(stem(items[row].path)):
                same[match[1]].append(row)
        home, inside = items[members[0]].home, folder(items[members[0]].inside)
        found += [_Series(SERIES, home, b"/".join(filter(None, (inside, name))),
                          sorted(each, key=lambda row: _number(items[row].path)), False)
                  for name, each in same.items() if 1 < len(each) < _MOSTLY * len(members)]
    return found


def _number(path: bytes) -> int:
    match = re.search(rb"\d+", path.rpartition(b"/")[2])
    return int(match[0]) if match else 0


def _looks(items: Sequence[Item], series: Sequence[_Series],
           files: Callable[[bytes], bytes]) -> list[bool | None]:
    """Whether each series looks like frames of a video, judged together with those whose names
    differ in digits only, and the small ones; None if it can't be looked at."""
    families: dict[tuple[bytes, ...], list[int]] = defaultdict(list)
    for number, each in enumerate(series):
        place = folder(items[each.rows[0]].path)
        families[re.sub(rb"\d+", b"#", place), re.sub(rb"\d+", b"#", each.name)].append(number)
    kinds: list[list[int]] = []
    rest: list[int] = []
    for members in sorted(families.values(), key=lambda members: -sum(
            len(series[number].rows) for number in members)):
        alone = len(members) == 1 and len(series[members[0]].rows) < _SINGLE
        if alone or len(kinds) == _APART:
            rest += members
        else:
            kinds.append(members)
    if rest:
        kinds.append(sorted(rest))
    looks: list[bool | None] = [None] * len(series)
    found = alike.kinds([[[files(items[row].path) for row in series[number].rows]
                          for number in members] for members in kinds]) if kinds else []
    for members, look in zip(kinds, found, strict=True):
        for number in members:
            looks[number] = look
    return looks


def _small(items: Sequence[Item], rows: list[int], series: Sequence[_Series]) -> set[bytes]:
    """Data sets whose folders are many and small: grouped whatever is in them, as that does no harm
    to the split if they are unrelated."""
    total = Counter(items[row].home for row in rows)
    sizes: dict[bytes, list[int]] = defaultdict(list)
    for each in series:
        sizes[each.home].append(len(each.rows))
    return {home for home, found in sizes.items()
            if len(found) >= _MANY and max(found) <= _LARGE * total[home]}


def _note(result: Keys, items: Sequence[Item], rejected: list[tuple[_Series, bool]]) -> None:
    """Name the series that are not grouped. Pictures with the same name up to a number (``img1`` …)
    are mostly unrelated, and so are large folders (``cats/`` …)."""
    for kind, by in ((FOLDER, "folder"), (SERIES, "series")):
        for looked in (True, False):
            series = [each for each, seen in rejected if each.kind == kind and seen == looked
                      and any(result.rules[row] == NAME for row in each.rows)]
            if not series:
                continue
            count = sum(len(each.rows) for each in series)
            first = [items[each.rows[0]].path for each in series]
            shown = sorted({*map(folder, first)}) if kind == FOLDER else first
            classes = any(items[row].inside != items[row].path for each in series
                          for row in each.rows)
            number = f"{len(series):,} numbered series" if kind == SERIES else \
                plural(len(series), "folder") + " below the classes" * classes
            result.notes.append(
                f"{plural(count, 'picture')} in {number} ({some(shown)}) "
                + ("look unrelated" if looked else "can't be looked at")
                + f", so they are not grouped by that; --group-by {by} groups them")


def _with_clips(result: Keys, items: Sequence[Item], rows: list[int]) -> None:
    """Add the keys of a video to pictures that are named or placed like its frames: in a folder of
    its name (``clip.mp4``, ``clip/0001.jpg``), or beside it with its name before the number
    (``clip_0001.jpg``)."""
    clips: dict[tuple[bytes, bytes], list[int]] = defaultdict(list)
    for row, item in enumerate(items):
        if item.path.lower().endswith(VIDEOS):
            name = item.inside.rpartition(b".")[0].lower()
            for key in {name, stem(name + b".")}:
                clips[item.home, key].append(row)
    if not clips:
        return
    for row in rows:
        item = items[row]
        places = folder(item.inside).lower().split(b"/")
        prefix = prefix_of(stem(item.path.lower()))
        beside = b"/".join(filter(None, (*places, prefix))) if prefix else b""
        names = [b"/".join(places[:depth]) for depth in range(len(places), 0, -1)]
        names += [name for place in reversed(places)
                  for name in (place, _OF_FRAMES.sub(b"", place))]
        found = [clip for clip in clips.get((item.home, beside), ())
                 if beside and items[clip].label == item.label]
        found = found or next((clips[item.home, name] for name in names
                               if name and (item.home, name) in clips), [])
        keys = {key for clip in found for key in result.keys[clip][:1]}
        if len(keys) == 1:  # several videos of one name say nothing
            _add(result, row, found[0])


def _add(result: Keys, row: int, other: int) -> None:
    """Add the keys of another row, and what gave them if it is more than the name."""
    result.keys[row] = tuple(dict.fromkeys((*result.keys[other], *result.keys[row])))
    if result.rules[row] == NAME:
        result.rules[row] = result.rules[other]


def _with_copies(result: Keys, items: Sequence[Item]) -> None:
    """Add the keys of a file to those named as copies of it: ``a - Copy.jpg`` and ``a.jpg``."""
    copies: dict[tuple[bytes, bytes, str], list[int]] = defaultdict(list)
    for row, item in enumerate(items):
        if item.keys or result.rules[row] == CASIA:
            continue
        name = os.fsdecode(stem(item.path))
        original = plain(name)
        if original != name:
            copies[item.home, folder(item.inside), original].append(row)
    if not copies:
        return
    originals: dict[tuple[bytes, bytes, str], list[int]] = defaultdict(list)
    for row, item in enumerate(items):
        place = item.home, folder(item.inside), os.fsdecode(stem(item.path))
        if place in copies:
            originals[place].append(row)
    for place, rows in copies.items():
        numbered = {row for row in rows if stem(items[row].path).endswith(b")")}
        for row in rows:
            if row not in numbered or len(numbered) <= _NUMBERED_COPIES:
                for first in originals[place]:
                    _add(result, row, first)


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
        names = [stem(items[row].path) for row in members]
        first = (match and match[1] for match in map(_FIRST.fullmatch, names))
        if not any(prefix is not None and count >= _MOSTLY * len(members)
                   for found_in in (map(prefix_of, names), first)
                   for prefix, count in Counter(found_in).most_common(1)):
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
