"""Hand-made studies: run directories with records whose figures are known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from hpc_deepfake.scaling import records
from hpc_deepfake.scaling import study as studies
from hpc_deepfake.scaling.study import Plan
from hpc_deepfake.train import __main__ as train

ROWS = 4096  # rows of an epoch in strong runs


def amdahl_rate(serial: float, ranks: int, one: float = 100.0) -> float:
    """Images/s by Amdahl's law, with ``one`` on one rank."""
    return one / (serial + (1 - serial) / ranks)


def gustafson_rate(serial: float, ranks: int, one: float = 100.0) -> float:
    """Images/s by Gustafson's law, with ``one`` on one rank."""
    return one * (ranks + (1 - ranks) * serial)


def plan(kinds: Sequence[str] = ("strong",), nodes: int = 4, ranks_per_node: int = 1,
         repeats: int = 1, strategies: Sequence[str] = ("sync",),
         inputs: Sequence[str] = ("real",), arguments: Sequence[str] = (), **more: int) -> Plan:
    """A study's plan with the defaults of the command line; ``more`` are options of study.plan."""
    return studies.plan(kinds=kinds, strategies=strategies, inputs=inputs, repeats=repeats,
                        ranks_per_node=ranks_per_node, nodes=nodes,
                        **{"global_batch": 256, "batch_size": 32, "rows_per_rank": 512,
                           "synthetic": ROWS, "limit": 1800, "job": "train_cpu", **more},
                        arguments=arguments)


def finished(study: Path, run: studies.Run, rate: float, *, seconds: dict[str, float] | None = None,
             imbalance: float = 0.0, rows: int = ROWS, epochs: int = 3, size: int = 128) -> None:
    """A finished run whose epochs have this rate; the first one takes three times as long."""
    folder = study / run.name
    folder.mkdir(parents=True, exist_ok=True)
    options = vars(train.parser().parse(list(run.arguments)))
    steps = math.ceil(rows / (records.batch(options, run.ranks) * run.ranks))
    whole = rows / rate
    by_stage = seconds or {"input": 0.1 * whole, "compute": 0.7 * whole,
                           "communication": 0.2 * whole}
    lines = []
    for epoch in range(1, epochs + 1):
        slow = 3 if epoch == 1 else 1
        stages = {name: slow * value for name, value in by_stage.items()}
        ranks = {name: {"min": value, "mean": value, "max": value}
                 for name, value in stages.items()}
        ranks["compute"]["max"] += slow * imbalance
        if epoch == 1:
            ranks["first_step"] = {"min": whole, "mean": whole, "max": 1.5 * whole}
        lines.append({"epoch": epoch, "step": epoch * steps, "images_per_s": rate / slow,
                      "wall_images_per_s": rate / slow,
                      "seconds": {**stages, "evaluate": 0.5, "checkpoint": 0.25}, "ranks": ranks})
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (folder / "config.json").write_text(json.dumps(options, default=str))
    (folder / "environment.json").write_text(json.dumps({"ranks": [
        {"host": f"n{rank // run.ranks_per_node}", "threads": 2, "device": "CPU", "name": "x"}
        for rank in range(run.ranks)]}))
    (folder / "summary.json").write_text(json.dumps(
        {"strategy": run.strategy, "ranks": run.ranks, "train_rows": rows, "size": size,
         "seconds": 60.0, "usage": [{"cpu_s": 50.0, "wall_s": 60.0, "max_rss_mb": 800.0 + rank}
                   for rank in range(run.ranks)]}))


def failed(study: Path, run: studies.Run, code: int, error: str = "") -> None:
    """A run whose job ended with this exit code, and left this error."""
    jobs = study / run.name / "jobs"
    jobs.mkdir(parents=True, exist_ok=True)
    (jobs / "outcome").write_text(f"{code}\n")
    (jobs / "17.env").write_text("")
    if error:
        (jobs / "17.error").write_text(error)


def whole(study: Path, planned: Plan, rate: Callable[[studies.Run], float]) -> None:
    """A written plan, with all runs finished, each with its own rate."""
    studies.write(study, planned)
    for run in planned.runs:
        rows = ROWS if run.kind == "strong" else 512 * run.ranks
        finished(study, run, rate(run), rows=rows)
