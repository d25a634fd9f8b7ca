"""What the runs of a study measured: a row for each, joined with the scheduler's accounting."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.json_data import dictionary, finite, items
from hpc_deepfake.core.text import plural
from hpc_deepfake.jobs import Usage, account, measured
from hpc_deepfake.scaling import study as studies
from hpc_deepfake.scaling.study import DONE, Plan, Run
from hpc_deepfake.strategies.mesh.shape import parse as parse_mesh
from hpc_deepfake.train import records
from preprocessing.ela import MAX_SIZE, SIZE

# where the time of an epoch's training goes; imbalance is the mean wait for the slowest rank
STAGES = ("input", "compute", "communication", "imbalance")
_MOST = 1e15  # rows, rows/s and seconds of a run
# options that are numbers of something, with their minimum
_COUNTS = {"batch_size": 1, "accumulate": 1, "servers": 1, "sync_every": 1, "shard_group": 0}


@dataclass
class Row:
    """One run; seconds and rates are medians over its epochs, without the first of each start.

    Attributes:
        run: its plan.
        state: as of ``study.state``.
        why: the reason for the state.
        rate: training rows (of preprocessing: pictures) per second, by the wall clock.
        training: the same without evaluation and saving, which predictions are made of.
        rows: rows of an epoch.
        batch: rows of a rank and step.
        steps: steps of an epoch.
        size: width and height of its pictures.
        precision: ``--precision`` of the training.
        config: all options of the run.
        seconds: seconds of an epoch's training by stage (``STAGES``), mean over the ranks.
        evaluate: seconds of evaluation in an epoch.
        checkpoint: seconds of checkpoints in an epoch.
        first_epoch: seconds of training in the first epoch.
        first_step: seconds of the slowest rank's first step, in which the graph is built.
        hosts: number of hosts.
        threads: CPU threads of a rank.
        memory: bytes of the rank with the largest memory.
        gpu_hours: of its jobs.
        cpu_efficiency: of its jobs, from 0 to 1.
        elapsed: seconds of its jobs.
        job_state: the scheduler's state of its last job.
        source: origin of the usage: the scheduler's accounting, or the run itself.
        applying: seconds of an epoch in which the servers of async applied updates.
        timeline: the summary of its timeline.
        notes: unusual facts about the run.
    """

    run: Run
    state: str
    why: str = ""
    rate: float | None = None
    training: float | None = None
    rows: int | None = None
    batch: float | None = None
    steps: float | None = None
    size: int = SIZE
    precision: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    evaluate: float | None = None
    checkpoint: float | None = None
    first_epoch: float | None = None
    first_step: float | None = None
    hosts: int | None = None
    threads: int | None = None
    memory: float | None = None
    gpu_hours: float | None = None
    cpu_efficiency: float | None = None
    elapsed: float | None = None
    job_state: str = ""
    source: str = ""
    applying: float | None = None
    timeline: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def epoch(self) -> float | None:
        """Seconds of a whole epoch by the wall clock."""
        return None if self.rate is None or self.rows is None else self.rows / self.rate

    @property
    def node_hours(self) -> float | None:
        """Node hours of an epoch."""
        return None if self.epoch is None else self.epoch * self.run.nodes / 3600


def rows(study: Path, plan: Plan, ask: Callable[[str], Any] | None = account) -> list[Row]:
    """A row for each planned run.

    Args:
        study: folder of the study.
        plan: its runs.
        ask: gives the scheduler's accounting of a run directory; None to do without.
    """
    result = []
    ids = Counter(job for run in plan.runs for job in _jobs(study, run))
    for run in plan.runs:
        row = Row(run, *studies.state(study, run))
        folder = study / run.name
        if row.state == DONE:
            try:
                if run.kind == "preprocess":
                    _read_preprocessing(row, folder)
                elif run.kind in ("strong", "weak"):  # a micro-benchmark has its own report
                    _read_training(row, folder)
            except (InputError, KeyError, TypeError, ValueError, AttributeError,
                    OverflowError) as error:
                row.state, row.why = studies.FAILED, f"its records can't be used: {error}"
        if ask is not None and folder.exists():
            # What the scheduler knows of a job that ran several runs is of no use for one of them.
            shared = any(ids[job] > 1 for job in _jobs(study, run))
            _read_accounting(row, folder, None if shared else ask)
        result.append(row)
    return result


def _jobs(study: Path, run: Run) -> set[str]:
    """Ids of the jobs that have worked at a run."""
    return {file.stem for file in studies.records(study / run.name, run).glob("*.env")}


def _read_training(row: Row, folder: Path) -> None:
    run = records.read(folder)
    lines = [line for line in run.epochs if dictionary(line.get("seconds"))]
    if not lines:
        raise ValueError("no epoch in metrics.jsonl")
    later = [line for index, line in enumerate(lines) if not _is_first(line, index)]
    if not later:
        row.notes.append("only one epoch: the rate includes the first step, which builds the graph")
        later = lines
    row.training = statistics.median(line["images_per_s"] for line in later)
    row.rate = statistics.median(
        rate for line in later if (rate := records.wall_rate(line)) is not None)
    row.rows, row.size = int(run.summary["train_rows"]), int(run.summary.get("size", SIZE))
    if not 1 <= row.size <= MAX_SIZE:
        raise ValueError(f"pictures of {row.size} × {row.size} pixels")
    _check(run.config)
    row.config = run.config
    row.batch = batch(run.config, row.run.ranks)
    row.steps = lines[-1]["step"] / len(lines)
    row.precision = str(run.config.get("precision", ""))
    row.seconds = {stage: statistics.median(_stages(line)[stage] for line in later)
                   for stage in STAGES}
    row.evaluate = statistics.median(finite(line["seconds"].get("evaluate")) or 0.0
                                     for line in later)
    row.checkpoint = statistics.median(finite(line["seconds"].get("checkpoint")) or 0.0
                                       for line in later)
    row.applying = finite(dictionary(later[-1].get("server")).get("applying_s"))
    row.first_epoch = sum(_stages(lines[0]).values())
    row.first_step = finite(dictionary(_ranks(lines[0]).get("first_step")).get("max"))
    ranks = [dictionary(rank) for rank in items(run.environment.get("ranks"))]
    row.hosts = len({rank.get("host") for rank in ranks}) or None
    row.threads = max((int(rank.get("threads") or 1) for rank in ranks), default=None)
    usage = [dictionary(rank) for rank in items(run.summary.get("usage"))]
    row.memory = max((finite(rank.get("max_rss_mb")) or 0 for rank in usage), default=0) * 2**20 \
        or None
    row.timeline = dictionary(run.summary.get("timeline"))
    if row.hosts is not None and row.hosts != row.run.nodes:
        row.notes.append(f"ran on {plural(row.hosts, 'host')} instead of {row.run.nodes}")
    if min(row.rate, row.training) <= 0:
        raise ValueError(f"a rate of {row.rate:g} images/s")
    if not all(0 <= figure < _MOST for figure in (
            row.rate, row.training, row.rows, row.steps, row.evaluate, row.checkpoint,
            row.first_epoch, row.first_step or 0, row.applying or 0, *row.seconds.values())):
        raise ValueError("a figure that can't be")


def batch(config: dict[str, Any], ranks: int) -> float:
    """Rows of a rank and step: the mean, where several ranks share the rows of a data share.

    Args:
        config: options of the run.
        ranks: number of ranks.
    """
    rows = int(config["batch_size"]) * int(config.get("accumulate", 1))
    shares = parse_mesh(config["mesh"], ranks).data if config.get("mesh") else ranks
    return rows * shares / ranks


def _check(config: dict[str, Any]) -> None:
    """Raise ValueError if an option from which figures follow has no possible value."""
    for name, least in _COUNTS.items():
        value = config.get(name, least)
        if type(value) is not int or not least <= value < 1 << 31:
            raise ValueError(f"{name} {value!r} in config.json")


def _ranks(line: dict[str, Any]) -> dict[str, Any]:
    return dictionary(line.get("ranks"))


def _is_first(line: dict[str, Any], index: int) -> bool:
    """Whether a process started with this epoch; older records show it for the first one only."""
    return "first_step" in _ranks(line) or index == 0


def _stages(line: dict[str, Any]) -> dict[str, float]:
    """Seconds of an epoch's training by stage, mean over the ranks; of rank 0 in older records."""
    ranks = _ranks(line)
    if not {"input", "compute", "communication"} <= set(ranks):
        return {stage: float(line["seconds"].get(stage, 0.0)) for stage in STAGES}
    mean = {stage: float(ranks[stage]["mean"]) for stage in ("input", "compute", "communication")}
    # ranks that finish early wait for the slowest within the communication
    lost = min(max(float(ranks["compute"]["max"]) - mean["compute"], 0.0), mean["communication"])
    return {**mean, "communication": mean["communication"] - lost, "imbalance": lost}


