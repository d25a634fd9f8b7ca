"""A list of files with their labels, as CSV or JSON lines, for any data set."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hpc_deepfake.core import json_data
from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.core.text import plural, printable
from preprocessing import kinds
from preprocessing.listing import parts, sets
from preprocessing.listing.item import NO_PART, Item, encoded, folder
from preprocessing.names import AUTHENTIC, PICTURES, TAMPERED, VIDEOS

COLUMNS = ("path", "label", "mask", "group", "part")
_DELIMITERS = ",;\t|"
_MOST_ERRORS = 5  # that are shown


class Read(NamedTuple):
    """What a list says.

    Attributes:
        items: pictures and videos, in the order of the list.
        masks: mask by path of the picture, both relative to the root.
        given: digest of groups and parts, hexadecimal; empty where the list has none.
        idle: number of masks of authentic pictures, which aren't used.
    """

    items: list[Item]
    masks: dict[bytes, bytes]
    given: str
    idle: int = 0


class _Problem(Exception):
    """What is wrong with a line."""


def read(file: Path, root: Path) -> Read:
    """Read a list of files: CSV with a header (separated by comma, semicolon, tab or bar), or, if
    its name ends in ``.jsonl``, ``.ndjson`` or ``.json``, a JSON object on each line.

    ``path`` and ``label`` are required; ``mask``, ``group`` and ``part`` may be missing or empty,
    and other columns are not used. A label is 0 or 1, or a name that a folder of the class could
    have, such as real, REAL, fake, authentic, tampered.

    Args:
        file: the list, in UTF-8.
        root: the folder that paths are relative to; absolute ones must be below it.

    Raises:
        InputError: it can't be read; or a line is wrong, or names a file that doesn't exist: all
            such lines are counted, and the first ones named.
    """
    items: list[Item] = []
    masks: dict[bytes, bytes] = {}
    problems: list[tuple[int, str]] = []
    given = hashlib.sha256()
    line_of: dict[bytes, tuple[int, int]] = {}  # with the label
    mask_on: dict[bytes, int] = {}  # first line that names a mask
    idle = 0  # masks of authentic pictures
    exists = _Existing(root)
    for line, row in _rows(file):
        try:
            if isinstance(row, _Problem):
                raise row
            path, label = _path(row, "path", root), _label(row)
            _once(path, label, line_of)
            line_of[path] = line, label
            _require(exists, path)
            if (why := _unusable(os.path.join(os.fsencode(root), path))) is not None:
                raise _Problem(f"{_shown(path)} is no picture or video: {why}")
            mask = _path(row, "mask", root) if _text(row, "mask") else b""
            if mask:
                mask_on.setdefault(mask, line)
                _require(exists, mask, f", the mask of {_shown(path)}")
            group, part = _text(row, "group"), _part(row)
        except _Problem as problem:
            problems.append((line, str(problem)))
            continue
        keys = (f"manifest {group}",) if group else ()
        items.append(Item(path, label, b"", path, part, "manifest" if keys else "", keys))
        given.update(f"{group}\0{part}\0".encode("utf-8", "surrogatepass"))
        if mask and label == TAMPERED:
            masks[path] = mask
        idle += bool(mask) and label != TAMPERED
    problems += [(line_of[mask][0], f"{_shown(mask)} is also the mask of line {line}: take it out "
                                    "of one of them")
                 for mask, line in mask_on.items() if mask in line_of]
    if problems:
        shown = [f"line {line}: {text}" for line, text in sorted(problems)[:_MOST_ERRORS]]
        more = f"\n  and {len(problems) - len(shown):,} more" * (len(problems) > len(shown))
        raise InputError(f"{plural(len(problems), 'line')} of {file} can't be used (paths are "
                         f"relative to {root}; another folder: --data DIR):\n  "
                         + "\n  ".join(shown) + more)
    if not items:
        raise InputError(f"{file} lists no pictures: give a line for each, with path and label")
    plain = all(not item.keys and item.part == NO_PART for item in items)
    return Read(items, masks, "" if plain else given.hexdigest(), idle)


def _once(path: bytes, label: int, line_of: dict[bytes, tuple[int, int]]) -> None:
    if path in line_of:
        before, other = line_of[path]
        raise _Problem(f"{_shown(path)} is also on line {before}"
                       + (": keep one of them" if label == other else
                          ", with the other label: keep the line whose label is right"))


def _require(exists: _Existing, path: bytes, what: str = "") -> None:
    if not exists(path):
        slashes = path.replace(b"\\", b"/")
        raise _Problem(f"there is no file {_shown(path)}{what}" + (
            "" if slashes == path else
            f", but {_shown(slashes)}: write / between folders, instead of \\" if exists(slashes)
            else ": folders are separated by /, not \\"))


def _unusable(path: bytes) -> str | None:
    """Why a file isn't to be decoded; None if it is, as in a folder."""
    if path.lower().endswith(PICTURES + VIDEOS):
        return None
    if os.path.isdir(path):
        return "a folder: list the files in it, each on a line"
    kind = kinds.of_file(path)
    if kind.sort == kinds.OTHER:
        return kind.text
    return f"a file of another kind ({kind.text}): take it out" if kind.sort == kinds.BESIDE \
        else None


