"""``hpc-deepfake compare``: training methods and features side by side, under equal conditions."""

from __future__ import annotations

import os
import shlex
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpc_deepfake.compare import folder
from hpc_deepfake.compare.command import again, default_out, parse, parser
from hpc_deepfake.compare.plan import Training, own_threads, trainings
from hpc_deepfake.core.errors import InputError
from preprocessing.store import Header, open_header

__all__ = ["main", "parser"]

_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")


def main(argv: Sequence[str]) -> int:
    """Returns the exit code."""
    options = parse(argv)
    if any(os.environ.get(name, "1") != "1" for name in _SIZES):
        raise InputError("compare starts the ranks of each training itself: leave mpirun out; "
                         "--launcher names it")
    out = options.out or default_out()
    header, problem = _open(options)
    before = folder.begun(out)
    threads = options.threads or before.get("threads") or own_threads(options.ranks)
    plan = trainings(options, out, threads)
    if header is not None:
        folder.check_same_data(out, folder.digest(header))
    if options.plan:
        return _print_plan(plan, options.launcher)
    if options.report_only:
        return _report(plan, options, out, header, problem, again(argv, out))
    states = [folder.state(one) for one in plan]  # before anything is written or started
    folder.begin(out, folder.digest(header), threads)
    missing = [one for one, state in zip(plan, states, strict=True) if state != folder.DONE]
    if options.next:
        _print_next(missing)
        return 0
    if options.submit:
        from hpc_deepfake.compare.submitting import submit_all

        submit_all(missing, options.submit)
        print(f"{'when they are done' if missing else 'all are done, for the report'}:\n  "
              f"{again(argv, out, '--report-only')}")
        return 0
    from hpc_deepfake.compare.running import run_all

    code = run_all(plan, out, options.launcher, again(argv, out))
    return code or _report(plan, options, out, header, problem, again(argv, out))


def _open(options: Namespace) -> tuple[Header | None, str]:
    """The data file's header; for a report alone it may be missing, and why.

    Raises:
        InputError: it can't be opened, or lacks a feature.
    """
    try:
        header = open_header(options.data)
    except InputError as error:
        if not options.report_only:
            raise
        return None, str(error).partition("\n")[0].partition(". Make it from")[0]
    for feature in options.features:
        if feature not in header.features:
            raise InputError(f"{options.data} has no feature '{feature}'; it has "
                             f"{', '.join(header.features)}: name them with --features, or make "
                             f"another file with preprocessing --features")
    return header, ""


def _print_plan(plan: Sequence[Training], launcher: str) -> int:
    width = max(len(one.name) for one in plan)
    states = [folder.state(one) for one in plan]
    for one, state in zip(plan, states, strict=True):
        print(f"{state:<8} {one.name:<{width}}  {shlex.join(one.command(launcher, ('python',)))}")
    print(f"{len(plan)} trainings, {states.count(folder.DONE)} of them done")
    return 0


def _print_next(missing: Sequence[Training]) -> None:
    if not missing:
        return
    lines = [missing[0].name, str(missing[0].layout.processes), *missing[0].arguments]
    for line in lines:
        if "\n" in line:
            raise InputError(f"--next can't hand on {line!r}: a line break in it")
    print("\n".join(lines))


def _report(plan: list[Training], options: Namespace, out: Path, header: Header | None,
            problem: str, command: str) -> int:
    """Write the report of what is finished."""
    from hpc_deepfake.compare import files
    from hpc_deepfake.compare.comparison import compare
    from hpc_deepfake.compare.document import answer
    from hpc_deepfake.compare.results import result

    results = [result(one, header) for one in plan if folder.state(one) == folder.DONE]
    if not results:
        raise InputError(f"no training of this comparison is finished in {out}: run it first, "
                         "without --report-only, or name its folder with --out")
    found = compare(plan, results, options.target, *_container(header, problem))
    for line in answer(found):
        print(line)
    for note in found.notes:
        print(f"note: {note}")
    written = files.write(found, out, command, options.launcher)
    print(f"report: {', '.join(map(str, written))}")
    return 0


def _container(header: Header | None, problem: str) -> tuple[dict[str, Any] | None, str]:
    """The container baseline, or why there is none."""
    if header is None:
        return None, problem
    from hpc_deepfake.audit import container_baseline

    try:
        return container_baseline(header.path), "the original files weren't found where they were"
    except InputError as error:
        return None, str(error)
