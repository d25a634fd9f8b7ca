"""``hpc-deepfake sweep``: many combinations of training options, ranked by validation."""

from __future__ import annotations

import os
import shlex
from argparse import Namespace
from collections.abc import Sequence

from hpc_deepfake.core import holder, launcher
from hpc_deepfake.core.child import check_launcher
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.streams import work_matters
from hpc_deepfake.core.text import plural
from hpc_deepfake.sweep import plan as plans
from hpc_deepfake.sweep import planning
from hpc_deepfake.sweep.options import SUBCOMMANDS, overview, parser
from hpc_deepfake.sweep.plan import Sweep

__all__ = ["main"]


@holder.releases
def main(argv: Sequence[str]) -> int:
    """Run a subcommand.

    Args:
        argv: the subcommand and its arguments, without the program's name.

    Returns:
        The exit code.

    Raises:
        InputError: no such subcommand, wrong options, or a folder with other runs.
    """
    work_matters()
    subcommand, *words = argv or [""]
    if subcommand in ("-h", "--help"):
        overview().parse([subcommand])
    if subcommand not in SUBCOMMANDS:
        problem = f"unknown subcommand '{subcommand}'" if subcommand else "missing subcommand"
        raise InputError(f"{problem}: give plan, run, submit or report, like\n  hpc-deepfake sweep "
                         "plan runs/sweep --data casia2.h5 --grid learning-rate=1e-4,3e-4")
    at = words.index("--") if "--" in words else len(words)
    words, train = words[:at], words[at + 1:]
    if subcommand == "submit":
        options, others = parser(subcommand).parse_known_args(words)
    else:
        options, others = parser(subcommand).parse(words), []
    if subcommand == "report":
        from hpc_deepfake.sweep.reporting import write

        return write(options.folder, plans.read(options.folder))
    if subcommand == "next":
        return _next(options)
    sweep = planning.planned(options, train)
    if subcommand == "submit":
        from hpc_deepfake.sweep.submitting import submit

        return submit(options, sweep, others)
    if subcommand == "run":
        return _run(options, sweep)
    return _plan(options, sweep)


def _plan(options: Namespace, sweep: Sweep) -> int:
    if not options.dry_run:
        planning.keep(options.folder, sweep, "the planning of a sweep")
    print(planning.table(options.folder, sweep))
    return 0


def _run(options: Namespace, sweep: Sweep) -> int:
    """Run what is missing, and write the report."""
    from hpc_deepfake.sweep.reporting import write
    from hpc_deepfake.sweep.running import command, run_all

    check_launcher(options.launcher)
    if launcher.launched(os.environ):
        raise InputError("sweep run starts the ranks of each trial itself: run it without mpirun, "
                         "and set the launcher with --launcher if it is another one")
    planning.data_file(sweep)
    if options.dry_run:
        print(planning.table(options.folder, sweep))
        for trial in planning.missing(options.folder, sweep):
            print(shlex.join(command(options.folder, sweep, trial, options.launcher, ("python",))))
        return 0
    planning.keep(options.folder, sweep, "a sweep")
    missing = planning.missing(options.folder, sweep)
    done = len(sweep.trials) - len(missing)
    if done:
        print(f"{plural(done, 'trial')} finished earlier, {len(missing)} left", flush=True)
    code = run_all(options.folder, sweep, missing, options.launcher)
    if code == 75 or len(planning.missing(options.folder, sweep)) == len(sweep.trials):
        return code  # nothing to report yet
    return write(options.folder, sweep) or code


def _next(options: Namespace) -> int:
    """Print a trial for a job script."""
    sweep = plans.read(options.folder)
    if options.number:
        trials = [sweep.trial(options.number)]
        trials = [trial for trial in trials
                  if plans.state(options.folder, trial)[0] not in plans.ENDED]
    else:
        trials = [trial for trial in planning.missing(options.folder, sweep)
                  if trial.number > options.after]
    if trials:
        lines = [str(trials[0].number), str(plans.path(options.folder, trials[0])),
                 str(sweep.ranks), *sweep.arguments(options.folder, trials[0])]
        if any("\n" in line for line in lines):
            raise InputError("a job script can't be given an argument with a line break in it: "
                             f"{next(line for line in lines if chr(10) in line)!r}")
        print("\n".join(lines))
    return 0
