"""The audit's measurements as findings: a verdict for each, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpc_deepfake.audit import leaks, shortcuts
from hpc_deepfake.audit.duplicates import Pairs
from hpc_deepfake.audit.facts import CONTAINER, UNREADABLE, Facts
from hpc_deepfake.audit.report import FAIL, INFO, OK, WARN, Record
from hpc_deepfake.audit.rows import Rows, shown
from hpc_deepfake.audit.shortcuts import Coded, Finding
from hpc_deepfake.core.text import number, percent, plural
from preprocessing.catalogue import LABELS
from preprocessing.names import Name
from preprocessing.split import PARTS

TITLES = {"format": "file format", "coding": "coding", "mode": "pixel mode",
          "quantisation": "quantisation tables", "quality": "JPEG quality",
          "subsampling": "chroma subsampling", "metadata": "metadata", "software": "software",
          "comment": "comment", "size": "file size", "density": "bytes per pixel",
          "dimensions": "dimensions", "width": "width", "height": "height"}
WARN_FROM, FAIL_FROM = 0.6, 0.75  # AUC
_LISTED = 1000  # maximum number of pictures or pairs of a finding in the JSON file
_OUTSIDE = ("metadata", "software", "comment")
_REENCODE = ("save all pictures the same way before their features are computed:\n"
             "  python -m preprocessing --reencode 90 … --out NEW.h5\n"
             "Traces of the earlier compression stay in the pixels: publish this table beside the "
             "network's figures")
_TODO = {**dict.fromkeys((*CONTAINER, "mode", "quality", "size", "density"), _REENCODE),
         **dict.fromkeys(_OUTSIDE, "a network that reads pixels doesn't see this, but the classes "
                         "come from different programs, which leave traces in pixels too"),
         **dict.fromkeys(("dimensions", "width", "height"), "resizing to the network's input "
                         "leaves traces: use pictures of the same dimensions in both classes"),
         shortcuts.ALL: "facts that look harmless one by one add up: compare a network with this, "
                        "not with the majority class"}
_COPIES = ("remove one of each (--json FILE lists them all), and run preprocessing again with "
           "another --out")


def majority(labels: np.ndarray) -> float | None:
    """Accuracy of always predicting the more frequent class; None without pictures."""
    return float(max(labels.mean(), 1 - labels.mean())) if len(labels) else None


def files(rows: Rows, names: Sequence[bytes], file_facts: Sequence[Facts | None]) -> list[Record]:
    """Which files exist and can be read."""
    missing = [row for row, file in enumerate(file_facts) if file is None]
    broken = [row for row, file in enumerate(file_facts) if file and file.format == UNREADABLE]
    distinct = len(set(names))
    value = f"{distinct:,}" if distinct == len(rows) else \
        f"{distinct:,}, with {len(rows):,} rows: pictures, and frames of videos"
    records = [Record("files", value, figures={"files": distinct, "rows": len(rows)})]
    quality = rows.header.parameters.reencode
    if quality is not None:
        records.append(Record("saved alike", "features were computed after saving each picture "
                              f"again at quality {quality}; the findings below are about the "
                              "original files, which leave traces", INFO,
                              figures={"quality": quality}))
    if missing:
        records.append(_listing("missing", missing, rows, WARN, "not included in the findings "
                                "about files", "check that --data is the folder that "
                                "preprocessing read"))
    if broken:
        records.append(_listing("unreadable", broken, rows, WARN, "changed since preprocessing?",
                                "restore the files and run the same preprocessing command again"))
    return records


def facts(measured: Sequence[Finding], coded: Mapping[str, Coded],
          labels: np.ndarray) -> list[Record]:
    """A verdict on each fact, and on all facts together."""
    records = []
    for finding in measured:
        verdict = INFO if finding.auc is None else OK if finding.auc <= WARN_FROM \
            else WARN if finding.auc <= FAIL_FROM else FAIL
        figures: dict[str, Any] = {
            "fact": finding.fact, "auc": finding.auc, "accuracy": finding.accuracy,
            "majority": finding.majority, "values": finding.values}
        name = TITLES.get(finding.fact, finding.fact)
        fact = coded.get(finding.fact)  # None for all together
        if finding.auc is None:
            value = "can't be cross-validated: needs at least two groups that have both classes"
        elif fact is not None and finding.values == 1:
            value = f"the same in all files: {fact.names[fact.codes[0]]}"
        else:
            value = (f"AUC {finding.auc:.3f}, accuracy {finding.accuracy:.1%} (majority "
                     f"{finding.majority:.1%}), {finding.values} "
                     + ("values" if fact is not None else "facts"))
        todo = ""
        if verdict in (WARN, FAIL):
            if verdict == FAIL:
                better = (finding.accuracy or 0) > (finding.majority or 0)
                value += ": gives the label away" if better else \
                    ": differs between the classes, but predicts no label better than the majority"
            if fact is not None:
                telling = shortcuts.telling(fact, labels)
                figures["telling"] = telling
                value += ". " + "; ".join(f"{text}: {rate:.0%} of {count:,} tampered"
                                          for text, count, rate in telling)
            todo = _TODO[finding.fact]
        records.append(Record(name, value, verdict, todo, figures))
    return records


def baselines(rows: Rows, container: dict[str, Any] | None) -> list[Record]:
    """Accuracies that need no network."""
    records = []
    for part, name in enumerate(PARTS):
        labels = rows.labels[rows.parts == part]
        if len(labels) and part:
            share = majority(labels)
            records.append(Record(f"majority, {name}",
                                  f"{share:.1%} by always predicting "
                                  f"{LABELS[int(labels.mean() >= 0.5)]}, {len(labels):,} pictures",
                                  INFO, figures={"part": name, "accuracy": share,
                                                 "rows": len(labels)}))
    if container is None:
        value = "unknown: the files, or a class in the training part, are missing"
    else:
        fact = container["fact"]
        by = "all facts of the container" if fact == "all" else TITLES[fact]
        value = (f"{percent(container['accuracy'])} by {by}, AUC {number(container['auc'])}; "
                 f"fitted on the training part, {container['rows']:,} pictures")
    return [*records, Record("container, validation", value, INFO, figures=container)]


def sources(rows: Rows, shared: Mapping[tuple[str, str], np.ndarray]) -> list[Record]:
    """Pictures of a later part whose source is also in an earlier part."""
    records = []
    for (early, late), leaking in shared.items():
        total = int((rows.parts == PARTS.index(late)).sum())
        share = len(leaking) / total
        value = (f"{len(leaking):,} of {total:,} {late} pictures share a source with the {early} "
                 "part")
        if len(leaking):
            value += f" ({share:.0%}): " + _first(leaking.tolist(), rows)
        records.append(Record(
            f"{early} and {late}", value,
            FAIL if share > 0.05 else WARN if len(leaking) else OK,
            "split again with --split-by group (the default) and another --out"
            if len(leaking) else "",
            {"earlier": early, "later": late, "leaking": len(leaking), "rows": total,
             "pictures": _listed(leaking.tolist(), rows)}))
    return records or [Record("parts", "the file has only one part", INFO)]


def copies(rows: Rows, same: Sequence[Sequence[int]], pairs: Pairs) -> list[Record]:
    """Duplicates, and which of them lie in different parts of the split.

    Args:
        same: sets of rows whose files are byte-identical.
    """
    across = [members for members in same if len(set(rows.parts[list(members)].tolist())) > 1]
    count = sum(map(len, same))
    records = [Record(
        "byte-identical", f"{count:,} pictures in {plural(len(same), 'set')} of the same "
        f"bytes: {_sets(same, rows)}" if same else "none", INFO if same else OK,
        figures={"sets": [_listed(members, rows) for members in same[:_LISTED]]}),
        Record("identical, across", plural(len(across), "set")
               + (f": {_sets(across, rows)}" if across else ""), FAIL if across else OK,
               _COPIES if across else "",
               {"sets": [_listed(members, rows) for members in across[:_LISTED]]})]
    again = _of_other_bytes(pairs.copies, same)
    records.append(Record(
        "saved again", f"{plural(len(again), 'pair')} of the same picture in files of other bytes: "
        f"{_pairs(again, rows)}" if again else "none", INFO if again else OK,
        figures={"pairs": [_listed(pair, rows) for pair in again[:_LISTED]]}))
    for what, similar, verdict in (("saved again, across", again, FAIL),
                                   ("same scene, across", pairs.scenes.tolist(), WARN)):
        split = [(first, second) for first, second in similar
                 if rows.parts[first] != rows.parts[second]]
        records.append(Record(
            what, plural(len(split), "pair") + (f": {_pairs(split, rows)}" if split else ""),
            verdict if split else OK, _COPIES if split else "",
            {"pairs": [_listed(pair, rows) for pair in split[:_LISTED]]}))
    if not pairs.complete:
        records.append(Record("too many alike", "more pairs look alike than could be compared; "
                              "the findings about copies are incomplete", WARN,
                              "check for many pictures of a single colour, or frames of one scene"))
    return records


def labels(rows: Rows, parsed: Sequence[Name | None], same: Sequence[Sequence[int]],
           pairs: Pairs) -> list[Record]:
    """Labels that look wrong.

    Args:
        parsed: each row's CASIA name.
        same: sets of rows whose files are byte-identical.
    """
    contrary = leaks.contradicting(parsed, rows.labels).tolist()
    orphans = leaks.without_source(parsed).tolist()
    split = [members for members in same if len(set(rows.labels[list(members)].tolist())) > 1]
    twice = [(first, second) for first, second in _of_other_bytes(pairs.copies, same)
             if rows.labels[first] != rows.labels[second]]
    named = sum(name is not None for name in parsed)
    others = len(parsed) - named
    records = [
        _listing("names", contrary, rows, WARN, "imply another class than the folder",
                 "move them to the right folder") if contrary else
        Record("names", (f"{named:,} CASIA names agree with their folders"
                         + (f"; {others:,} other names can't confirm the labels" if others else ""))
               if named else "not CASIA names: they can't confirm the labels",
               OK if named and not others else INFO),
        Record("same bytes", f"{plural(len(split), 'set')} with both labels"
               + (f": {_sets(split, rows)}" if split else ""), FAIL if split else OK,
               "one of the two labels is wrong" if split else "",
               {"sets": [_listed(members, rows) for members in split[:_LISTED]]}),
        Record("same picture", f"{plural(len(twice), 'pair')} with both labels"
               + (f": {_pairs(twice, rows)}" if twice else ""), WARN if twice else OK,
               "look at them: a label is wrong, or the change is too small to be seen at "
               "32×32 pixels" if twice else "",
               {"pairs": [_listed(pair, rows) for pair in twice[:_LISTED]]})]
    unknown = leaks.not_understood(rows.paths, parsed)
    if unknown:
        records.append(_listing(
            "like CASIA's", unknown, rows, WARN, "not understood, so what these pictures were made "
            "from, and whether the split separates it, is not known",
            "name them as CASIA does, or name their groups with --manifest"))
    if orphans:
        records.append(_listing("unknown sources", orphans, rows, INFO,
                                "tampered pictures name a source that isn't among the authentic",
                                ""))
    return records


def _of_other_bytes(pairs: np.ndarray, same: Sequence[Sequence[int]]) -> list[list[int]]:
    """The pairs that aren't byte-identical."""
    set_of = {row: at for at, members in enumerate(same) for row in members}
    return [[first, second] for first, second in pairs.tolist()
            if first not in set_of or set_of[first] != set_of.get(second)]


def _listing(what: str, listed: Sequence[int], rows: Rows, verdict: str, meaning: str,
             todo: str) -> Record:
    return Record(what, f"{len(listed):,} {meaning}: {_first(listed, rows)}", verdict, todo,
                  {"count": len(listed), "pictures": _listed(listed, rows)})


def _first(listed: Sequence[int], rows: Rows, most: int = 3) -> str:
    return ", ".join(shown(rows.paths[row]) for row in listed[:most]) \
        + (" …" if len(listed) > most else "")


def _sets(sets: Sequence[Sequence[int]], rows: Rows, most: int = 2) -> str:
    return "; ".join(" = ".join(shown(rows.paths[row]) for row in members[:most]) for members
                     in sets[:most]) + (" …" if len(sets) > most else "")


def _pairs(pairs: Sequence[Sequence[int]], rows: Rows) -> str:
    return _sets(pairs, rows).replace(" = ", " ~ ")


def _listed(listed: Sequence[int], rows: Rows) -> list[str]:
    return [shown(rows.paths[row]) for row in listed[:_LISTED]]
