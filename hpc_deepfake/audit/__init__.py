"""``hpc-deepfake audit``: what besides tampering distinguishes the classes of a data file."""

from __future__ import annotations

import os
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hpc_deepfake.audit import baseline, common, duplicates, facts, findings, leaks, shortcuts
from hpc_deepfake.audit.baseline import Container, container_baseline
from hpc_deepfake.audit.common import WAYS, Known, shared
from hpc_deepfake.audit.common import read as known_of
from hpc_deepfake.audit.report import FAIL, WARN, Report
from hpc_deepfake.audit.rows import Rows, facts_of, files_of, open_rows, stored_roots
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.files import write_json
from hpc_deepfake.core.options import Parser, seed
from hpc_deepfake.core.outputs import check_file
from hpc_deepfake.core.streams import work_matters
from preprocessing.catalogue import LABELS
from preprocessing.integrity import require_intact

__all__ = ["WAYS", "Container", "Known", "container_baseline", "known_of", "main", "parser",
           "shared", "stored_roots"]

_EXAMPLES = """examples:
  hpc-deepfake audit casia2.h5
  hpc-deepfake audit casia2.h5 --data /scratch/CASIA2 --json audit.json
  hpc-deepfake audit mixed.h5 --authentic CASIA1 --tampered CASIA2
  hpc-deepfake audit casia1.h5 casia2.h5

Each line of the output: a verdict, the subject and the result; below it, what to do.
  ok    no problem
  info  for information
  warn  mention this beside any figure measured on these data
  FAIL  until this is fixed, a high figure on these data proves nothing

exit codes: 0 audit finished, whatever its verdicts; 1 with --strict: at least one warn or FAIL;
            2 invalid options or input"""


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake audit", epilog=_EXAMPLES, description=(
        "Check a data file before training on it: how well trivial facts of the picture\n"
        "files predict the label, which pictures share a source across the split, which\n"
        "are duplicates, and which labels look wrong. Of several data files: which pictures\n"
        "they have in common."))
    cli.add_argument("files", nargs="+", type=Path, metavar="FILE",
                     help="data file to audit; two or more: find their common pictures")
    cli.add_argument("--data", type=Path, metavar="DIR",
                     help="folder of its pictures (default: the folder recorded in FILE.json)")
    cli.add_argument("--authentic", type=Path, metavar="DIR",
                     help="folder of the authentic pictures, with --tampered and instead of "
                          "--data, if preprocessing was run that way")
    cli.add_argument("--tampered", type=Path, metavar="DIR",
                     help="folder of the tampered pictures, with --authentic")
    cli.add_argument("--seed", type=seed(), default=0, metavar="N",
                     help="seed of the cross-validation's folds")
    cli.add_argument("--strict", action="store_true",
                     help="exit with code 1 if there is a warn or FAIL")
    cli.add_argument("--json", type=Path, metavar="FILE",
                     help="also write the findings to FILE, with complete lists of pictures")
    return cli


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    options = parser().parse(argv)
    if options.json is not None:
        work_matters()
    check_file("--json", options.json, "JSON", [
        path for file in options.files for path in (file, Path(f"{file}.json"))])
    options.file = options.files[0]
    if len(options.files) > 1:
        return _common(options)
    began = time.perf_counter()
    rows = open_rows(options.file)
    if not len(rows):
        raise InputError(f"{options.file} has no usable pictures; see {options.file}.rejects.csv")
    files = files_of(rows, _roots(options))
    require_intact(rows.header, duplicates.stored_rows(rows))
    file_facts = facts_of(files)
    if not any(file_facts):
        raise InputError(f"none of the {len(set(files)):,} files of {options.file} exists, such as "
                         f"{os.fsdecode(files[0])}: name the folder that preprocessing read "
                         "with --data DIR")
    report = Report()
    print(_headline(rows) + "\n", flush=True)
    table = facts.columns(file_facts)
    report.section("files", findings.files(rows, files, file_facts))
    _predictors(report, rows, files, file_facts, table, options.seed)
    parsed = leaks.names(rows.paths)
    report.section("sources on two sides of the split", findings.sources(
        rows, leaks.shared(parsed, rows.groups, rows.parts)),
        heading="sources shared across the split")
    same = duplicates.identical(files, table["size"])
    pairs = duplicates.alike(*duplicates.thumbnails(rows, files), rows.groups, rows.parts,
                             rows.labels)
    report.section("duplicates", findings.copies(rows, same, pairs))
    report.section("labels", findings.labels(rows, parsed, same, pairs))
    print(_verdict(report, time.perf_counter() - began), flush=True)
    if options.json is not None:
        _write(options, {"file": str(options.file), "rows": len(rows),
                         "majority": findings.majority(rows.labels)}, report)
    return int(options.strict and any(record.bad for record in report.records))


