"""Groups of common source: which pictures may not be on both sides of a split."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from hpc_deepfake.core.text import plural
from preprocessing.listing import series
from preprocessing.listing.ids import of_video
from preprocessing.listing.item import Item, folder, some, stem
from preprocessing.listing.keys import CASIA, MANY, MOSTLY, NAME, Keys
from preprocessing.names import VIDEOS, like_casia, parse, plain

BY = ("auto", "name", "series", "folder")
_OF_FRAMES = re.compile(rb"[-_ .]*(?:frames?|images?|pngs?|jpe?gs?)$", re.IGNORECASE)
_NUMBERED_COPIES = 5  # of "name (1)", "name (2)" …; more are pictures of one download, not copies


def keys_of(items: Sequence[Item], files: Callable[[bytes], bytes], by: str = "auto") -> Keys:
    """Keys of all items.

    In this order: what a layout or a list of files says; the ids in the names of CASIA's pictures
    and of videos; folders and series; the path below the folder of the class, which a picture of
    the other class may share.

    Args:
        items: the pictures and videos.
        files: absolute name of a path's file.
        by: ``auto``: of folders and series, those that look like frames; ``name``: none;
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
        series.join(result, items, others, by, files)
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
        prefix = series.prefix_of(stem(item.path.lower()))
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


def _without_sources(result: Keys) -> None:
    """Group videos of FaceForensics++ by their target alone where through the sources nearly all of
    them would be one group, which can't be split."""
    rows = [row for row, rule in enumerate(result.rules) if rule == "FaceForensics++"]
    if not rows:
        return
    both = components(result.keys[row] for row in rows)
    targets = components(result.keys[row][:1] for row in rows)
    largest = int(np.bincount(both).max())
    if len(rows) < MANY or largest < MOSTLY * len(rows) or not targets.any():
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
