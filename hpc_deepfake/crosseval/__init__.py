"""``hpc-deepfake crosseval``: train on some data sets, test on others."""

from __future__ import annotations

import os
import shlex
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpc_deepfake.compare import begun, own_threads
from hpc_deepfake.core import holder
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.streams import work_matters
from hpc_deepfake.core.text import plural
from hpc_deepfake.crosseval import folder, plan, scoring
from hpc_deepfake.crosseval.command import command_line, default_out, parse, parser
from hpc_deepfake.crosseval.datasets import DataSet, Named, named, open_all
from hpc_deepfake.crosseval.plan import Evaluation, Training
from hpc_deepfake.train import planned

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

__all__ = ["main", "parser"]

Step = Training | Evaluation


@holder.releases
def main(argv: Sequence[str], comm: Comm | None = None) -> int:
    """Run the command; ``crosseval score``, which it starts itself, on all ranks of ``comm``.

    Args:
        argv: its arguments, without the program's name.
        comm: the ranks; None: this process is alone.

    Returns:
        The exit code.

    Raises:
        InputError: wrong options, data files that don't fit, or a folder with other runs.
    """
    work_matters()
    if argv[:1] == [scoring.SUBCOMMAND]:
        return scoring.main(argv[1:], comm)
    if comm is not None and comm.size > 1:
        raise InputError("crosseval starts the ranks of each program itself: run it without "
                         "mpirun, and set the launcher with --launcher if it is another one",
                         everywhere=True)
    options = parse(argv)
    out = options.out or default_out()
    trained = [named(str(plan.trained_on(run.path))) for run in options.models]
    data = open_all([*options.train, *_named(trained, [*options.train, *options.test])],
                    options.test, options.part)
    threads = options.threads or begun(out).get("threads") or own_threads(options.ranks)
    train = data[:len({os.path.realpath(each.path) for each in options.train})]
    models = [*plan.trainings(options, train, out, threads),
              *plan.given_models(options.models, data)]
    plan.check_all_fit(models, data)
    evaluations = plan.evaluations(models, data, out, options.ranks, options.device)
    steps: list[Step] = [*(model.training for model in models if model.training), *evaluations]
    folder.check_same_data(out, data)
    states = [step.state() for step in steps]  # before anything is written or started
    if options.plan:
        return _print_plan(steps, states, options.launcher)
    if options.report_only:
        return _report(evaluations, data, options, out, command_line(argv, out))
    folder.begin(out, data, threads)
    if options.next:
        for step, state in zip(steps, states, strict=True):
            if state != planned.DONE:
                _print_next(step)
                break
        return 0
    from hpc_deepfake.train.running import run_all

    code = run_all(steps, out, options.launcher, command_line(argv, out))
    return code or _report(evaluations, data, options, out, command_line(argv, out))


def _named(own: Sequence[Named], given: Sequence[Named]) -> list[Named]:
    """The files that given runs were trained on, by the names that options give them, or the
    files'."""
    known = {os.path.realpath(each.path): each for each in reversed(given)}
    return [known.get(os.path.realpath(each.path), each) for each in own]


def _print_plan(steps: Sequence[Step], states: Sequence[str], launcher: str) -> int:
    width = max(len(step.name) for step in steps)
    for step, state in zip(steps, states, strict=True):
        command = shlex.join(step.command(launcher, ("python",)))
        print(f"{state:<8} {step.name:<{width}}  {command}")
    print(f"{plural(len(steps), 'program')}, {states.count(planned.DONE)} of them done")
    return 0


def _print_next(step: Step) -> None:
    lines = [step.name, str(step.processes), *step.words]
    for line in lines:
        if "\n" in line:
            raise InputError(f"--next can't print the argument {line!r}: it contains a line break")
    print("\n".join(lines))


def _report(evaluations: Sequence[Evaluation], data: Sequence[DataSet], options: Namespace,
            out: Path, command: str) -> int:
    """Write the report on the finished evaluations."""
    from hpc_deepfake.crosseval import document
    from hpc_deepfake.crosseval.matrix import matrix
    from hpc_deepfake.crosseval.overlap import Overlaps

    found = matrix(evaluations, data, options.threshold, Overlaps(out), options.shared == "out")
    print("\n".join(document.lines(found)))
    for line in document.answer(found):
        print(line)
    for note in found.notes:
        print(f"note: {note}")
    paths = document.write(found, out, command)
    print(f"report: {', '.join(map(str, paths))}")
    return 0
