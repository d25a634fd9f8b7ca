"""Command lines of ``hpc-deepfake job`` and its words render and submit."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.options import Parser, at_least
from hpc_deepfake.jobs.script.values import read_memory, read_time

_WORDS = """words:
  render    print a script of jobs/ with changes
  submit    the same, to sbatch or qsub
  report    what a job or a run asked for and used

examples:
  hpc-deepfake job render slurm train_multinode --nodes 4 --gpus-per-node 4 --time 2:00:00
  hpc-deepfake job submit pbs train_cpu --var DATA=casia2.h5 --queue small -- --epochs 10
  hpc-deepfake job submit slurm train_4gpu --var DATA=casia2.h5 --chain 5
  hpc-deepfake job report runs/first"""
_EXAMPLES = """examples:
  hpc-deepfake job {word} slurm train_multinode --nodes 4 --gpus-per-node 4 --set partition=gpu
  hpc-deepfake job {word} pbs train_cpu --var DATA=casia2.h5 --time 2:00:00 -- --epochs 10
  hpc-deepfake job {word} slurm preprocess --mem 64G --set exclusive --unset requeue

Directives go by the scheduler's own names: long options of sbatch; of qsub the letters of options
(q), resources (walltime, place, select), -W attributes (umask), and l:NAME for a resource of the
site. What --var names stands at the top of each script. Arguments after -- are for the program."""


class _Parser(Parser):
    """Options that may come several times are lists in a TOML file."""

    def _value(self, action: argparse.Action, value: Any, where: str) -> Any:
        if action.dest in ("set", "unset", "var", "after"):
            values = value if isinstance(value, list) else [value]
            return [super(_Parser, self)._value(action, one, where) for one in values]
        return super()._value(action, value, where)


def overview() -> Parser:
    """The command line before its word."""
    cli = Parser(prog="hpc-deepfake job", usage="hpc-deepfake job render | submit | report …",
                 description="Ready job scripts for SLURM and PBS.", epilog=_WORDS)
    cli.add_argument("word", choices=("render", "submit", "report"), help="see below")
    return cli


def parser(word: str) -> Parser:
    """The command line of render or submit."""
    cli = _Parser(prog=f"hpc-deepfake job {word}", epilog=_EXAMPLES.format(word=word),
                  usage=f"hpc-deepfake job {word} slurm|pbs|auto NAME [OPTIONS] [-- ARGUMENTS]",
                  description="Print a job script of jobs/ with changes." if word == "render" else
                  "Submit a job script of jobs/ with changes, and print the job's id.")
    cli.add_argument("scheduler", nargs="?", metavar="slurm|pbs|auto",
                     help="auto: the one whose command is in PATH")
    cli.add_argument("job", nargs="?", metavar="NAME", help="of a script in jobs/")
    cli.add_argument("--script", type=Path, metavar="FILE",
                     help="another script of this form instead")

    asked = cli.add_argument_group("what is asked for, of both schedulers")
    asked.add_argument("--nodes", type=at_least(1), metavar="N", help="number of nodes")
    asked.add_argument("--ranks-per-node", type=at_least(1), metavar="N",
                       help="MPI ranks of each node; where the script has one for each GPU, they "
                            "follow --gpus-per-node")
    asked.add_argument("--cpus-per-rank", type=at_least(1), metavar="N", help="CPUs of each rank")
    asked.add_argument("--gpus-per-node", type=at_least(0), metavar="N",
                       help="GPUs of each node; 0: don't ask for any")
    asked.add_argument("--mem", type=read_memory, metavar="SIZE",
                       help="memory of each node, like 64G; without a unit MB")
    asked.add_argument("--time", type=read_time, metavar="TIME",
                       help="limit: minutes, M:SS, H:MM:SS or D-HH:MM:SS")
    asked.add_argument("--name", metavar="TEXT", help="of the job")
    asked.add_argument("--account", metavar="NAME", help="who pays")
    asked.add_argument("--partition", "--queue", metavar="NAME", help="partition or queue")
    asked.add_argument("--qos", metavar="NAME", help="quality of service")
    asked.add_argument("--array", metavar="RANGE", help="a job for each index, like 1-4")

    more = cli.add_argument_group("anything else")
    more.add_argument("--set", action="append", type=_setting, metavar="KEY[=VALUE]",
                      help="add or change a directive; several times")
    more.add_argument("--unset", action="append", metavar="KEY",
                      help="leave out a directive of the script; several times")
    more.add_argument("--var", action="append", type=_variable, metavar="NAME=VALUE",
                      help="a variable at the script's top; several times")
    more.add_argument("--site", metavar="NAME", help="site file env/sites/NAME.sh")
    if word == "submit":
        queue = cli.add_argument_group("submitting")
        queue.add_argument("--after", action="append", type=_dependency, metavar="ID[:ok|any]",
                           help="start after job ID: if it did well (ok, the default) or in any "
                                "case; several times")
        queue.add_argument("--chain", type=at_least(1), metavar="N",
                           help="queue N jobs, each of which goes on where the one before was "
                                "stopped")
        queue.add_argument("--dry-run", action="store_true",
                           help="print script and command, submit nothing")
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
    """How, and which job."""
    job, _, how = text.partition(":")
    if how not in ("", "ok", "any") or not job[:1].isdigit():
        raise InputError(f"--after {text}: give a job's id, and :ok or :any, like 1234:any")
    return how or "ok", job