def _common(options: Namespace) -> int:
    """Compare several data files. Returns the exit code."""
    if any(value is not None for value in (options.data, options.authentic, options.tampered)):
        raise InputError("--data, --authentic and --tampered name the pictures of one FILE: audit "
                         "each file alone, or leave these options out to compare the files")
    began = time.perf_counter()
    report = common.audit(options.files)
    found = report.count(FAIL) + report.count(WARN)
    print(f"audit: {report.count(FAIL)} FAIL, {report.count(WARN)} warn, in "
          f"{time.perf_counter() - began:.1f} s: " + (
              "figures on one of these files don't stand for themselves where a model was trained "
              "on another" if found else "no common pictures were found"), flush=True)
    if options.json is not None:
        _write(options, {"files": [str(path) for path in options.files]}, report)
    return int(options.strict and bool(found))


def _roots(options: Namespace) -> dict[str, Path]:
    if (options.authentic is None) != (options.tampered is None):
        raise InputError("--authentic and --tampered must be given together")
    if options.authentic is not None:
        if options.data is not None:
            raise InputError("give either --data, or --authentic and --tampered")
        roots = {"authentic": options.authentic, "tampered": options.tampered}
    elif options.data is not None:
        roots = {"": options.data}
    else:
        roots = stored_roots(options.file)
    if not roots:
        raise InputError(f"the folder of the pictures is unknown, since {options.file}.json is "
                         "missing or doesn't name it: name their folder with --data DIR")
    for folder in roots.values():
        if not folder.is_dir():
            raise InputError(f"there is no folder of pictures '{folder}': name it with --data DIR")
    return roots


def _headline(rows: Rows) -> str:
    counts = " + ".join(f"{(rows.labels == label).sum():,} {name}"
                        for label, name in enumerate(LABELS))
    attributes = rows.header.attributes
    return (f"{rows.header.path}: {len(rows):,} pictures ({counts}) in "
            f"{len(np.unique(rows.groups)):,} groups of common source; "
            f"split {attributes['split']} by {attributes['split_by']}")


def _predictors(report: Report, rows: Rows, files: Sequence[bytes],
                file_facts: list[facts.Facts | None], table: dict[str, np.ndarray],
                seed: int) -> None:
    """How well facts predict the label; a video counts once, however many of its frames are rows.
    """
    first = {name: row for row, name in reversed([*enumerate(files)])}
    present = np.array([file is not None and first[name] == row
                        for row, (name, file) in enumerate(zip(files, file_facts, strict=True))])
    labels = rows.labels[present]
    coded = {name: shortcuts.code(table[name][present]) for name in findings.TITLES}
    measured = shortcuts.measure(coded, labels, rows.groups[present], seed)
    chance = shortcuts.chance(labels)
    conditions = "" if chance is None else \
        f" (cross-validated by group; chance alone: AUC 0.5 ± {chance:.2f})"
    report.section(f"what a file's outside tells about its label{conditions}",
                   findings.facts(measured, coded, labels),
                   heading=f"how well facts of the files predict the label{conditions}")
    report.section("what to hold a network's accuracy against",
                   findings.baselines(rows, baseline.from_facts(rows, file_facts)),
                   heading="baselines to compare a network's accuracy with")


def _verdict(report: Report, seconds: float) -> str:
    fails, warns = report.count(FAIL), report.count(WARN)
    meaning = "a high figure on these data proves nothing until each FAIL is fixed" if fails else \
        "mention the warnings beside any figure measured on these data" if warns else \
        "found nothing that distinguishes the classes besides the content of the pictures"
    return f"audit: {fails} FAIL, {warns} warn, in {seconds:.1f} s: {meaning}"


def _write(options: Namespace, subject: dict[str, Any], report: Report) -> None:
    try:
        write_json(options.json, {**subject, "fails": report.count(FAIL),
                                  "warnings": report.count(WARN), "sections": report.as_dict()})
    except OSError as error:
        raise InputError(f"cannot write --json {options.json}: {error.strerror}; choose another "
                         "file") from None
