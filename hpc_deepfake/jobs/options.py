"""Command lines of ``hpc-deepfake job`` and its subcommands ``render`` and ``submit``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.options import Parser, at_least
from hpc_deepfake.jobs.script.values import read_memory, read_time
from hpc_deepfake.jobs.site import KINDS

_SUBCOMMANDS = """subcommands:
  render    print a job script of jobs/ with changes
  submit    submit it with sbatch or qsub
  cost      print how much job scripts may use at most
  check     try a site file without a cluster
  status    show what jobs are doing, why they wait, how far they are
  logs      print the log of a run's current job, and follow it
  cancel    cancel the jobs of a run or a study, so that none is resubmitted
  report    show what a job or a run requested and used

examples:
  hpc-deepfake job render slurm train_multinode --nodes 4 --gpus-per-node 4 --time 2:00:00
  hpc-deepfake job submit pbs train_cpu --var DATA=casia2.h5 --queue small -- --epochs 10
  hpc-deepfake job submit slurm train_4gpu --var DATA=casia2.h5 --chain 5
  hpc-deepfake job check perlmutter
  hpc-deepfake job status
  hpc-deepfake job logs runs/first -f
  hpc-deepfake job cancel runs/first
  hpc-deepfake job report runs/first

For the options of a subcommand: hpc-deepfake job SUBCOMMAND --help
exit codes: 0 done; 2 wrong usage, or the scheduler refused the job"""
_DESCRIPTIONS = {
    "render": "Print a job script of jobs/ with changes.",
    "submit": "Submit a job script of jobs/ with changes, and print the job's id.",
    "cost": "Print how many node hours, core hours and GPU hours jobs may use at most, if each\n"
            "uses its whole time limit. Several jobs, with + between them, are added up."}
_EXAMPLES = """examples:
  hpc-deepfake job {subcommand} slurm train_multinode --nodes 4 --gpus-per-node 8 --partition gpu
  hpc-deepfake job {subcommand} pbs train_cpu --var DATA=casia2.h5 --time 2:00:00 -- --epochs 10
  hpc-deepfake job {subcommand} slurm preprocess --mem 64G --set exclusive --unset requeue
  hpc-deepfake job {subcommand} slurm train_4gpu --seeds 5 --var DATA=casia2.h5 --var RUN=runs/five