def _rows(file: Path) -> Iterator[tuple[int, dict[str, Any] | _Problem]]:
    """Number and values of each line, or what is wrong with it."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            if file.suffix.lower() in (".jsonl", ".ndjson", ".json"):
                for line, text in enumerate(stream, 1):
                    if text.strip():
                        yield line, _object(text)
                return
            header = stream.readline()
            delimiter = max(_DELIMITERS, key=header.count)
            names = [name.strip().lower()
                     for name in next(csv.reader([header], delimiter=delimiter), [])]
            lacking = [name for name in COLUMNS[:2] if name not in names]
            if lacking:
                raise InputError(
                    f"{file} has no column {' and no column '.join(lacking)}: begin it with a line "
                    f"of the columns' names, like {','.join(COLUMNS)}, of which path and label are "
                    "required")
            twice = [name for name in COLUMNS if names.count(name) > 1]
            if twice:
                raise InputError(f"{file} has the column {' and the column '.join(twice)} more "
                                 "than once: keep one, and rename the others")
            reader = csv.reader(stream, delimiter=delimiter, strict=True)
            try:
                for values in reader:
                    if len(values) > len(names):
                        yield reader.line_num + 1, _Problem(
                            f"{len(values)} values for {len(names)} columns: put values that "
                            f"contain '{delimiter}' in double quotes")
                    elif any(map(str.strip, values)):
                        yield reader.line_num + 1, dict(zip(names, values, strict=False))
            except csv.Error as error:  # what follows can't be told apart
                yield reader.line_num + 1, _Problem(f"{error}; repair the line")
    except UnicodeDecodeError:
        raise InputError(f"the list {file} is not a text in UTF-8: save it as UTF-8, such as with "
                         "iconv -f ISO-8859-1 -t UTF-8 (or -f UTF-16)") from None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the list {file}: {reason(error)}; check --manifest") \
            from None


def _object(text: str) -> dict[str, Any] | _Problem:
    try:
        value = json_data.parse(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        return _Problem("not a JSON object; give one on each line, like "
                        + json.dumps({"path": "a/1.jpg", "label": "real"}))
    return value


def _text(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if isinstance(value, (dict, list, float)):
        raise _Problem(f"{name} is {json.dumps(value)[:40]}, not a text")
    return str(int(value) if isinstance(value, bool) else value).strip()


def _label(row: dict[str, Any]) -> int:
    text = _text(row, "label")
    if text in ("0", "1", "0.0", "1.0"):  # the latter from programs that take all for decimals
        return (AUTHENTIC, TAMPERED)[int(text[0])]
    label = sets.label_of(text)
    if label is None:
        raise _Problem(f"label '{printable(text)[:40]}' is unknown: give 0, authentic, real, or "
                       "1, tampered, fake")
    return label


def _part(row: dict[str, Any]) -> int:
    text = _text(row, "part")
    part = parts.part_of(text)
    if text and part == NO_PART:
        raise _Problem(f"part '{printable(text)[:40]}' is unknown: give train, validation or test, "
                       "or leave it empty")
    return part


def _path(row: dict[str, Any], name: str, root: Path) -> bytes:
    """A path of a row, relative to the root."""
    text = _text(row, name)
    if not text or "\0" in text:
        raise _Problem(f"{name} is empty" if not text else f"{name} has a zero byte")
    top = os.path.abspath(os.fsencode(root))
    path = os.path.normpath(os.path.join(top, encoded(text)))
    if not path.startswith(top.rstrip(b"/") + b"/"):
        raise _Problem(f"{_shown(path)} is not below {root}: name a folder that has all files with "
                       "--data DIR")
    return path[len(top.rstrip(b"/")) + 1:]


class _Existing:
    """Whether files exist below a folder, by listing each folder once instead of asking for each
    file."""

    def __init__(self, root: Path) -> None:
        self._root = os.fsencode(root)
        self._names: dict[bytes, set[bytes]] = {}

    def __call__(self, path: bytes) -> bool:
        place = folder(path)
        if place not in self._names:
            try:
                self._names[place] = set(os.listdir(os.path.join(self._root, place) or b"."))
            except OSError:
                self._names[place] = set()
        return path.rpartition(b"/")[2] in self._names[place]


def _shown(path: bytes) -> str:
    return printable(os.fsdecode(path))
