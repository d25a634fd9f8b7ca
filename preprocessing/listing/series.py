"""Series: pictures that may be frames of one video, by their folder or by their names."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hpc_deepfake.core.text import plural
from preprocessing.listing import alike
from preprocessing.listing.ids import Ids, of_video
from preprocessing.listing.item import NO_PART, Item, folder, some, stem
from preprocessing.listing.keys import FOLDER, MANY, MOSTLY, NAME, SERIES, Keys
from preprocessing.listing.parts import part_of

_HOME, _AMONG = "folder above the classes", "series among other pictures"
_LARGE = 0.1  # share of a folder that isn't one of many small ones
_FRAME = re.compile(rb"(.*?)[-_ .]*(?:frames?|frm)[-_ .#]*\d+.*", re.DOTALL | re.IGNORECASE)
_NUMBER = re.compile(rb"((?:.*\D)?)\d+\D*", re.DOTALL)
# a time: vid_t0.5s, vid_1m30s, vid_t12.25, vid_00-01-30.500, vid_0.5
_TIME = re.compile(
    rb"(.*?)(?:^|[-_ .@]+)(?:(?:t|at|time|sec|pts)[-_ =]*)?"
    rb"(?:(?:\d+h)?(?:\d+m)?\d+(?:[.,]\d+)?(?:s|secs?|ms)|(?<=[a-z =])\d+[.,]\d+"
    rb"|\d\d[-_.:h]\d\d[-_.:m]\d\d(?:[.,]\d{1,6})?s?|(?<![.\d])\d+\.\d{1,3})",
    re.DOTALL | re.IGNORECASE)
_FIRST = re.compile(rb"(?:frames?|frm)?[-_ #]*\d+[-_ .]+(.*[^\W\d].*)", re.DOTALL | re.IGNORECASE)
_APART = 32  # kinds of series that are judged apart
_SINGLE = 5  # pictures that make a series a kind of its own


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


def join(result: Keys, items: Sequence[Item], rows: list[int], by: str,
          files: Callable[[bytes], bytes]) -> None:
    """Give one key to the pictures of each series."""
    found = _found(items, rows, by)
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


def _found(items: Sequence[Item], rows: list[int], by: str) -> list[_Series]:
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
        one = most >= MOSTLY * len(members)
        if by == "auto" and len(members) > 1 and inside and (
                one or sum(map(len, several.values())) < MOSTLY * len(members)):
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
                  for name, each in same.items() if 1 < len(each) < MOSTLY * len(members)]
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
            if len(found) >= MANY and max(found) <= _LARGE * total[home]}


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
        if len(members) < MANY:
            continue
        names = [stem(items[row].path) for row in members]
        first = (match and match[1] for match in map(_FIRST.fullmatch, names))
        if not any(prefix is not None and count >= MOSTLY * len(members)
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
