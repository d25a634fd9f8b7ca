"""``hpc-deepfake audit``: what besides tampering tells the classes of a data file apart."""

from __future__ import annotations

import json
import os
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hpc_deepfake.audit import baseline, duplicates, facts, findings, leaks, shortcuts
from hpc_deepfake.audit.baseline import container_baseline
from hpc_deepfake.audit.report import FAIL, WARN, Report
from hpc_deepfake.audit.rows import Rows, facts_of, files_of, open_rows, stored_roots
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.options import Parser, at_least
from preprocessing.catalogue import LABELS

__all__ = ["container_baseline", "main", "parser"]

_EXAMPLES = """examples:
  hpc-deepfake audit casia2.h5
  hpc-deepfake audit casia2.h5 --data /scratch/CASIA2 --json audit.json
  hpc-deepfake audit mixed.h5 --authentic CASIA1 --tampered CASIA2

Each line: a verdict, what, and what was found; below it what to do.
  ok    fine        info  just to know
  warn  a figure on these data needs a word about this
  FAIL  as long as this is so, a high figure on these data proves nothing
exit codes: 0 done, whatever was found; 1 with --strict: a warn or FAIL; 2 wrong usage or input"""


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake audit", epilog=_EXAMPLES, description=(
        "How well trivial facts of the files predict the label, which pictures leak across the "
        "split, which are duplicates, and which labels look wrong."))
    cli.add_argument("file", type=Path, metavar="FILE", help="data file")
    cli.add_argument("--data", type=Path, metavar="DIR",
                     help="folder of its pictures (default: as noted in FILE.json)")
    cli.add_argument("--authentic", type=Path, metavar="DIR",
                     help="instead of --data, where preprocessing had it too")
    cli.add_argument("--tampered", type=Path, metavar="DIR", help="with --authentic")
    cli.add_argument("--seed", type=at_least(0), default=0, help="of the cross-validation's folds")
    cli.add_argument("--strict", action="store_true", help="exit code 1 if there is a warn or FAIL")
    cli.add_argument("--json", type=Path, metavar="FILE",
                     help="write all that was found there too, with full lists of pictures")
    return cli


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    options = parser().parse(argv)
    began = time.perf_counter()
    rows = open_rows(options.file)
    if not len(rows):
        raise InputError(f"{options.file} has no usable pictures; see {options.file}.rejects.csv")
    files = files_of(rows, _roots(options))
    found = facts_of(files)
    if not any(found):
        raise InputError(f"none of the {len(set(files)):,} files of {options.file} is there, like "
                         f"{os.fsdecode(files[0])}: name the folder that preprocessing was given "
                         "with --data DIR")
    report = Report()
    print(_headline(rows) + "\n")
    table = facts.columns(found)
    report.section("files", findings.files(rows, files, found))
    _predictors(report, rows, found, table, options.seed)
    parsed = leaks.names(rows.paths)
    report.section("sources on two sides of the split", findings.sources(
        rows, leaks.shared(parsed, rows.groups, rows.parts)))
    same = duplicates.identical(files, table["size"])
    pairs = duplicates.alike(*duplicates.thumbnails(rows, files), rows.groups, rows.parts,
                             rows.labels)
    report.section("duplicates", findings.copies(rows, same, pairs))
    report.section("labels", findings.labels(rows, parsed, same, pairs))
    print(_verdict(report, time.perf_counter() - began))
    if options.json is not None:
        _write(options, rows, report)
    return int(options.strict and any(record.bad for record in report.records))


def _roots(options: Namespace) -> dict[str, Path]:
    if (options.authentic is None) != (options.tampered is None):
        raise InputError("--authentic and --tampered go together")
    if options.authentic is not None:
        if options.data is not None:
            raise InputError("give either --data or --authentic and --tampered")
        roots = {"authentic": options.authentic, "tampered": options.tampered}
    elif options.data is not None:
        roots = {"": options.data}
    else:
        roots = stored_roots(options.file)
    if not roots:
        raise InputError(f"there is no {options.file}.json that tells where the pictures lie: "
                         "name their folder with --data DIR")
    for folder in roots.values():
        if not folder.is_dir():
            raise InputError(f"there is no folder of pictures '{folder}'; name it with --data DIR")
    return roots


def _headline(rows: Rows) -> str:
    counts = " + ".join(f"{(rows.labels == label).sum():,} {name}"
                        for label, name in enumerate(LABELS))
    made = rows.header.attributes
    return (f"{rows.header.path}: {len(rows):,} pictures ({counts}) in "
            f"{len(np.unique(rows.groups)):,} groups of common source; "
            f"split {made['split']} by {made['split_by']}")


def _predictors(report: Report, rows: Rows, found: list[facts.Facts | None],
                table: dict[str, np.ndarray], seed: int) -> None:
    there = np.array([one is not None for one in found])
    labels = rows.labels[there]
    coded = {name: shortcuts.code(table[name][there]) for name in findings.TITLES}
    measured = shortcuts.measure(coded, labels, rows.groups[there], seed)
    chance = shortcuts.chance(labels)
    title = "what a file's outside tells about its label"
    if chance is not None:
        title += f" (cross-validated by group; chance alone: AUC 0.5 ± {chance:.2f})"
    report.section(title, findings.facts(measured, coded, labels))
    report.section("what to hold a network's accuracy against",
                   findings.baselines(rows, baseline.of(rows, found)))


def _verdict(report: Report, seconds: float) -> str:
    fails, warns = report.count(FAIL), report.count(WARN)
    meaning = "a high figure on these data proves nothing as long as that is so" if fails else \
        "a figure on these data needs a word about the warnings" if warns else \
        "nothing found that tells the classes apart besides what their pictures show"
    return f"audit: {fails} FAIL, {warns} warn, in {seconds:.1f} s: {meaning}"


def _write(options: Namespace, rows: Rows, report: Report) -> None:
    text = json.dumps({"file": str(options.file), "rows": len(rows),
                       "majority": findings.majority(rows.labels),
                       "fails": report.count(FAIL), "warnings": report.count(WARN),
                       "sections": report.as_dict()}, indent=2)
    new = options.json.with_name(f".{options.json.name}.new")
    try:
        new.write_text(text + "\n", encoding="utf-8")
        os.replace(new, options.json)
    except OSError as error:
        raise InputError(f"cannot write --json {options.json}: {error.strerror}") from None
