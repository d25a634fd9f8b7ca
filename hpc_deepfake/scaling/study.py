"""A scaling study as data: its runs, what each is given, and which of them are still to be done."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.json_data import dictionary
from hpc_deepfake.strategies import NAMES
from hpc_deepfake.strategies.mesh.shape import Shape, grow
from hpc_deepfake.train.options import parser as train_parser

KINDS = ("strong", "weak", "preprocess", "microbench")
INPUTS = ("real", "synthetic")
NAME = "study.json"
DONE, FAILED, STOPPED, MISSING = "done", "failed", "stopped", "missing"
FIRST = ("--epochs", "4", "--patience", "0", "--no-report")  # what a user's own arguments win over


@dataclass(frozen=True)
class Run:
    """One job of a study.

    Attributes:
        kind: of ``KINDS``. input: ``real``, ``synthetic``, or empty. strategy: of ``train``, or
            ``mesh:`` and its axes but data, such as ``mesh:tensor=2,pipeline=2``; the run on one
            rank is ``sequential`` and belongs to all. repeat: from 1.
        job: the job script. arguments: for the program.
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
    """What a study is made of.

    Attributes:
        ranks_per_node: of a full node. limit: seconds that each job may take. skipped: runs that
            can't be, and why.
    """

    runs: tuple[Run, ...]
    ranks_per_node: int
    limit: int
    skipped: tuple[tuple[str, str], ...] = ()

    def node_hours(self, runs: Sequence[Run] | None = None) -> float:
        """At most, if each takes as long as it may."""
        return sum(run.nodes for run in (self.runs if runs is None else runs)) * self.limit / 3600


def sizes(ranks_per_node: int, nodes: int) -> list[tuple[int, int]]:
    """(nodes, ranks) of a study: 1, 2, 4 and so on ranks of a node, then 1, 2, 4 and so on whole
    nodes, and all of them."""
    within = [(1, 2**power) for power in range(ranks_per_node.bit_length())
              if 2**power < ranks_per_node]
    whole = [2**power for power in range(nodes.bit_length()) if 2**power <= nodes]
    return within + [(count, count * ranks_per_node) for count in sorted({*whole, nodes})]


def plan(*, kinds: Sequence[str], strategies: Sequence[str], inputs: Sequence[str], repeats: int,
         ranks_per_node: int, nodes: int, global_batch: int, batch_size: int, rows_per_rank: int,
         synthetic: int, job: str, limit: int, arguments: Sequence[str],
         config: Path | None = None) -> Plan:
    """The runs of a study, those that the strategies can't do left out.

    Strong: all rows, ``global_batch`` rows a step over all ranks (of ``async`` each update has
    ``batch_size``, as each worker goes alone). Weak: ``batch_size`` rows a step and
    ``rows_per_rank`` rows an epoch for each rank.

    Args:
        synthetic: training pictures of strong runs on synthetic input. arguments: of ``train`` or,
            where ``preprocess`` is the only kind, of preprocessing. limit: seconds of a job.
        config: TOML file with options that the trainings will also get.

    Raises:
        InputError: nothing would be left, or the arguments say what the study decides.
    """
    runs: list[Run] = []
    skipped: list[tuple[str, str]] = []
    seen: set[str] = set()
    for wanted in strategies:
        known(wanted, "--strategies")
    alone = list(kinds) == ["preprocess"]  # else the arguments are of training
    for kind in kinds:
        for source in inputs if kind in ("strong", "weak") else ("",):
            for wanted in strategies if source else (kind,):
                for count, ranks in sizes(ranks_per_node, nodes):
                    if kind == "microbench" and ranks == 1:
                        continue  # nobody to talk to
                    strategy = wanted
                    if source and ranks == 1 and wanted != "async":
                        strategy = "sequential"
                    name = "-".join(filter(None, (kind, source, source and re.sub(
                        "[:,]", "-", strategy).replace("=", ""), f"n{ranks:04d}")))
                    try:
                        words = _arguments(kind, source, strategy, ranks, global_batch, batch_size,
                                           rows_per_rank, synthetic,
                                           arguments if source or alone else (), config)
                    except InputError as error:
                        skipped.append((name, str(error).partition("\n")[0]))
                        continue
                    for repeat in range(1, repeats + 1):
                        one = Run(f"{name}-r{repeat}", kind, source, strategy if source else "",
                                  count, ranks, repeat, _job(kind, job), words)
                        if one.name not in seen:  # the run on one rank is every strategy's
                            runs.append(one)
                            seen.add(one.name)
    if not runs:
        why = "".join(f"\n  {name}: {reason}" for name, reason in skipped)
        raise InputError(f"none of these runs can be:{why}")
    return Plan(tuple(runs), ranks_per_node, limit, tuple(skipped))


def _job(kind: str, job: str) -> str:
    return {"preprocess": "preprocess", "microbench": "scaling_study"}.get(kind, job)


def _arguments(kind: str, source: str, strategy: str, ranks: int, global_batch: int,
               batch_size: int, rows_per_rank: int, synthetic: int, given: Sequence[str],
               config: Path | None) -> tuple[str, ...]:
    """Of one run; checked as the program would check them."""
    if kind not in ("strong", "weak"):
        return tuple(given) if kind == "preprocess" else ()
    strategy, _, axes = strategy.partition(":")
    words = [*FIRST, *given, "--strategy", strategy]
    file = ["--config", str(config)] if config else []
    options = train_parser().parse([*file, *words])
    if options.mesh:
        raise InputError("--mesh is the study's own: name the strategy mesh:tensor=2 and the like")
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
                raise InputError(f"a global batch of {global_batch} rows can't be shared equally "
                                 f"by {shape.data} {'data shares' if axes else 'ranks'}{micro}")
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