def _read_preprocessing(row: Row, folder: Path) -> None:
    report = json.loads((folder / "features.h5.json").read_text(encoding="utf-8"))
    wall = float(report["seconds"]["wall"])
    row.rows, row.rate = int(report["images"]), report["images"] / wall
    row.training = row.rate
    by_rank = [sum(rank.values()) for rank in report["seconds"].get("by_rank", [])]
    names = list(report["seconds"]["by_rank"][0]) if by_rank else []
    row.seconds = {name: statistics.mean(rank[name] for rank in report["seconds"]["by_rank"])
                   for name in names}
    if by_rank:
        row.seconds["imbalance"] = max(by_rank) - statistics.mean(by_rank)


def _read_accounting(row: Row, folder: Path, ask: Callable[[str], Any] | None) -> None:
    """Usage from the scheduler; where it has none, from what the run measured itself."""
    own: list[dict[str, Any]] = []
    with suppress(KeyError, TypeError, ValueError, AttributeError, OSError):
        own = [usage for usage in measured.find(folder) if usage]
    if own:
        row.gpu_hours, row.cpu_efficiency = own[0].get("gpu_hours"), own[0].get("cpu_efficiency")
        row.elapsed, row.source = own[0].get("wall_s"), "the run itself"
    if ask is None:
        return
    subject = folder / "features.h5" if row.run.kind == "preprocess" else folder
    try:
        report = ask(str(subject))
    except (InputError, KeyError, TypeError, ValueError, AttributeError, OSError):
        return
    if not report.jobs:
        return
    total: Usage = report.total
    last: Usage = report.jobs[-1]
    row.source, row.job_state = last.source, last.state
    row.elapsed = total.elapsed or row.elapsed
    row.cpu_efficiency = total.cpu_efficiency or row.cpu_efficiency
    row.gpu_hours = total.gpu_hours if total.gpu_hours else row.gpu_hours
    if row.state != DONE and last.state and last.state not in row.why:
        row.why = f"{row.why}; the scheduler says {last.state}"
