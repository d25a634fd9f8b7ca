"""``hpc-deepfake compare``: training methods and features side by side, under equal conditions."""

from __future__ import annotations

import os
import shlex
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpc_deepfake.compare import folder
from hpc_deepfake.compare.command import command_line, default_out, parse, parser
from hpc_deepfake.compare.folder import begun
from hpc_deepfake.compare.plan import Training, own_threads, slug, trainings
from hpc_deepfake.core import holder
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.streams import work_matters
from hpc_deepfake.network import registry
from hpc_deepfake.train import planned
from preprocessing import ela
from preprocessing.store import Header, open_header

__all__ = ["begun", "main", "own_threads", "parser", "slug"]

# where launchers set the number of ranks
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")


@holder.releases
def main(argv: Sequence[str]) -> int:
    """Run the command.

    Args:
        argv: its arguments, without the program's name.

    Returns:
        The exit code.

    Raises:
        InputError: wrong options, or a folder with other runs.
    """
    work_matters()
    options = parse(argv)
    if any(os.environ.get(name, "1") != "1" for name in _SIZES):
        raise InputError("compare starts the ranks of each training itself: run it without mpirun, "
                         "and set the launcher with --launcher if it is another one")
    out = options.out or default_out()
    header, problem = _open(options)
    threads = options.threads or begun(out).get("threads") or own_threads(options.ranks)
    plan = trainings(options, out, threads)
    digest = None if header is None else header.digest()
    if digest is not None:
        folder.check_same_data(out, digest)
    if options.plan:
        return _print_plan(plan, options.launcher)
    if options.report_only or digest is None:
        return _report(plan, options, out, header, problem, command_line(argv, out))
    for training in plan:  # before anything is written or started
        training.state()
    folder.begin(out, digest, threads)
    unfinished = [training for training in plan if training.state() != planned.DONE]
    if options.next:
        _print_next(unfinished)
        return 0
    if options.submit:
        from hpc_deepfake.compare.submitting import submit_all

        submit_all(unfinished, options.submit)
        print("when they are finished, write the report with:" if unfinished else
              "all trainings are finished; write the report with:")
        print(f"  {command_line(argv, out, '--report-only')}")
        return 0
    from hpc_deepfake.train.running import run_all

    code = run_all(plan, out, options.launcher, command_line(argv, out))
    return code or _report(plan, options, out, header, problem, command_line(argv, out))


def _open(options: Namespace) -> tuple[Header | None, str]:
    """The data file's header; with ``--report-only`` None if it can't be opened, and why.

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
        for network in options.networks:
            registry.check_channels(network, ela.channels(feature))
        if (missing := header.lacks(feature)) is not None:
            raise InputError(f"{options.data} has no feature '{missing}'; it has "
                             f"{', '.join(header.features)}: name them with --features, or make "
                             f"another file with preprocessing --features")
    return header, ""


def _print_plan(plan: Sequence[Training], launcher: str) -> int:
    width = max(len(training.name) for training in plan)
    states = [training.state() for training in plan]
    for training, state in zip(plan, states, strict=True):
        command = shlex.join(training.command(launcher, ("python",)))
        print(f"{state:<8} {training.name:<{width}}  {command}")
    print(f"{len(plan)} trainings, {states.count(planned.DONE)} of them done")
    return 0


def _print_next(unfinished: Sequence[Training]) -> None:
    if not unfinished:
        return
    training = unfinished[0]
    lines = [training.name, str(training.layout.processes), *training.arguments]
    for line in lines:
        if "\n" in line:
            raise InputError(f"--next can't print the argument {line!r}: it contains a line break")
    print("\n".join(lines))


def _report(plan: list[Training], options: Namespace, out: Path, header: Header | None,
            problem: str, command: str) -> int:
    """Write the report on the finished trainings."""
    from hpc_deepfake.compare import files
    from hpc_deepfake.compare.comparison import compare
    from hpc_deepfake.compare.document import answer
    from hpc_deepfake.compare.results import result

    results = [result(training, header) for training in plan
               if training.state() == planned.DONE]
    if not results:
        raise InputError(f"no training of this comparison is finished in {out}: run it first, "
                         "without --report-only, or name its folder with --out")
    comparison = compare(plan, results, options.target, *_container(header, problem))
    for line in answer(comparison):
        print(line)
    for note in comparison.notes:
        print(f"note: {note}")
    paths = files.write(comparison, out, command, options.launcher)
    print(f"report: {', '.join(map(str, paths))}")
    return 0


def _container(header: Header | None, problem: str) -> tuple[dict[str, Any] | None, str]:
    """The container baseline, or None and why there is none."""
    if header is None:
        return None, problem
    from hpc_deepfake.audit import container_baseline

    try:
        return container_baseline(header.path), "the original files are no longer at their paths"
    except InputError as error:
        return None, str(error)
