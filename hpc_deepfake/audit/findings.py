"""What the audit's measurements mean: a verdict for each, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hpc_deepfake.audit import leaks, shortcuts
from hpc_deepfake.audit.duplicates import Pairs
from hpc_deepfake.audit.facts import CONTAINER, UNREADABLE, Facts
from hpc_deepfake.audit.report import FAIL, INFO, OK, WARN, Record
from hpc_deepfake.audit.rows import Rows, shown
from hpc_deepfake.audit.shortcuts import Coded, Finding
from preprocessing.catalogue import LABELS
from preprocessing.names import Name
from preprocessing.split import PARTS

TITLES = {"format": "file format", "coding": "coding", "mode": "pixel mode",
          "quantisation": "quantisation tables", "quality": "JPEG quality",
          "subsampling": "chroma subsampling", "metadata": "metadata", "software": "software",
          "comment": "comment", "size": "file size", "density": "bytes per pixel",
          "dimensions": "dimensions", "width": "width", "height": "height"}
WARN_FROM, FAIL_FROM = 0.6, 0.75  # AUC
_LISTED = 1000  # pictures or pairs of a finding in the JSON file
_OUTSIDE = ("metadata", "software", "comment")
_REENCODE = ("save every picture alike before its features are computed:\n"
             "  python -m preprocessing --reencode 90 … --out NEW.h5\n"
             "Traces of the earlier compression stay in the pixels: keep this table beside the "
             "network's figures")
_TODO = {**dict.fromkeys((*CONTAINER, "mode", "quality", "size", "density"), _REENCODE),
         **dict.fromkeys(_OUTSIDE, "a network that reads pixels doesn't see this, but the classes "
                         "come from different programs, which leave traces in pixels too"),
         **dict.fromkeys(("dimensions", "width", "height"), "resizing to the network's input "
                         "leaves traces of it: take pictures of the same dimensions of both "
                         "classes"),
         shortcuts.ALL: "single facts that look harmless add up: compare a network with this, not "
                        "with the majority class"}
_COPIES = ("leave out one of each (--json FILE lists them all), and run preprocessing again with "
           "another --out")


def majority(labels: np.ndarray) -> float | None:
    """Accuracy of always saying the more frequent class; None without pictures."""
    return float(max(labels.mean(), 1 - labels.mean())) if len(labels) else None


def files(rows: Rows, names: Sequence[bytes], found: Sequence[Facts | None]) -> list[Record]:
    """Which files are there and can be read."""
    missing = [row for row, one in enumerate(found) if one is None]
    broken = [row for row, one in enumerate(found) if one and one.format == UNREADABLE]
    distinct = len(set(names))
    value = f"{distinct:,}" if distinct == len(rows) else f"{distinct:,} of {len(rows):,} rows"
    records = [Record("files", value, figures={"files": distinct, "rows": len(rows)})]
    quality = rows.header.parameters.reencode
    if quality is not None:
        records.append(Record("saved alike", "features come from pictures saved at quality "
                              f"{quality} once more; what follows is about the files before that, "
                              "which leave traces", INFO, figures={"quality": quality}))
    if missing:
        records.append(_listing("missing", missing, rows, WARN, "left out of what is said about "
                                "files", "is --data the folder that preprocessing was given?"))
    if broken:
        records.append(_listing("unreadable", broken, rows, WARN, "changed since preprocessing?",
                                "run the same preprocessing command again on whole files"))
    return records


def facts(measured: Sequence[Finding], coded: Mapping[str, Coded],
          labels: np.ndarray) -> list[Record]:
    """A verdict on each fact, and on all together."""
    records = []
    for one in measured:
        verdict = INFO if one.auc is None else OK if one.auc <= WARN_FROM \
            else WARN if one.auc <= FAIL_FROM else FAIL
        figures = {"fact": one.fact, "auc": one.auc, "accuracy": one.accuracy,
                   "majority": one.majority, "values": one.values}
        name = TITLES.get(one.fact, one.fact)
        known = coded.get(one.fact)
        if one.auc is None:
            value = "can't be cross-validated: it takes two groups or more with both classes"
        elif known is not None and one.values == 1:
            value = f"the same in all files: {known.names[known.codes[0]]}"
        else:
            value = (f"AUC {one.auc:.3f}, accuracy {one.accuracy:.1%} (majority "
                     f"{one.majority:.1%}), {one.values} "
                     + ("values" if known is not None else "facts"))
        todo = ""
        if verdict in (WARN, FAIL):
            if verdict == FAIL:
                value += ": gives the label away"
            if known is not None:
                figures["telling"] = shortcuts.telling(known, labels)
                value += ". " + "; ".join(f"{text}: {rate:.0%} of {count:,} tampered"
                                          for text, count, rate in figures["telling"])
            todo = _TODO[one.fact]
        records.append(Record(name, value, verdict, todo, figures))
    return records


def baselines(rows: Rows, container: dict | None) -> list[Record]:
    """What needs no network at all."""
    records = []
    for part, name in enumerate(PARTS):
        ours = rows.labels[rows.parts == part]
        if len(ours) and part:
            share = majority(ours)
            records.append(Record(f"majority, {name}",
                                  f"{share:.1%} by always saying {LABELS[int(ours.mean() >= 0.5)]}"
                                  f", {len(ours):,} pictures", INFO,
                                  figures={"part": name, "accuracy": share, "rows": len(ours)}))
    if container is None:
        value = "unknown: the files, or a class in the training part, are missing"
    else:
        fact = container["fact"]
        by = "all facts of the container" if fact == "all" else TITLES[fact]
        auc = "–" if container["auc"] is None else f"{container['auc']:.3f}"
        value = (f"{container['accuracy']:.1%} by {by}, AUC {auc}; fitted on the training part, "
                 f"{container['rows']:,} pictures")
    return [*records, Record("container, validation", value, INFO, figures=container)]


def sources(rows: Rows, shared: Mapping[tuple[str, str], np.ndarray]) -> list[Record]:
    """Pictures of a later part whose source an earlier part knows."""
    records = []
    for (early, late), leaking in shared.items():
        total = int((rows.parts == PARTS.index(late)).sum())
        share = len(leaking) / total
        value = (f"{len(leaking):,} of {total:,} {late} pictures share a source with the {early} "
                 "part")
        if len(leaking):
            value += f" ({share:.0%}): " + _some(leaking, rows)
        records.append(Record(
            f"{early} and {late}", value,
            FAIL if share > 0.05 else WARN if len(leaking) else OK,
            "split again with --split-by group (the default) and another --out"
            if len(leaking) else "",
            {"earlier": early, "later": late, "leaking": len(leaking), "rows": total,
             "pictures": _listed(leaking, rows)}))
    return records or [Record("parts", "there is only one", INFO)]


def copies(rows: Rows, same: Sequence[Sequence[int]], pairs: Pairs) -> list[Record]:
    """Duplicates, and those of them that are on two sides of the split."""
    across = [some for some in same if len(set(rows.parts[list(some)].tolist())) > 1]
    count = sum(map(len, same))
    records = [Record(
        "byte-identical", f"{count:,} pictures in {_count(same, 'set')} of the same "
        f"bytes: {_sets(same, rows)}" if same else "none", INFO if same else OK,
        figures={"sets": [_listed(some, rows) for some in same[:_LISTED]]}),
        Record("identical, across", _count(across, "set")
               + (f": {_sets(across, rows)}" if across else ""), FAIL if across else OK,
               _COPIES if across else "",
               {"sets": [_listed(some, rows) for some in across[:_LISTED]]})]
    again = _of_other_bytes(pairs.copies, same)
    records.append(Record(
        "saved again", f"{_count(again, 'pair')} of the same picture in files of other bytes: "
        f"{_pairs(again, rows)}" if again else "none", INFO if again else OK,
        figures={"pairs": [_listed(pair, rows) for pair in again[:_LISTED]]}))
    for what, found, verdict in (("saved again, across", again, FAIL),
                                 ("same scene, across", pairs.scenes.tolist(), WARN)):
        split = [(one, other) for one, other in found if rows.parts[one] != rows.parts[other]]
        records.append(Record(
            what, _count(split, "pair") + (f": {_pairs(split, rows)}" if split else ""),
            verdict if split else OK, _COPIES if split else "",
            {"pairs": [_listed(pair, rows) for pair in split[:_LISTED]]}))
    if not pairs.complete:
        records.append(Record("too many alike", "more pairs look alike than could be compared; "
                              "what is said about copies is incomplete", WARN,
                              "many pictures of one colour, or frames of one scene?"))
    return records


def labels(rows: Rows, parsed: Sequence[Name | None], same: Sequence[Sequence[int]],
           pairs: Pairs) -> list[Record]:
    """Labels that look wrong."""
    contrary = leaks.contradicting(parsed, rows.labels).tolist()
    orphans = leaks.without_source(parsed).tolist()
    split = [some for some in same if len(set(rows.labels[list(some)].tolist())) > 1]
    twice = [(one, other) for one, other in _of_other_bytes(pairs.copies, same)
             if rows.labels[one] != rows.labels[other]]
    named = sum(name is not None for name in parsed)
    records = [
        _listing("names", contrary, rows, WARN, "say another class than the folder",
                 "move them to the right folder") if contrary else
        Record("names", f"{named:,} CASIA names agree with their folders" if named else
               "no CASIA names: they tell nothing about labels", OK if named else INFO),
        Record("same bytes", f"{_count(split, 'set')} with both labels"
               + (f": {_sets(split, rows)}" if split else ""), FAIL if split else OK,
               "one of the two labels is wrong" if split else "",
               {"sets": [_listed(some, rows) for some in split[:_LISTED]]}),
        Record("same picture", f"{_count(twice, 'pair')} with both labels"
               + (f": {_pairs(twice, rows)}" if twice else ""), WARN if twice else OK,
               "look at them: a label is wrong, or what was changed is too small to be seen at "
               "32×32 pixels" if twice else "",
               {"pairs": [_listed(pair, rows) for pair in twice[:_LISTED]]})]
    if orphans:
        records.append(_listing("unknown sources", orphans, rows, INFO,
                                "tampered pictures name a source that isn't among the authentic",
                                ""))
    return records


def _of_other_bytes(pairs: np.ndarray, same: Sequence[Sequence[int]]) -> list[list[int]]:
    """Those pairs that aren't byte-identical."""
    number = {row: at for at, some in enumerate(same) for row in some}
    return [[one, other] for one, other in pairs.tolist()
            if one not in number or number[one] != number.get(other)]


def _listing(what: str, found: Sequence[int], rows: Rows, verdict: str, meaning: str,
             todo: str) -> Record:
    return Record(what, f"{len(found):,} {meaning}: {_some(found, rows)}", verdict, todo,
                  {"count": len(found), "pictures": _listed(found, rows)})


def _count(found: Sequence, what: str) -> str:
    return f"{len(found):,} {what}{'s' * (len(found) != 1)}"


def _some(found: Sequence[int], rows: Rows, most: int = 3) -> str:
    return ", ".join(shown(rows.paths[row]) for row in found[:most]) \
        + (" …" if len(found) > most else "")


def _sets(found: Sequence[Sequence[int]], rows: Rows, most: int = 2) -> str:
    return "; ".join(" = ".join(shown(rows.paths[row]) for row in some[:most]) for some
                     in found[:most]) + (" …" if len(found) > most else "")


def _pairs(found: Sequence[Sequence[int]], rows: Rows) -> str:
    return _sets(found, rows).replace(" = ", " ~ ")


def _listed(found: Sequence[int], rows: Rows) -> list[str]:
    return [shown(rows.paths[row]) for row in found[:_LISTED]]
