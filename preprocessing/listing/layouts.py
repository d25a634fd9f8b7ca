"""Published data sets whose labels are not in the names of their top folders.

Each layout is a function that looks at a folder and its subfolders and returns a ``Reader``, or
None if the folder isn't such a data set; it may add a note. docs/data.md names the source of each.
To add a layout, write such a function and list it in ``LAYOUTS``.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from hpc_deepfake.core import json_data
from hpc_deepfake.core.errors import InputError, reason
from preprocessing.listing.item import encoded, folder, stem
from preprocessing.names import AUTHENTIC, PICTURES, TAMPERED

_LOOKED_AT = 30  # subfolders that decide whether a folder is IMD2020


class Verdict(NamedTuple):
    """What a layout says about a picture.

    Attributes:
        label: 0 authentic, 1 tampered.
        keys: pictures that share a key share a source.
    """

    label: int
    keys: tuple[str, ...]


class Reader(NamedTuple):
    """How to read a data set.

    Attributes:
        name: of the data set.
        verdict: of a picture or video, given its path below the folder of the data set; None if it
            is none of its pictures.
        masks: path of the mask by path of its picture, where the data set says so.
        named: paths of all files that the data set's own list names, to find missing ones.
        lists: paths of these lists.
        others: what to say of pictures and videos without a verdict.
        guess: what to say of the tampered ones where names that anyone may use tell them.
        inverted: whether black marks what was changed in its masks.
    """

    name: str
    verdict: Callable[[bytes], Verdict | None]
    masks: Callable[[bytes], bytes | None] = lambda path: None
    named: Sequence[bytes] = ()
    lists: Collection[bytes] = ()
    others: str = "not in its folders of pictures"
    guess: str = ""
    inverted: bool = False


def _coverage(home: Path, subfolders: Sequence[str], notes: list[str]) -> Reader | None:
    """COVERAGE: ``image/1.tif``, its forgery ``image/1t.tif``, and ``mask/1forged.tif``."""
    folders = {name.lower(): name for name in subfolders}
    if not {"image", "mask"} <= folders.keys() or \
            not any(_COVERAGE.fullmatch(name.lower()) for name in _files(home / folders["image"])):
        return None
    images, masks = (os.fsencode(folders[name]) + b"/" for name in ("image", "mask"))

    def verdict(path: bytes) -> Verdict | None:
        match = _COVERAGE.fullmatch(path[len(images):].lower()) if path.startswith(images) else None
        return Verdict(TAMPERED if match[2] else AUTHENTIC, (f"{home} {int(match[1])}",)) \
            if match else None

    def mask(path: bytes) -> bytes | None:
        match = _COVERAGE.fullmatch(path[len(images):].lower())
        return b"%b%bforged%b" % (masks, match[1], match[3]) if match and match[2] else None

    return Reader("COVERAGE", verdict, mask)


_COVERAGE = re.compile(rb"(\d+)(t?)(\.\w+)")


def _imd(home: Path, subfolders: Sequence[str], notes: list[str]) -> Reader | None:
    """IMD2020: a folder for each scene, with ``…_orig.jpg`` and its forgeries beside it; in one of
    them several scenes, as ``00109_orig.jpg`` and ``00109_fake.jpg``."""
    looked_at = [name for name in subfolders if not name.startswith(".")][:_LOOKED_AT]
    with_original = sum(any(_ORIGINAL.search(stem(name).lower()) for name in _files(home / each))
                        for each in looked_at)
    if not with_original or 2 * with_original < len(looked_at):
        return None

    @cache
    def has_original(scene: bytes) -> bool:
        return any(_ORIGINAL.search(stem(name).lower())
                   for name in _files(home / os.fsdecode(scene), None))

    def verdict(path: bytes) -> Verdict | None:
        scene, name = folder(path), stem(path).lower()
        if not scene or not has_original(scene):
            return None
        numbered = _NUMBERED.match(name)
        key = f"{home} {os.fsdecode(scene)} {os.fsdecode(numbered[1]) if numbered else ''}"
        return Verdict(AUTHENTIC if _ORIGINAL.search(name) else TAMPERED, (key,))

    return Reader("IMD2020", verdict, others="in no folder with a picture named …_orig",
                  guess="so each picture beside one named …_orig counts as tampered")


_ORIGINAL = re.compile(rb"_orig(?:inal)?$")
_NUMBERED = re.compile(rb"(\d+)_(?:fake|orig)")


def _dfdc(home: Path, subfolders: Sequence[str], notes: list[str]) -> Reader | None:
    """Deepfake Detection Challenge: ``metadata.json`` beside the videos, with their labels."""
    file = home / "metadata.json"
    if not os.path.isfile(file):  # Path.is_file raises where the folder can't be entered
        return None
    try:
        content = json_data.read(file)
        videos = content if isinstance(content, dict) else {}
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {file}: {reason(error)}; repair it, or move it away") \
            from None
    labels = {encoded(name): (_REAL_OR_FAKE[str(values["label"]).upper()],
                                  str(values.get("original") or name))
              for name, values in videos.items() if isinstance(values, dict)
              and str(values.get("label")).upper() in _REAL_OR_FAKE}
    if not labels:
        notes.append(f"{file} isn't used: it has no labels as DFDC's files of this name have, such "
                     'as {"clip.mp4": {"label": "FAKE"}}')
        return None

    def verdict(path: bytes) -> Verdict | None:
        label = labels.get(path)
        return Verdict(label[0], (f"DFDC {label[1]}",)) if label else None

    return Reader("DFDC", verdict, named=list(labels), lists=[os.fsencode(file.name)],
                  others=f"without a label in {file.name}")


_REAL_OR_FAKE = {"REAL": AUTHENTIC, "FAKE": TAMPERED}


def _nist(home: Path, subfolders: Sequence[str], notes: list[str]) -> Reader | None:
    """NIST's Nimble Challenge 2016 (NIST16): tables in ``reference/…/*-ref.csv`` name the probes,
    whether they were changed (``IsTarget``), their masks, black where they were, and the pictures
    they were made from."""
    if "reference" not in subfolders:
        return None
    tables = sorted((home / "reference").glob("*/*-ref.csv"))
    rows = [row for table in tables for row in _rows_of(table)]
    if not rows:
        return None
    verdicts: dict[bytes, Verdict] = {}
    masks: dict[bytes, bytes] = {}
    for row in rows:
        probe, base = (encoded((row.get(name) or "").strip())
                       for name in ("ProbeFileName", "BaseFileName"))
        mask = encoded((row.get("ProbeMaskFileName") or "").strip())
        tampered = (row.get("IsTarget") or "").strip().upper() == "Y"
        before = verdicts.get(probe, Verdict(AUTHENTIC, ()))
        source = os.fsdecode(stem(base) or stem(probe))
        verdicts[probe] = Verdict(TAMPERED if tampered else before.label,
                                  tuple(dict.fromkeys((*before.keys, f"NIST16 {source}"))))
        if tampered and mask:
            masks.setdefault(probe, mask)
    top = os.fsencode(home)
    return Reader("NIST16", verdicts.get, masks.get, list(verdicts),
                  [os.path.relpath(os.fsencode(table), top) for table in tables],
                  "not in its tables", inverted=True)


def _rows_of(table: Path) -> Iterator[dict[str, str]]:
    """Rows of a table of NIST's that names probes, with their values by column."""
    try:
        with open(table, encoding="utf-8", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file, delimiter="|")
            if not {"ProbeFileName", "IsTarget"} <= set(reader.fieldnames or ()):
                return
            yield from (row for row in reader if (row.get("ProbeFileName") or "").strip())
    except (OSError, csv.Error) as error:
        raise InputError(f"cannot read {table}: {reason(error)}; repair it, or move it away"
                         ) from None


def _files(place: Path, most: int | None = 1000) -> list[bytes]:
    """Names of the first pictures in a folder; none if it can't be listed."""
    try:
        with os.scandir(os.fsencode(place)) as entries:
            names = (entry.name for entry in entries)
            return list(islice((name for name in names if name.lower().endswith(PICTURES)), most))
    except OSError:
        return []


LAYOUTS: tuple[Callable[[Path, Sequence[str], list[str]], Reader | None], ...] = (
    _dfdc, _nist, _coverage, _imd)