KEY is the scheduler's own name of a directive. SLURM: a long option of sbatch. PBS: an option of
qsub (q), a resource (walltime, place, select), a -W attribute (umask), or l:NAME for a resource of
the site. Each script lists its variables at the top. Arguments after -- are for the program."""


class _Parser(Parser):
    """Options that may be given several times are lists in a TOML file."""

    def _value(self, action: argparse.Action, value: Any, where: str) -> Any:
        if action.dest in ("set", "unset", "options", "var", "after"):
            values = value if isinstance(value, list) else [value]
            return [super(_Parser, self)._value(action, item, where) for item in values]
        return super()._value(action, value, where)


def overview() -> Parser:
    """The command line without a subcommand."""
    cli = Parser(prog="hpc-deepfake job", config=False,
                 usage="hpc-deepfake job render | submit | cost | check | status | logs | cancel | "
                       "report …",
                 description="Print, submit and report on job scripts for SLURM and PBS.",
                 epilog=_SUBCOMMANDS)
    cli.add_argument("subcommand", help="see below",
                     choices=("render", "submit", "cost", "check", "status", "logs", "cancel",
                              "report"))
    return cli


def parser(subcommand: str) -> Parser:
    """The command line of ``render``, ``submit`` or ``cost``."""
    end = "[+ NAME [OPTIONS] …]" if subcommand == "cost" else "[-- ARGUMENTS]"
    cli = _Parser(prog=f"hpc-deepfake job {subcommand}",
                  epilog=_EXAMPLES.format(subcommand=subcommand),
                  usage=f"hpc-deepfake job {subcommand} slurm|pbs|auto NAME [OPTIONS] {end}",
                  description=_DESCRIPTIONS[subcommand])
    cli.add_argument("scheduler", nargs="?", metavar="slurm|pbs|auto",
                     help="the scheduler; auto: the one whose command is in PATH")
    cli.add_argument("job", nargs="?", metavar="NAME",
                     help="name of a script in jobs/, such as train_cpu")
    cli.add_argument("--script", type=Path, metavar="FILE",
                     help="use this script, of the same form, instead")

    resources = cli.add_argument_group("resources, for both schedulers")
    resources.add_argument("--nodes", type=at_least(1), metavar="N", help="number of nodes")
    resources.add_argument("--ranks-per-node", type=at_least(1), metavar="N",
                       help="MPI ranks on each node; follows --gpus-per-node where the script "
                                "has one rank per GPU")
    resources.add_argument("--cpus-per-rank", type=at_least(1), metavar="N",
                           help="CPU cores for each rank")
    resources.add_argument("--gpus-per-node", type=at_least(0), metavar="N",
                       help="GPUs on each node; 0 requests none")
    resources.add_argument("--mem", type=read_memory, metavar="SIZE",
                       help="memory on each node, like 64G; in MB without a unit")
    resources.add_argument("--time", type=read_time, metavar="TIME",
                       help="time limit: minutes, M:SS, H:MM:SS or D-HH:MM:SS")
    resources.add_argument("--name", metavar="TEXT", help="name of the job")
    resources.add_argument("--account", metavar="NAME", help="account to charge")
    resources.add_argument("--partition", "--queue", metavar="NAME",
                           help="partition (SLURM) or queue (PBS)")
    resources.add_argument("--qos", metavar="NAME", help="quality of service")
    resources.add_argument("--array", metavar="RANGE",
                           help="submit an array of jobs, one for each index, like 1-4")
    resources.add_argument("--seeds", type=at_least(2, 1000), metavar="N",
                           help="of a training: an ensemble, whose N members an array of jobs "
                                "trains, one each, into RUN/seed-…")

    more = cli.add_argument_group("other directives and variables")
    more.add_argument("--set", action="append", type=_setting, metavar="KEY[=VALUE]",
                      help="add or change a directive; may be given several times")
    more.add_argument("--unset", action="append", metavar="KEY",
                      help="remove a directive; may be given several times")
    more.add_argument("--options", action="append", metavar="WORDS",
                      help="further options as on the command line of sbatch or qsub, in one word; "
                           "may be given several times")
    more.add_argument("--var", action="append", type=_variable, metavar="NAME=VALUE",
                      help="set a variable of the script; may be given several times")
    more.add_argument("--site", metavar="NAME",
                      help="use the site file env/sites/NAME.sh instead of that of $SITE")
    more.add_argument("--kind", choices=KINDS,
                      help="take the site's words for this kind of job (default: gpu if GPUs are "
                           "requested; small for evaluate, pipeline and scaling_study)")
    if subcommand == "cost":
        more.add_argument("--check", action="store_true",
                          help="also refuse what submit would refuse: wrong variables and "
                               "arguments, and missing input, which jobs after a + may get from "
                               "those before them")
    if subcommand == "submit":
        queue = cli.add_argument_group("submitting")
        queue.add_argument("--after", action="append", type=_dependency, metavar="ID[:ok|any]",
                           help="start after job ID, if it succeeded (ok, the default) or "
                                "regardless (any); may be given several times")
        queue.add_argument("--chain", type=at_least(1), metavar="N",
                           help="queue N jobs, each of which resumes where the previous one was "
                                "stopped")
        queue.add_argument("--dry-run", action="store_true",
                           help="print the script and the command without submitting")
    return cli


def _setting(text: str) -> tuple[str, str | None]:
    key, equals, value = text.partition("=")
    return key, value if equals else None


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--var {text}: give a value, like --var {text}=VALUE")
    return name, value


def _dependency(text: str) -> tuple[str, str]:
    """The condition, ok or any, and the job's id."""
    job, _, condition = text.partition(":")
    if condition not in ("", "ok", "any") or not job[:1].isdigit():
        raise InputError(f"--after {text}: give a job's id, with :ok or :any, like 1234:any")
    return condition or "ok", job
