"""The command lines of ``hpc-deepfake sweep`` and its subcommands."""

from __future__ import annotations

from pathlib import Path

from hpc_deepfake.core.child import LAUNCHER
from hpc_deepfake.core.options import Parser, at_least, seed

_DESCRIPTION = """Train with many combinations of options, and rank them by the validation part.

subcommands:
  plan    write the trials into FOLDER/sweep.json, or list them with their states
  run     run the trials that are missing here, one after another
  submit  submit them to SLURM or PBS as one job array, and a job for the report after it
  report  rank the trials by validation; the test part is shown for the best one only"""
_EXAMPLES = """examples:
  hpc-deepfake sweep plan runs/sweep --data casia2.h5 --grid learning-rate=1e-4,3e-4 \\
      batch-size=16,32 --repeats 3 -- --epochs 20
  hpc-deepfake sweep plan runs/sweep --data casia2.h5 --trials 30 --random \\
      learning-rate=log:1e-5:1e-2 dropout=0.2:0.6 optimizer=adam,sgd
  hpc-deepfake sweep run runs/sweep
  hpc-deepfake sweep submit runs/sweep slurm --at-once 4 --time 2:00:00 --dry-run
  hpc-deepfake sweep report runs/sweep

run and submit plan the sweep themselves if they are given what plan is given. All can be repeated:
trials that are finished are kept, and only missing ones run.

hpc-deepfake sweep SUBCOMMAND --help describes the options.
exit codes: 0 done, also if trials diverged; 2 wrong usage or input; 75 stopped by a signal, run the
same command again; otherwise that of the first trial that failed"""
_FORMS = """--grid takes each combination of its values. --random draws: NAME=LOW:HIGH uniformly,
NAME=log:LOW:HIGH uniformly by the logarithm, NAME=VALUE,VALUE from a list. With both, each
combination of the grid is trained with each draw. NAME is any option of train that doesn't belong
to the sweep itself (python -m hpc_deepfake.train --help); a switch takes true or false; values with
commas in them are separated by semicolons. Options after -- are the same in all trials."""
_EPILOGS = {
    "plan": f"""examples:
  hpc-deepfake sweep plan runs/sweep --data casia2.h5 --grid learning-rate=1e-4,3e-4 \\
      sync-bn=true,false --ranks 4
  hpc-deepfake sweep plan runs/sweep --data casia2.h5 --trials 30 --random \\
      learning-rate=log:1e-5:1e-2
  hpc-deepfake sweep plan runs/sweep

{_FORMS}
More values, draws or repeats, planned for the same folder later, are added to the sweep.""",
    "run": f"""examples:
  hpc-deepfake sweep run runs/sweep
  hpc-deepfake sweep run runs/sweep --data casia2.h5 --ranks 2 --grid dropout=0.3,0.5 -- --epochs 10

{_FORMS}""",
    "submit": f"""examples:
  hpc-deepfake sweep submit runs/sweep slurm --at-once 4 --time 2:00:00 --partition gpu
  hpc-deepfake sweep submit runs/sweep pbs --at-once 4 --dry-run

FOLDER and the scheduler come first. All other options are those of hpc-deepfake job submit, such
as --time, --partition, --site, --cpus-per-rank and --var; nodes, ranks and GPUs follow from the
plan.

{_FORMS}"""}
SUBCOMMANDS = ("plan", "run", "submit", "report", "next")


def overview() -> Parser:
    """The command line without a subcommand."""
    return Parser(prog="hpc-deepfake sweep", config=False, description=_DESCRIPTION,
                  epilog=_EXAMPLES, usage="hpc-deepfake sweep SUBCOMMAND FOLDER [OPTIONS]")


def parser(subcommand: str) -> Parser:
    """The command line of a subcommand, before ``--``."""
    usage = f"hpc-deepfake sweep {subcommand} FOLDER " + {
        "submit": "slurm|pbs|auto [OPTIONS] [-- OPTIONS OF TRAIN]",
        "report": "", "next": "[NUMBER]"}.get(subcommand, "[OPTIONS] [-- OPTIONS OF TRAIN]")
    cli = Parser(prog=f"hpc-deepfake sweep {subcommand}", config=False, usage=usage.rstrip(),
                 epilog=_EPILOGS.get(subcommand), description={
        "plan": "Write the trials of a sweep into FOLDER/sweep.json, and list them.",
        "run": "Run the missing trials of a sweep one after another, then write the report.",
        "submit": "Submit the missing trials of a sweep as one job array, and a job for the "
                  "report.",
        "report": "Write report.html, .md, .csv and .json into the folder: trials ranked by "
                  "validation.",
        "next": "For job scripts: print run directory, number of ranks and arguments of train of "
                "a trial (default: the first missing one), one per line; nothing if it is "
                "done."}[subcommand])
    cli.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the sweep")
    if subcommand == "next":
        cli.add_argument("number", type=at_least(1), nargs="?", metavar="NUMBER",
                         help="of the trial")
        cli.add_argument("--after", type=at_least(0), default=0, metavar="NUMBER",
                         help="the first missing trial with a higher number")
    if subcommand == "submit":
        cli.add_argument("scheduler", metavar="slurm|pbs|auto",
                         help="the scheduler; auto: the one whose command is in PATH")
        cli.add_argument("--at-once", type=at_least(1), metavar="K",
                         help="trials that may run at the same time (default: no limit)")
    if subcommand == "run":
        cli.add_argument("--launcher", default=LAUNCHER, metavar="COMMAND",
                         help="command that starts a trial with several ranks")
    if subcommand in ("plan", "run", "submit"):
        _add_plan(cli)
        cli.add_argument("--dry-run", action="store_true",
                         help="print the trials, and what they cost; write and start nothing")
    return cli


def _add_plan(cli: Parser) -> None:
    plan = cli.add_argument_group("the plan, once for each folder")
    plan.add_argument("--data", type=Path, metavar="FILE",
                      help="data file (default: features.h5 in $HPC_DEEPFAKE_DATA or data)")
    plan.add_argument("--grid", nargs="+", action="extend", metavar="NAME=VALUE,…",
                      help="options of train, each with its values")
    plan.add_argument("--random", nargs="+", action="extend", metavar="NAME=RANGE",
                      help="options of train, each with a range: LOW:HIGH or log:LOW:HIGH")
    plan.add_argument("--trials", type=at_least(1), metavar="N",
                      help="draws of --random (default: 20)")
    plan.add_argument("--repeats", type=at_least(1), metavar="N",
                      help="trials of each combination, with consecutive seeds (default: 1)")
    plan.add_argument("--seed", type=seed(), metavar="N",
                      help="seed of the draws, and of the first repeat (default: 0)")
    plan.add_argument("--ranks", type=at_least(1), metavar="N",
                      help="ranks of each trial (default: 1)")
    plan.add_argument("--nodes", type=at_least(1), metavar="N",
                      help="nodes of each trial's job (default: 1)")
