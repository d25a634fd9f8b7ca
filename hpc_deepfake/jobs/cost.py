"""What jobs may cost at most, before they are submitted: node hours, core hours and GPU hours.

The bound is what a script's directives request, for the whole time limit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import plural, whole_number
from hpc_deepfake.jobs.script import SLURM
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
        restarts: how often a job that is stopped may run again, each time for as much again.
    """

    nodes: float | None = 0.0
    cores: float | None = 0.0
    gpus: float | None = 0.0
    restarts: int = field(default=0, compare=False)

    @property
    def hours(self) -> tuple[float | None, ...]:
        return self.nodes, self.cores, self.gpus

    def __add__(self, other: Cost) -> Cost:
        nodes, cores, gpus = (None if mine is None or more is None else mine + more
                              for mine, more in zip(self.hours, other.hours, strict=True))
        return Cost(nodes, cores, gpus, max(self.restarts, other.restarts))

    def __str__(self) -> str:
        """Such as ``at most 8 node hours, 256 core hours, 32 GPU hours``; without what is unknown,
        and without GPUs if there are none."""
        known = [f"{_hours(value)} {unit}" for value, unit in zip(self.hours, _UNITS, strict=True)
                 if value is not None and (value or unit != _UNITS[2])]
        if not known:
            return "unknown"
        again = " for one run; a job that is stopped runs again up to " \
            f"{plural(self.restarts, 'time')}" if self.restarts else ""
        return f"at most {', '.join(known)}{again}"


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
    allocated = (_slurm if dialect is SLURM else _pbs)(current, asked, text)
    jobs = 1 if asked.array is None else elements(asked.array)
    if asked.time is None:
        return Cost(None, None, None)
    hours = asked.time / 3600 * jobs
    nodes, cores, gpus = (_product(number, hours) for number in allocated)
    return Cost(nodes, cores, gpus, _restarts(text, dialect, current))


def total(costs: Iterable[Cost]) -> Cost:
    """The sum."""
    return sum(costs, Cost())


def _restarts(text: str, dialect: Dialect, current: Directives) -> int:
    """How often a job is run again at most after it was stopped; jobs of a chain aren't."""
    most = _RESTARTS.search(text)
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
    nodes, cores, gpus_of_all = 0, 0, 0
    whole = "excl" in current.get("l:place", "")
    said = True  # a chunk that doesn't say its CPUs may be a whole node
    for chunk in current["l:select"].split("+"):
        count, *parts = chunk.split(":")
        if whole_number(count) is None:  # one chunk: ncpus=4
            count, parts = "1", [count, *parts]
        named = dict(part.partition("=")[::2] for part in parts)
        nodes += int(count)
        cores += int(count) * (whole_number(named.get("ncpus", "")) or 0)
        gpus_of_all += int(count) * (whole_number(named.get("ngpus", "")) or 0)
        said &= "ncpus" in named
    return nodes, cores if said and not whole else None, gpus_of_all if said else None


def _product(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first * second


def _hours(value: float) -> str:
    return f"{value:,.2f}".rstrip("0").rstrip(".")