def known(strategy: str, option: str) -> None:
    """Raise InputError unless a study can have this strategy."""
    name, colon, axes = strategy.partition(":")
    if name not in NAMES or (name == "mesh") != bool(axes) or (colon and not axes):
        raise InputError(f"{option} {strategy}: there are "
                         f"{', '.join(one for one in NAMES if one != 'mesh')}, and "
                         "mesh:tensor=2, mesh:pipeline=2, mesh:tensor=2,pipeline=2 and the like, "
                         "whose data axis grows with the ranks")
    if axes:
        grow(axes, 0)


def _check(words: Sequence[str], ranks: int) -> None:
    """Raise InputError where ``train`` would; wrong options end the program, as there."""
    from hpc_deepfake import strategies
    from hpc_deepfake.network.settings import Settings
    from hpc_deepfake.strategies.layout import Layout

    options = train_parser().parse(words)
    if options.run is not None or options.resume:
        raise InputError("--run and --resume are the study's own: leave them out; RUN names its "
                         "folder")
    strategies.choose(options.strategy, ranks, Settings.of(options), Layout.of(options))


def write(study: Path, made: Plan) -> None:
    """``study.json``: the runs wanted, those of earlier plans for this folder included."""
    known = {run.name: run for run in (read(study).runs if (study / NAME).is_file() else ())}
    known.update({run.name: run for run in made.runs})
    everything = {**asdict(made), "runs": [asdict(run) for run in known.values()]}
    try:
        study.mkdir(parents=True, exist_ok=True)
        new = study / f".new-{NAME}"
        new.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
        os.replace(new, study / NAME)
    except OSError as error:
        raise InputError(f"cannot write in the study's folder {study}: {error.strerror}; choose "
                         "another one with RUN") from None


def read(study: Path) -> Plan:
    """The plan that ``write`` left.

    Raises:
        InputError: there is none, or it is damaged.
    """
    try:
        found = json.loads((study / NAME).read_text(encoding="utf-8"))
        runs = tuple(Run(**{**one, "arguments": tuple(one["arguments"])}) for one in found["runs"])
        for run in runs:
            if Path(run.name).name != run.name or run.kind not in KINDS:
                raise ValueError(f"a run {run.name!r}")
        return Plan(runs, int(found["ranks_per_node"]), int(found["limit"]),
                    tuple((str(name), str(why)) for name, why in found["skipped"]))
    except FileNotFoundError:
        raise InputError(f"{study} holds no scaling study: there is no {NAME}. Submit one with "
                         "jobs/slurm/scaling_study.sh or jobs/pbs/scaling_study.sh") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{study / NAME} can't be read: {error}. Submit the study once more, "
                         "which writes it anew") from None


def state(study: Path, run: Run) -> tuple[str, str]:
    """``done``, ``failed``, ``stopped`` (to be gone on with) or ``missing``, and why."""
    folder = study / run.name
    if _finished(folder, run):
        return DONE, ""
    code = outcome(folder, run)
    if code == "75":
        return STOPPED, "stopped by a signal, with all saved"
    if code not in ("", "0"):
        error = first_error(folder, run)
        return FAILED, f"exit code {code}" + (f": {error}" if error else "")
    if code == "0":
        return FAILED, "it says that it has finished, but its results aren't there"
    if any(records(folder, run).glob("*.env")):
        return FAILED, "it began, and left no exit code: killed, or still running"
    return MISSING, "not run"


def _finished(folder: Path, run: Run) -> bool:
    file = {"preprocess": folder / "features.h5.json",
            "microbench": folder / "microbench.json"}.get(run.kind, folder / "summary.json")
    try:
        found = dictionary(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return False
    return found.get("ranks") == run.ranks


def records(folder: Path, run: Run) -> Path:
    """Where the run's jobs leave theirs."""
    return folder / ("features.h5.jobs" if run.kind == "preprocess" else "jobs")


def outcome(folder: Path, run: Run) -> str:
    """Exit code of the run's last job; empty where none has ended."""
    try:
        return (records(folder, run) / "outcome").read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def first_error(folder: Path, run: Run) -> str:
    """First line of the newest error that a job of the run left."""
    files = sorted(records(folder, run).glob("*.error"), key=lambda file: file.stat().st_mtime)
    for file in reversed(files):
        lines = file.read_text("utf-8", "replace").strip().splitlines()
        if lines:  # of a traceback the last line says it
            line = lines[-1] if "Traceback" in "".join(lines[:2]) else lines[0]
            return line.strip()[:300]
    return ""


def table(study: Path, made: Plan) -> str:
    """The plan for a person."""
    states = {run.name: state(study, run)[0] for run in made.runs}
    width = max(len(run.name) for run in made.runs)
    missing = [run for run in made.runs if states[run.name] != DONE]
    out = [f"{run.name:<{width}}  {states[run.name]:<8} {run.nodes:>4} node"
           f"{'s' * (run.nodes > 1):<1} × {run.ranks_per_node:>3} rank"
           f"{'s' * (run.ranks_per_node > 1):<1}  {_shown(run)}" for run in made.runs]
    out += [f"left out: {name}: {why}" for name, why in made.skipped]
    out.append(f"{len(made.runs)} jobs of at most {made.limit / 60:g} min, "
               f"{made.node_hours():.2f} node hours at most; {len(missing)} to be done, "
               f"{made.node_hours(missing):.2f} node hours at most; and one for the report")
    return "\n".join(out)


def _shown(run: Run) -> str:
    """What tells it from its neighbours."""
    wanted = ("--batch-size", "--rows", "--synthetic")
    words = dict(zip(run.arguments, run.arguments[1:], strict=False))
    return " ".join(f"{name} {words[name]}" for name in wanted if name in words)


