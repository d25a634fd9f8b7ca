"""What the runs of a study measured: one row for each, joined with the scheduler's accounting."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.json_data import dictionary, finite, items
from hpc_deepfake.jobs import Usage, account, measured
from hpc_deepfake.scaling import study as studies
from hpc_deepfake.scaling.study import DONE, Plan, Run
from hpc_deepfake.strategies.mesh.shape import parse as mesh
from hpc_deepfake.train import records

# where an epoch's training goes; imbalance is what a mean rank waits for the slowest
STAGES = ("input", "compute", "communication", "imbalance")


@dataclass
class Row:
    """One run; seconds and rates are medians over its epochs but the first of each start.

    Attributes:
        state, why: as of ``study.state``. rate: training rows (of preprocessing: pictures) in a
        second. rows: of an epoch. batch: rows of a rank and step. steps: of an epoch.
        seconds: of an epoch's training by stage, of a mean rank (``STAGES``). evaluate, checkpoint:
        seconds of an epoch. first_epoch: seconds of training in the first one; first_step: of the
        slowest rank, which built its graph in it. config: all options, as the run had them.
        memory: bytes, of the largest rank. gpu_hours, cpu_efficiency, elapsed (seconds),
        job_state: of its jobs, by the scheduler's accounting (``source``) or the run's own. notes:
        what is out of the ordinary.
    """

    run: Run
    state: str
    why: str = ""
    rate: float | None = None
    rows: int | None = None
    batch: float | None = None
    steps: float | None = None
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
    applying: float | None = None  # seconds of an epoch that the servers of async applied updates
    timeline: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def epoch(self) -> float | None:
        """Seconds of a whole epoch: training and evaluation."""
        if self.rate is None or self.rows is None:
            return None
        return self.rows / self.rate + (self.evaluate or 0.0)

    @property
    def node_hours(self) -> float | None:
        """Of an epoch."""
        return None if self.epoch is None else self.epoch * self.run.nodes / 3600


def rows(study: Path, plan: Plan, ask: Callable[[str], Any] | None = account) -> list[Row]:
    """A row for each planned run; ``ask`` gives the scheduler's accounting of a run directory."""
    found = []
    for run in plan.runs:
        row = Row(run, *studies.state(study, run))
        folder = study / run.name
        if row.state == DONE:
            try:
                (_preprocessing if run.kind == "preprocess" else _training
                 if run.kind in ("strong", "weak") else _nothing)(row, folder)
            except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
                row.state, row.why = studies.FAILED, f"its records can't be used: {error}"
        if ask is not None and folder.exists():
            _accounting(row, folder, ask)
        found.append(row)
    return found


def _nothing(row: Row, folder: Path) -> None:
    """A micro-benchmark has a report of its own."""


def _training(row: Row, folder: Path) -> None:
    found = records.read(folder)
    lines = [line for line in found.epochs if dictionary(line.get("seconds"))]
    if not lines:
        raise ValueError("no epoch in metrics.jsonl")
    later = [line for at, line in enumerate(lines) if not _first(line, at)]
    if not later:
        row.notes.append("one epoch only: its first step, which builds the graph, is in the rate")
        later = lines
    row.rate = statistics.median(line["images_per_s"] for line in later)
    row.rows = int(found.summary["train_rows"])
    row.config = found.config
    row.batch = batch(found.config, row.run.ranks)
    row.steps = lines[-1]["step"] / len(lines)
    row.precision = str(found.config.get("precision", ""))
    row.seconds = {stage: statistics.median(_stages(line)[stage] for line in later)
                   for stage in STAGES}
    row.evaluate = statistics.median(finite(line["seconds"].get("evaluate")) or 0.0
                                     for line in later)
    row.checkpoint = statistics.median(finite(line["seconds"].get("checkpoint")) or 0.0
                                       for line in later)
    row.applying = finite(dictionary(later[-1].get("server")).get("applying_s"))
    row.first_epoch = sum(_stages(lines[0]).values())
    row.first_step = finite(dictionary(_ranks(lines[0]).get("first_step")).get("max"))
    ranks = [dictionary(one) for one in items(found.environment.get("ranks"))]
    row.hosts = len({one.get("host") for one in ranks}) or None
    row.threads = max((int(one.get("threads") or 1) for one in ranks), default=None)
    usage = [dictionary(one) for one in items(found.summary.get("usage"))]
    row.memory = max((finite(one.get("max_rss_mb")) or 0 for one in usage), default=0) * 2**20 \
        or None
    row.timeline = dictionary(found.summary.get("timeline"))
    if row.hosts is not None and row.hosts != row.run.nodes:
        row.notes.append(f"it ran on {row.hosts} host{'s' * (row.hosts > 1)}, not "
                         f"{row.run.nodes}")
    if row.rate <= 0:
        raise ValueError("a rate of nothing")


def batch(config: dict[str, Any], ranks: int) -> float:
    """Rows of a rank and step, of a mean one where several share a data share's rows."""
    rows = int(config["batch_size"]) * int(config.get("accumulate", 1))
    shares = mesh(config["mesh"], ranks).data if config.get("mesh") else ranks
    return rows * shares / ranks


def _ranks(line: dict[str, Any]) -> dict[str, Any]:
    return dictionary(line.get("ranks"))


def _first(line: dict[str, Any], place: int) -> bool:
    """Whether a process began with this epoch; older records don't say so but of the first."""
    return "first_step" in _ranks(line) or place == 0


def _stages(line: dict[str, Any]) -> dict[str, float]:
    """Seconds of an epoch's training by stage, of a mean rank; of rank 0 in older records."""
    ranks = _ranks(line)
    if not {"input", "compute", "communication"} <= set(ranks):
        return {stage: float(line["seconds"].get(stage, 0.0)) for stage in STAGES}
    mean = {stage: float(ranks[stage]["mean"]) for stage in ("input", "compute", "communication")}
    # who is done early waits for the slowest within the communication
    lost = min(max(float(ranks["compute"]["max"]) - mean["compute"], 0.0), mean["communication"])
    return {**mean, "communication": mean["communication"] - lost, "imbalance": lost}


def _preprocessing(row: Row, folder: Path) -> None:
    made = json.loads((folder / "features.h5.json").read_text(encoding="utf-8"))
    wall = float(made["seconds"]["wall"])
    row.rows, row.rate = int(made["images"]), made["images"] / wall
    by_rank = [sum(rank.values()) for rank in made["seconds"].get("by_rank", [])]
    names = list(made["seconds"]["by_rank"][0]) if by_rank else []
    row.seconds = {name: statistics.mean(rank[name] for rank in made["seconds"]["by_rank"])
                   for name in names}
    if by_rank:
        row.seconds["imbalance"] = max(by_rank) - statistics.mean(by_rank)


def _accounting(row: Row, folder: Path, ask: Callable[[str], Any]) -> None:
    """From the scheduler; where it knows nothing, from what the run measured itself."""
    own: list[dict[str, Any]] = []
    with suppress(KeyError, TypeError, ValueError, AttributeError, OSError):
        own = [one for one in measured.find(folder) if one]
    if own:
        row.gpu_hours, row.cpu_efficiency = own[0].get("gpu_hours"), own[0].get("cpu_efficiency")
        row.elapsed, row.source = own[0].get("wall_s"), "the run itself"
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
