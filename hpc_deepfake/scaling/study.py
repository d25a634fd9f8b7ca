"""A scaling study as data: its runs, their arguments and their states."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hpc_deepfake.core import json_data
from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.core.files import write_json
from hpc_deepfake.core.json_data import dictionary, items
from hpc_deepfake.core.log import log
from hpc_deepfake.core.text import plural
from hpc_deepfake.strategies import NAMES
from hpc_deepfake.strategies.mesh.shape import Shape, grow
from hpc_deepfake.train.options import check
from hpc_deepfake.train.options import parser as train_parser
from hpc_deepfake.train.planned import first_error, outcome

KINDS = ("strong", "weak", "preprocess", "microbench")
INPUTS = ("real", "synthetic")
NAME = "study.json"
DONE, FAILED, STOPPED, MISSING = "done", "failed", "stopped", "missing"
DEFAULTS = ("--epochs", "4", "--patience", "0", "--no-report")  # the user's arguments override


@dataclass(frozen=True)
class Run:
    """One job of a study.

    Attributes:
        name: of its folder: kind, input, strategy, ranks and repeat.
        kind: one of ``KINDS``.
        input: ``real``, ``synthetic``, or empty.
        strategy: of ``train``, or a mesh by its axes other than data, such as
            ``mesh:tensor=2,pipeline=2``; the run on one rank is ``sequential`` and belongs to all
            strategies.
        nodes: number of nodes.
        ranks: number of ranks.
        repeat: number of the repeat, from 1.
        job: name of the job script.
        arguments: arguments of the program.
    """

    name: str
    kind: str
    input: str
    strategy: str
    nodes: int
    ranks: int
    repeat: int
    job: str
    arguments: tuple[str, ...]

    @property
    def ranks_per_node(self) -> int:
        return self.ranks // self.nodes


@dataclass(frozen=True)
class Plan:
    """The runs of a study.

    Attributes:
        runs: all of them.
        ranks_per_node: ranks of a full node.
        limit: time limit of each job in seconds.
        skipped: names of runs that are impossible, and why.
    """

    runs: tuple[Run, ...]
    ranks_per_node: int
    limit: int
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def nodes(self) -> int:
        """Number of nodes of the largest run."""
        return max(run.nodes for run in self.runs)

    def node_hours(self, runs: Sequence[Run] | None = None) -> float:
        """Maximum node hours of these runs (default: all), if each uses its whole time limit."""
        return sum(run.nodes for run in (self.runs if runs is None else runs)) * self.limit / 3600


def sizes(ranks_per_node: int, nodes: int) -> list[tuple[int, int]]:
    """(nodes, ranks) of a study: 1, 2, 4, … ranks of one node, then 1, 2, 4, … whole nodes, and all
    nodes."""
    within = [(1, 2**power) for power in range(ranks_per_node.bit_length())
              if 2**power < ranks_per_node]
    whole = [2**power for power in range(nodes.bit_length()) if 2**power <= nodes]
    return within + [(count, count * ranks_per_node) for count in sorted({*whole, nodes})]


def plan(*, kinds: Sequence[str], strategies: Sequence[str], inputs: Sequence[str], repeats: int,
         ranks_per_node: int, nodes: int, global_batch: int, batch_size: int, rows_per_rank: int,
         synthetic: int, job: str, limit: int, arguments: Sequence[str],
         config: Path | None = None) -> Plan:
    """The runs of a study, without those that are impossible.

    Strong: all training rows, and ``global_batch`` rows a step over all ranks (for ``async``,
    ``batch_size`` rows an update, since each worker takes its own steps). Weak: ``batch_size`` rows
    a step and ``rows_per_rank`` rows an epoch for each rank.

    Args:
        kinds: of ``KINDS``.
        strategies: as of ``Run``.
        inputs: of ``INPUTS``.
        repeats: number of repeats of each run.
        ranks_per_node: ranks of a full node.
        nodes: maximum number of nodes.
        global_batch: see above.
        batch_size: see above.
        rows_per_rank: see above.
        synthetic: training rows of strong runs on synthetic input.
        job: name of the training job script.
        limit: time limit of each job in seconds.
        arguments: of ``train`` or, if ``preprocess`` is the only kind, of preprocessing.
        config: TOML file with more options of the trainings.

    Raises:
        InputError: no run is possible, or the arguments set what the study itself sets.
    """
    runs: list[Run] = []
    skipped: list[tuple[str, str]] = []
    names: set[str] = set()
    for name in strategies:
        check_strategy(name, "--strategies")
    only_preprocessing = list(kinds) == ["preprocess"]  # otherwise the arguments are for train
    for kind in kinds:
        for source in inputs if kind in ("strong", "weak") else ("",):
            for chosen in strategies if source else (kind,):
                for count, ranks in sizes(ranks_per_node, nodes):
                    if kind == "microbench" and ranks == 1:
                        continue  # there is no other rank to communicate with
                    strategy = chosen
                    if source and ranks == 1 and chosen != "async":
                        strategy = "sequential"
                    name = run_name(kind, source, strategy if source else "", ranks)
                    try:
                        words = _arguments(kind, source, strategy, ranks, global_batch, batch_size,
                                           rows_per_rank, synthetic,
                                           arguments if source or only_preprocessing else (),
                                           config)
                    except InputError as error:
                        skipped.append((name, str(error).partition("\n")[0]))
                        continue
                    for repeat in range(1, repeats + 1):
                        run = Run(f"{name}-r{repeat}", kind, source, strategy if source else "",
                                  count, ranks, repeat, _job(kind, job), words)
                        if run.name not in names:  # the run on one rank belongs to all strategies
                            runs.append(run)
                            names.add(run.name)
    if not runs:
        reasons = "".join(f"\n  {name}: {why}" for name, why in skipped)
        raise InputError(f"none of these runs is possible:{reasons}")
    return Plan(tuple(runs), ranks_per_node, limit, tuple(skipped))


def run_name(kind: str, source: str, strategy: str, ranks: int) -> str:
    """Name of a run without the number of its repeat."""
    return "-".join(filter(None, (kind, source, re.sub("[:,]", "-", strategy).replace("=", ""),
                                  f"n{ranks:04d}")))


def _job(kind: str, job: str) -> str:
    return {"preprocess": "preprocess", "microbench": "scaling_study"}.get(kind, job)


def _arguments(kind: str, source: str, strategy: str, ranks: int, global_batch: int,
               batch_size: int, rows_per_rank: int, synthetic: int, extra: Sequence[str],
               config: Path | None) -> tuple[str, ...]:
    """The arguments of one run, checked as the program would check them."""
    if kind not in ("strong", "weak"):
        return tuple(extra) if kind == "preprocess" else ()
    strategy, _, axes = strategy.partition(":")
    words = [*DEFAULTS, *extra, "--strategy", strategy]
    file = ["--config", str(config)] if config else []
    options = train_parser().parse([*file, *words])
    if options.mesh:
        raise InputError("--mesh is set by the study: name the mesh as a strategy, like "
                         "mesh:tensor=2")
    shape = grow(axes, ranks) if axes else Shape(data=ranks)
    if axes:
        words += ["--mesh", str(shape)]
    workers = max(ranks - options.servers, 0) if strategy == "async" else ranks
    rows = rows_per_rank * workers
    if kind == "strong":
        if strategy != "async":
            batch_size, rest = divmod(global_batch, shape.data * options.accumulate)
            if rest:
                micro = f" in {options.accumulate} micro-batches" if options.accumulate > 1 else ""
                raise InputError(f"a global batch of {global_batch} rows can't be divided evenly "
                                 f"among {shape.data} {'data shares' if axes else 'ranks'}{micro}")
        rows = synthetic
    else:
        batch_size *= ranks // shape.data
    words += ["--batch-size", str(batch_size)]
    if source == "synthetic":
        words += ["--synthetic", str(max(rows, 1))]
    elif kind == "weak":
        words += ["--rows", str(rows)]
    _check([*file, *words], ranks)
    return tuple(words)


def check_strategy(strategy: str, option: str) -> None:
    """Check a strategy that the user gave with ``option``.

    Raises:
        InputError: a study can't run it.
    """
    name, colon, axes = strategy.partition(":")
    if name not in NAMES or (name == "mesh") != bool(axes) or (colon and not axes):
        raise InputError(f"{option} {strategy}: unknown strategy; choose from "
                         f"{', '.join(other for other in NAMES if other != 'mesh')}, or give a "
                         "mesh without its data axis, which grows with the ranks: mesh:tensor=2, "
                         "mesh:pipeline=2, mesh:tensor=2,pipeline=2")
    if axes:
        grow(axes, 0)


def _check(words: Sequence[str], ranks: int) -> None:
    """Raise InputError where ``train`` would; wrong options end the program, as in ``train``."""
    options = train_parser().parse(words)
    if options.run is not None or options.resume:
        raise InputError("--run and --resume are set by the study: leave them out; RUN names the "
                         "folder of the study")
    check(options, ranks)


def write(study: Path, plan: Plan) -> None:
    """Write ``study.json``: these runs, and those of earlier plans for the same folder. An earlier
    plan that is damaged is kept as ``study.json.damaged``.

    Raises:
        InputError: it can't be written.
    """
    runs = {run.name: run for run in (*_earlier(study), *plan.runs)}
    create(study)
    write_json(study / NAME, {**asdict(plan), "runs": [asdict(run) for run in runs.values()]})


def create(study: Path) -> None:
    """Create the folder of a study, unless it exists.

    Raises:
        InputError: it can't be created.
    """
    try:
        study.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write in the study's folder {study}: {error.strerror}; choose "
                         "another one with RUN") from None


def _earlier(study: Path) -> tuple[Run, ...]:
    """The runs of the plan in a folder, if it has one that can be read."""
    file = study / NAME
    if not file.is_file():
        return ()
    try:
        return read(study).runs
    except InputError as error:
        kept = file.with_name(f"{NAME}.damaged")
        with suppress(OSError):
            file.replace(kept)
        log.warning(f"warning: {str(error).partition('. Move it')[0]}. It is kept as {kept}, and "
                    "the report will only show the runs that are planned now")
        return ()


def read(study: Path) -> Plan:
    """The plan in ``study.json``.

    Raises:
        InputError: there is none, or it is damaged.
    """
    try:
        data = dictionary(json_data.read(study / NAME))
        plan = Plan(tuple(map(_run, data["runs"])), data["ranks_per_node"], data["limit"],
                    tuple((str(name), str(why)) for name, why in data["skipped"]))
        if not plan.runs or not all(map(_counts, (plan.ranks_per_node, plan.limit))):
            raise ValueError("no runs, or an impossible size or limit")
        return plan
    except FileNotFoundError:
        inside = sorted(str(file.parent) for file in study.glob(f"*/{NAME}"))
        raise InputError(f"{study} holds no scaling study: there is no {NAME}. " + (
            f"Give one; the studies in it are {', '.join(inside)}" if inside else
            "Submit one with jobs/slurm/scaling_study.sh or jobs/pbs/scaling_study.sh")) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot read {study / NAME}: {reason(error)}. Move it away and submit "
                         "the study again, which writes it anew") from None


def _run(stored: object) -> Run:
    """A run as ``study.json`` has it.

    Raises:
        ValueError: a value is impossible.
        TypeError: a value is missing, or there are others.
    """
    run = Run(**dictionary(stored))
    run = replace(run, arguments=tuple(items(run.arguments)))
    texts = (run.name, run.input, run.strategy, run.job, *run.arguments)
    if not (all(isinstance(text, str) for text in texts) and run.kind in KINDS
            and Path(run.name).name == run.name and "\0" not in run.name
            and all(map(_counts, (run.nodes, run.ranks, run.repeat))) and run.ranks >= run.nodes):
        raise ValueError(f"impossible run {run.name!r}")
    return run


def _counts(value: object) -> bool:
    """Whether it is a number of things, at least one."""
    return type(value) is int and 1 <= value < 1 << 31


def state(study: Path, run: Run) -> tuple[str, str]:
    """``done``, ``failed``, ``stopped`` (can be resumed) or ``missing``, and the reason."""
    folder = study / run.name
    if _finished(folder, run):
        return DONE, ""
    code = outcome(records(folder, run))
    if code == "75":
        return STOPPED, "stopped by a signal, with a checkpoint"
    if code not in ("", "0"):
        error = first_error(records(folder, run))
        return FAILED, f"exit code {code}" + (f": {error}" if error else "")
    if code == "0":
        return FAILED, "exit code 0, but its results are missing"
    if any(records(folder, run).glob("*.env")):
        return FAILED, "started, but left no exit code: killed, or still running"
    return MISSING, "not run"


def _finished(folder: Path, run: Run) -> bool:
    file = {"preprocess": folder / "features.h5.json",
            "microbench": folder / "microbench.json"}.get(run.kind, folder / "summary.json")
    try:
        result = dictionary(json_data.read(file))
    except (OSError, ValueError):
        return False
    return bool(result.get("ranks") == run.ranks)


def records(folder: Path, run: Run) -> Path:
    """The folder with the records of the run's jobs."""
    return folder / ("features.h5.jobs" if run.kind == "preprocess" else "jobs")


