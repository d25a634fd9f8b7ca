"""Pictures that two data files have in common: the same bytes, saved again, of the same source."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations, compress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hpc_deepfake.audit import duplicates, leaks
from hpc_deepfake.audit.report import FAIL, INFO, OK, WARN, Record, Report
from hpc_deepfake.audit.rows import Rows, files_of, open_rows, shown, stored_roots
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.progress import counted
from hpc_deepfake.core.text import plural
from preprocessing import facts, similar
from preprocessing.integrity import require_intact
from preprocessing.names import TAMPERED, Name
from preprocessing.split import PARTS

WAYS = ("", "same bytes", "saved again", "same scene or source", "same group")  # of ``shared``
_LISTED = 1000  # maximum number of pictures of a finding in the JSON file
_AGREE = 0.5  # share of authentic pictures of equal names that must be the same pictures
_TODO = ("a model trained on one of the two files knows these pictures of the other. Evaluate it "
         "without them:\n"
         "  hpc-deepfake evaluate --model RUN --data OTHER.h5\n"
         "gives the figures with and without the pictures that RUN was trained on")


@dataclass(frozen=True)
class Known:
    """What is known of the M pictures of a data file.

    Attributes:
        rows: of the data file.
        digests: of their files, bytes (M); empty where unknown.
        small: thumbnails, uint8 (M, 32, 32, 3).
        made: which thumbnails exist and show something, bool (M).
        names: each path parsed as a CASIA name.
    """

    rows: Rows
    digests: list[bytes]
    small: np.ndarray
    made: np.ndarray
    names: list[Name | None]

    def take(self, chosen: np.ndarray) -> Known:
        """What is known of those of the pictures, bool (M)."""
        return Known(self.rows.take(chosen), [*compress(self.digests, chosen)],
                     self.small[chosen], self.made[chosen], [*compress(self.names, chosen)])


class Kind(NamedTuple):
    """Pictures that two files have in common in one way.

    Attributes:
        first: their rows in the first file, int64, sorted.
        second: in the second file.
        pairs: examples or all of them, int64 (P, 2): a row of the first and of the second file.
    """

    first: np.ndarray
    second: np.ndarray
    pairs: np.ndarray

    @classmethod
    def of(cls, pairs: np.ndarray) -> Kind:
        return cls(np.unique(pairs[:, 0]), np.unique(pairs[:, 1]), pairs)


def audit(paths: Sequence[Path]) -> Report:
    """Compare each two of the data files, and print what they have in common. A picture counts
    once, in the first way that applies to it.

    Raises:
        InputError: one isn't a data file, has no pictures, or nothing of its pictures is known.
    """
    report = Report()
    known = [read(path) for path in paths]
    for first, second in combinations(known, 2):
        names = f"{first.rows.header.path} and {second.rows.header.path}"
        report.section(f"common to {names}", compare(first, second))
    return report


def read(path: Path) -> Known:
    """Digests, thumbnails and names of a data file's pictures. What the file doesn't have, as one
    of an earlier version, or without the feature ``raw``, is taken from the picture files.

    Raises:
        InputError: it isn't a data file, has no pictures, or neither has these nor are there the
            picture files.
    """
    rows = open_rows(path)
    if not len(rows):
        raise InputError(f"{path} has no usable pictures; see {path}.rejects.csv")
    files: list[bytes] | None = None
    with suppress(InputError):
        if roots := stored_roots(path):
            files = files_of(rows, roots)
    stored = duplicates.stored_rows(rows)
    require_intact(rows.header, stored)
    digests = _digests(rows, files)
    if len(stored) or files is not None:
        small, made = duplicates.thumbnails(rows, files or [b""] * len(rows))
    else:
        small, made = np.zeros((len(rows), 1, 1, 3), np.uint8), np.zeros(len(rows), bool)
    made &= np.ptp(small.reshape(len(small), -1), axis=1) >= similar.PLAIN
    if not any(digests) and not made.any():
        raise InputError(f"{path} has neither digests nor the feature raw, and its pictures aren't "
                         f"where {path}.json says: run preprocessing again with another --out")
    return Known(rows, digests, small, made, leaks.names(rows.paths))


def _digests(rows: Rows, files: list[bytes] | None) -> list[bytes]:
    if rows.header.has_facts:
        stored = np.array(rows.header.array("digest"))[rows.rows]
        return [digest.tobytes() if digest.any() else b"" for digest in stored]
    by_name: dict[bytes, bytes] = {}
    names = dict.fromkeys(files or ())
    for name in counted(names, len(names), "files read"):
        with suppress(OSError):
            by_name[name] = facts.digest_of_file(name)
    return [by_name.get(name, b"") for name in files or [b""] * len(rows)]


def compare(first: Known, second: Known) -> list[Record]:
    """What two data files have in common, each picture in the first way that applies to it."""
    common = _common(first, second)
    same, copies = common.kinds[:2]
    names_agree, complete = common.names_agree, common.complete
    records = [_record(what, kind, first, second, verdict) for (what, verdict), kind in zip(
        (("byte-identical", FAIL), ("saved again", FAIL), ("same source", WARN)), common.kinds,
        strict=True)]
    records.append(_labels(first, second, [same, copies]))
    for known in (first, second):
        if not all(known.digests):
            records.append(Record("unknown files", f"{known.digests.count(b''):,} pictures of "
                                  f"{known.rows.header.path} have no digest, so byte-identical "
                                  "ones count as saved again", INFO,
                                  "run preprocessing again with another --out"))
        if not known.made.any():
            records.append(Record("no thumbnails", f"{known.rows.header.path} has no feature raw, "
                                  "and its picture files aren't there, so only identical files are "
                                  "found", WARN, "run preprocessing with --features ela raw"))
    if not complete:
        records.append(Record("too many alike", "more pairs look alike than could be compared; "
                              "the findings are incomplete", WARN))
    if names_agree is False:
        records.append(Record("names", "equal CASIA names stand for different pictures here, so "
                              "they say nothing about common sources", INFO))
    return records


def shared(first: Known, second: Known) -> tuple[np.ndarray, bool]:
    """Pictures of the second that say nothing new of a model trained on the first.

    A picture counts in the first way that applies. Whole groups of common source are shared: those
    of the second with a picture that is, and where both are of one data file, those of the first.

    Returns:
        Index into ``WAYS`` of each of the second's pictures, uint8 (M), and whether all that look
        alike could be compared.
    """
    common = _common(first, second)
    found = np.zeros(len(second.rows), np.uint8)
    for way, kind in reversed([*enumerate(common.kinds, 1)]):
        found[kind.second] = way
    groups = second.rows.groups[found > 0]
    if first.rows.header.digest() == second.rows.header.digest():
        groups = np.concatenate([groups, first.rows.groups])
    found[(found == 0) & np.isin(second.rows.groups, groups)] = WAYS.index("same group")
    return found, common.complete


class _Common(NamedTuple):
    """The same bytes, saved again and of the same source; whether equal CASIA names of authentic
    pictures stand for the same pictures (None: there are none), and whether all pictures that look
    alike could be compared."""

    kinds: tuple[Kind, Kind, Kind]
    names_agree: bool | None
    complete: bool


def _common(first: Known, second: Known) -> _Common:
    """What two data files have in common, each picture in the first way that applies to it."""
    same = _identical(first, second)
    copies, scenes, complete = _alike(first, second, same)
    names_agree, sources = _sources(first, second, same, copies)
    return _Common((same, copies, _joined([scenes, sources], [same, copies])), names_agree,
                   complete)


def _identical(first: Known, second: Known) -> Kind:
    """A pair for each row: a file may be in several rows, such as the frames of a video."""
    pairs: list[tuple[int, int]] = []
    at = {digest: row for row, digest in reversed([*enumerate(second.digests)])}
    back = {digest: row for row, digest in reversed([*enumerate(first.digests)])}
    pairs += [(row, at[digest]) for row, digest in enumerate(first.digests)
              if digest and digest in at]
    pairs += [(back[digest], row) for row, digest in enumerate(second.digests)
              if digest and digest in back]
    return Kind.of(_array(dict.fromkeys(pairs)))


def _alike(first: Known, second: Known, same: Kind) -> tuple[Kind, Kind, bool]:
    """Copies that were saved again, and pictures of the same scene, by their thumbnails; and
    whether all candidates could be compared."""
    rows = [np.flatnonzero(known.made) for known in (first, second)]
    kept, count, complete = [np.zeros((0, 2), np.int64)], 0, True
    for candidates in similar.near(similar.hashes(first.small[rows[0]]),
                                   similar.hashes(second.small[rows[1]])):
        pairs = np.stack([rows[side][candidates[:, side]] for side in (0, 1)], 1)
        pairs = pairs[~(np.isin(pairs[:, 0], same.first) & np.isin(pairs[:, 1], same.second))]
        kept.append(pairs[:duplicates.MOST - count])
        count += len(kept[-1])
        complete &= len(kept[-1]) == len(pairs)
    pairs = np.concatenate(kept)
    largest, median = np.zeros((2, len(pairs)))
    for start in range(0, len(pairs), _LISTED):
        part = slice(start, start + _LISTED)
        largest[part], median[part] = similar.changes(first.small[pairs[part, 0]],
                                                      second.small[pairs[part, 1]])
    return (Kind.of(pairs[largest <= similar.COPY]),
            Kind.of(pairs[(largest > similar.COPY) & (median <= similar.SCENE)]), complete)


def _sources(first: Known, second: Known, same: Kind, copies: Kind) -> tuple[bool | None, Kind]:
    """Pictures whose CASIA names have a source in common, and whether equal names of authentic
    pictures stand for the same pictures in both files; None: there are no such names."""
    alike = {*map(tuple, same.pairs.tolist()), *map(tuple, copies.pairs.tolist())}
    originals = {name.sources[0]: row for row, name in enumerate(second.names)
                 if name and name.label != TAMPERED}
    equal = [(row, originals[name.sources[0]]) for row, name in enumerate(first.names)
             if name and name.label != TAMPERED and name.sources[0] in originals]
    agree = sum(pair in alike for pair in equal) >= _AGREE * len(equal) if equal else None
    if agree is False:
        return agree, Kind.of(_array(()))
    rows_of: dict[str, int] = {}
    for row, name in enumerate(second.names):
        for source in name.sources if name else ():
            rows_of.setdefault(source, row)
    back: dict[str, int] = {}
    for row, name in enumerate(first.names):
        for source in name.sources if name else ():
            back.setdefault(source, row)
    pairs = [(row, rows_of[source]) for row, name in enumerate(first.names)
             for source in (name.sources if name else ()) if source in rows_of]
    pairs += [(back[source], row) for row, name in enumerate(second.names)
              for source in (name.sources if name else ()) if source in back]
    return agree, Kind.of(_array(dict.fromkeys(pairs)))


def _joined(kinds: Sequence[Kind], without: Sequence[Kind]) -> Kind:
    """The pictures of some kinds that are in none of the others; the pairs have at least one."""
    first, second = (np.setdiff1d(np.concatenate([kind[side] for kind in kinds]),
                                  np.concatenate([kind[side] for kind in without]))
                     for side in (0, 1))
    pairs = np.concatenate([kind.pairs for kind in kinds])
    return Kind(first, second, pairs[np.isin(pairs[:, 0], first) | np.isin(pairs[:, 1], second)])


def _record(what: str, kind: Kind, first: Known, second: Known, verdict: str) -> Record:
    figures: dict[str, Any] = {
        "first": _side(kind.first, first), "second": _side(kind.second, second),
        "pairs": [_pair(pair, first, second) for pair in kind.pairs[:_LISTED].tolist()]}
    if not len(kind.first) and not len(kind.second):
        return Record(what, "none", OK, figures=figures)
    sign = " = " if verdict == FAIL else " ~ "
    examples = "; ".join(sign.join(_pair(pair, first, second))
                         for pair in kind.pairs[:2].tolist())
    value = " and ".join(f"{len(rows):,} of {plural(len(known.rows), 'picture')} of "
                         f"{known.rows.header.path.name}{_parts(rows, known)}"
                         for rows, known in ((kind.first, first), (kind.second, second))
                         if len(rows))
    return Record(what, f"{value}: {examples}{' …' if len(kind.pairs) > 2 else ''}", verdict,
                  _TODO, figures)


def _parts(rows: np.ndarray, known: Known) -> str:
    """How many of the rows are in each part, as text."""
    counts = np.bincount(known.rows.parts[rows], minlength=len(PARTS))
    words = [f"{count:,} {part}" for count, part in zip(counts.tolist(), PARTS, strict=True)
             if count]
    return f" ({', '.join(words)})" if words else ""


def _side(rows: np.ndarray, known: Known) -> dict[str, Any]:
    counts = np.bincount(known.rows.parts[rows], minlength=len(PARTS)).tolist()
    return {"file": str(known.rows.header.path), "pictures": len(rows), "of": len(known.rows),
            "parts": dict(zip(PARTS, counts, strict=True)),
            "paths": [shown(known.rows.paths[row]) for row in rows[:_LISTED].tolist()]}


def _labels(first: Known, second: Known, kinds: Sequence[Kind]) -> Record:
    """The same pictures with different labels."""
    pairs = np.concatenate([kind.pairs for kind in kinds])
    wrong = pairs[first.rows.labels[pairs[:, 0]] != second.rows.labels[pairs[:, 1]]].tolist()
    listed = [_pair(pair, first, second) for pair in wrong[:_LISTED]]
    if not wrong:
        return Record("labels", "no common picture has different labels" if len(pairs) else
                      "no common pictures", OK if len(pairs) else INFO)
    return Record("labels", f"{plural(len(wrong), 'pair')} of the same picture with different "
                  "labels: " + "; ".join(" ~ ".join(pair) for pair in listed[:2])
                  + (" …" if len(wrong) > 2 else ""), WARN,
                  "look at them: a label is wrong, or the change is too small to be seen at "
                  "32×32 pixels", {"pairs": listed})


def _pair(pair: Sequence[int], first: Known, second: Known) -> list[str]:
    return [shown(known.rows.paths[row]) for row, known in zip(pair, (first, second), strict=True)]


def _array(pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    return np.array([*pairs], np.int64).reshape(-1, 2)
