"""What jobs may cost at most, before they are submitted: node hours, core hours and GPU hours.

The bound is what a script's directives request, for the whole time limit.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.core.options import Parser
from hpc_deepfake.core.text import whole_number
from hpc_deepfake.jobs.script import DIALECTS, SLURM
from hpc_deepfake.jobs.script.dialect import Dialect, Directives
from hpc_deepfake.jobs.script.request import Portable
from hpc_deepfake.jobs.script.text import directives

_UNITS = ("node hours", "core hours", "GPU hours")
_RESTARTS = re.compile(r"^MAX_RESTARTS=(?:\$\{MAX_RESTARTS:-)?(\d{1,9})\b", re.MULTILINE)
_CHAINED = re.compile(r"^HPC_DEEPFAKE_CHAIN=", re.MULTILINE)
_BY_VARIABLE = ("time", "array", "exclusive", "gpus", "gpus-per-node", "gpus-per-task", "gres")
_LAYOUT = re.compile(r"^job_layout='(\d+) (\d+) (\d+)'$", re.MULTILINE)


@dataclass(frozen=True)
class Cost:
    """Upper bounds; None: unknown.

    Attributes:
        nodes: node hours.
        cores: core hours.
        gpus: GPU hours.
    """

    nodes: float | None = 0.0
    cores: float | None = 0.0
    gpus: float | None = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(None if mine is None or more is None else mine + more for mine, more
                      in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, times: float) -> Cost:
        return Cost(*(value if value is None else value * times for value in astuple(self)))

    def __str__(self) -> str:
        """Such as ``at most 8 node hours, 256 core hours, 32 GPU hours``; without what is unknown,
        and without GPUs if there are none."""
        values = zip(astuple(self), _UNITS, strict=True)
        known = [f"{_hours(value)} {unit}" for value, unit in values
                 if value is not None and (value or unit != _UNITS[2])]
        return f"at most {', '.join(known)}" if known else "unknown"


def of(text: str, dialect: Dialect, variables: Mapping[str, str] | None = None,
       options: Sequence[str] = ()) -> Cost:
    """The cost of a job script, of all elements if it is an array. What its directives don't say is
    unknown: all of it without a time limit, the cores of nodes that are requested as a whole.

    Args:
        text: of the script.
        dialect: of the scheduler.
        variables: environment of sbatch, some of which take precedence over directives.
        options: words of the command line of sbatch or qsub, which take precedence over all.

    Raises:
        InputError: a directive in another form than that of jobs/, or an unknown option.
    """
    current = directives(text, dialect)
    if dialect is SLURM and variables:
        given = {key: variables.get(SLURM.variable(key)) for key in _BY_VARIABLE}
        current |= {key: value for key, value in given.items() if value is not None}
    current |= dialect.parse(options, "options of the job")
    asked = dialect.portable(current)
    nodes, cores, gpus = (_slurm if dialect is SLURM else _pbs)(current, asked, text)
    if asked.time is None:
        return Cost(None, None, None)
    jobs = 1 if asked.array is None else elements(asked.array)
    return Cost(nodes, cores, gpus) * (asked.time / 3600 * jobs)


def total(costs: Iterable[Cost]) -> Cost:
    """The sum."""
    return sum(costs, Cost())


def line(scripts: Sequence[str], dialect: Dialect,
         variables: Mapping[str, str] | None = None) -> str:
    """The cost of job scripts that are submitted together, as a line to print; the arguments and
    errors are those of ``of``."""
    restarts = max((_restarts(text, dialect) for text in scripts), default=0)
    again = f" for one run; a job that is stopped runs again up to {restarts} times" \
        if restarts else ""
    costs = (of(text, dialect, variables) for text in scripts)
    return f"cost: {total(costs)}{again}"


def _restarts(text: str, dialect: Dialect) -> int:
    """How often a job is run again at most after it was stopped; jobs of a chain aren't."""
    current, most = directives(text, dialect), _RESTARTS.search(text)
    resumes = "requeue" in current if dialect is SLURM else current.get("r") == "y"
    return int(most[1]) if most and resumes and not _CHAINED.search(text) else 0


def elements(indices: str) -> int:
    """Number of the indices of an array, such as ``0-9:2,12%4``.

    Raises:
        InputError: not a list of indices.
    """
    count = 0
    for part in indices.partition("%")[0].split(","):
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9})(?::([1-9]\d{0,8}))?)?", part)
        if not match:
            raise InputError(f"'{indices}' are not the indices of an array: give such as 0-9, "
                             "0-9:2 or, with SLURM, 1,3,7")
        first, last, step = match.groups()
        count += max(0, int(last or first) - int(first)) // int(step or 1) + 1
    return count


def _slurm(current: Directives, asked: Portable, _: str) -> tuple[float | None, ...]:
    """Nodes, CPUs and GPUs of a job."""
    nodes = whole_number(current.get("nodes", "").rpartition("-")[2])  # the larger of 2-4
    per_node, cpus = asked.ranks_per_node, asked.cpus_per_rank
    ranks = whole_number(current.get("ntasks", "")) or (nodes and per_node and nodes * per_node)
    gpus = 0 if asked.gpus_per_node == 0 else _product(nodes, asked.gpus_per_node)
    if "gpus" in current:  # of the whole job
        gpus = whole_number(current["gpus"].rpartition(":")[2])
    whole = "exclusive" in current
    return nodes, None if whole else _product(ranks, cpus), gpus


def _pbs(current: Directives, asked: Portable, text: str) -> tuple[float | None, ...]:
    """Nodes, CPUs and GPUs of a job, from all chunks of select or, without it, from resources of
    the whole job."""
    layout = _LAYOUT.search(text)
    if "l:select" not in current:
        cpus, gpus = (whole_number(current.get(f"l:{name}", "")) for name in ("ncpus", "ngpus"))
        return whole_number(layout[1]) if layout else None, cpus, gpus or 0
    nodes = cores = gpus_of_all = 0
    for chunk in current["l:select"].split("+"):
        count, *parts = chunk.split(":")
        if whole_number(count) is None:  # one chunk: ncpus=4
            count, parts = "1", [count, *parts]
        named = dict(part.partition("=")[::2] for part in parts)
        nodes += int(count)
        cores += int(count) * (whole_number(named.get("ncpus", "")) or 1)
        gpus_of_all += int(count) * (whole_number(named.get("ngpus", "")) or 0)
    whole = "excl" in current.get("l:place", "")
    return nodes, None if whole else cores, gpus_of_all


def _product(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first * second


def _hours(value: float) -> str:
    return f"{value:,.2f}".rstrip("0").rstrip(".")


def main(argv: Sequence[str]) -> int:
    """``hpc-deepfake job cost``, which jobs/lib/job.sh calls. Returns the exit code."""
    cli = Parser(prog="hpc-deepfake job cost", config=False, description=(
        "Print how many node hours, core hours and GPU hours job scripts may use at most, all\n"
        "together, by their directives."), epilog=(
        "examples:\n  hpc-deepfake job cost slurm jobs/slurm/train_multinode.sh\n"
        "  hpc-deepfake job render slurm train_cpu --nodes 8 | hpc-deepfake job cost slurm -\n\n"
        "exit codes: 0 done; 2 wrong usage, or a script that can't be read"))
    cli.add_argument("scheduler", choices=tuple(DIALECTS), help="of the scripts")
    cli.add_argument("scripts", nargs="+", metavar="FILE", help="job script; - for standard input")
    options = cli.parse(argv)
    print(line([_read(file) for file in options.scripts], DIALECTS[options.scheduler], os.environ))
    return 0


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the script {file}: {reason(error)}") from None