def table(study: Path, plan: Plan, *, one_job: bool = False) -> str:
    """The plan for a person, a line for each run.

    Args:
        study: folder of the study.
        plan: its runs.
        one_job: whether all of them are steps of one job.
    """
    states = {run.name: state(study, run)[0] for run in plan.runs}
    width = max(len(run.name) for run in plan.runs)
    unfinished = [run for run in plan.runs if states[run.name] != DONE]
    lines = [f"{run.name:<{width}}  {states[run.name]:<8} {run.nodes:>4} node"
             f"{'s' * (run.nodes > 1):<1} × {run.ranks_per_node:>3} rank"
             f"{'s' * (run.ranks_per_node > 1):<1}  {_sizes_of(run)}" for run in plan.runs]
    lines += [f"skipped: {name}: {why}" for name, why in plan.skipped]
    if one_job:
        hours = plan.nodes * plan.limit / 3600
        lines.append(f"1 job of at most {plan.limit / 60:g} min on {plural(plan.nodes, 'node')}, "
                     f"{hours:.2f} node hours at most, for {plural(len(plan.runs), 'run')}, "
                     f"{len(unfinished)} to be done; stopped at its limit, it continues by itself")
        return "\n".join(lines)
    lines.append(f"{plural(len(plan.runs), 'job')} of at most {plan.limit / 60:g} min, "
                 f"{plan.node_hours():.2f} node hours at most; {len(unfinished)} to be done, "
                 f"{plan.node_hours(unfinished):.2f} node hours at most; and one for the report")
    return "\n".join(lines)


def _sizes_of(run: Run) -> str:
    """The options in which runs of different sizes differ."""
    words = dict(zip(run.arguments, run.arguments[1:], strict=False))
    return " ".join(f"{name} {words[name]}" for name in ("--batch-size", "--rows", "--synthetic")
                    if name in words)
