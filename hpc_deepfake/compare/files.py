"""``compare.html``, ``compare.md``, ``compare.csv`` and ``compare.json``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from hpc_deepfake.compare.comparison import Cell, Comparison
from hpc_deepfake.compare.document import report
from hpc_deepfake.compare.results import FIGURES, Result
from hpc_deepfake.core.json_data import finite
from hpc_deepfake.metrics.spread import Spread
from hpc_deepfake.network.registry import DEFAULT, title

_COLUMNS = (
    "run", "method", "feature", "repeat", "seed", "state", "epochs", "processes", "computing",
    "servers", "threads_each", "threads", "hardware", "rows_per_update", "updates_per_epoch",
    "seconds", "seconds_since_last_start", "seconds_to_target", "target", "images_per_s", "speedup",
    "best_epoch", "part", "rows",
    *(f"{name}{end}" for name in FIGURES for end in ("", "_low", "_high")), "majority",
    "container", "unlike", "mean_staleness", "network")


def write(comparison: Comparison, out: Path, command: str, launcher: str) -> list[Path]:
    """Write all four files and return their paths.

    Args:
        comparison: the figures.
        out: folder of the comparison.
        command: the command that repeats the comparison.
        launcher: command that starts several ranks.

    Raises:
        InputError: they can't be written.
    """
    return report(comparison, command, launcher).write(out, _COLUMNS, _lines(comparison),
                                                       everything(comparison, command))


def everything(comparison: Comparison, command: str) -> dict[str, Any]:
    """All figures, for programs."""
    by_name = {result.training.name: result for result in comparison.results}
    trainings = [{**line, "elapsed": by_name[line["run"]].elapsed,
                  "staleness": by_name[line["run"]].staleness}
                 if line["run"] in by_name else line for line in _lines(comparison)]
    return {
        "command": command, "target": comparison.target, "target_chosen": comparison.target_chosen,
        "part": comparison.part, "base_feature": comparison.base_feature,
        "base_network": title(comparison.plan[0].network),
        "feature_method": comparison.feature_method, "notes": comparison.notes,
        "missing": comparison.missing, "container": comparison.container,
        "majority": comparison.majority,
        "differences": {difference.condition: difference.values
                        for difference in comparison.differences},
        "methods": [_cell(cell, comparison.target) for cell in comparison.cells],
        "mcnemar": [{"method": comparison.feature_method,
                     "features": [test.first.training.feature, test.second.training.feature],
                     "repeat": test.repeat, **asdict(test.paired),
                     **({"network": title(test.second.training.network)}
                        if comparison.base_network else {})} for test in comparison.tests],
        "mcnemar_networks": [{
            "method": comparison.feature_method, "feature": test.second.training.feature,
            "networks": [title(test.first.training.network), title(test.second.training.network)],
            "repeat": test.repeat, **asdict(test.paired)} for test in comparison.network_tests],
        "trainings": trainings}


def _cell(cell: Cell, target: float | None) -> dict[str, Any]:
    def values(spread: Spread | None) -> dict[str, float] | None:
        return None if spread is None else {
            "median": spread.median, "lowest": spread.low, "highest": spread.high}

    return {"method": cell.method, "feature": cell.feature, "network": cell.network or DEFAULT,
            "finished": len(cell.results),
            **asdict(cell.layout), "seconds": values(cell.seconds),
            "seconds_to_target": values(cell.reached(target)),
            "images_per_s": values(cell.images_per_s), "speedup": cell.speedup,
            **{name: values(cell.figure(name)) for name in FIGURES},
            "intervals": {name: cell.interval(name) for name in FIGURES},
            "unlike": cell.deviations}


def _lines(comparison: Comparison) -> list[dict[str, Any]]:
    results = {result.training.name: (cell, result)
               for cell in comparison.cells for result in cell.results}
    lines = []
    for training in comparison.plan:
        line = {"run": training.name, "method": training.method, "feature": training.feature,
                "network": title(training.network),
                "repeat": training.repeat, "seed": training.seed, "state": "missing",
                "epochs": training.settings["epochs"], "processes": training.layout.processes,
                "computing": training.layout.computing, "servers": training.layout.servers,
                "threads_each": training.layout.threads, "rows_per_update": training.layout.rows}
        if training.name in results:
            line.update(_figures(comparison, *results[training.name]))
        lines.append(line)
    return lines


def _figures(comparison: Comparison, cell: Cell, result: Result) -> dict[str, Any]:
    """The columns of a finished training."""
    place = [other.training.name for other in cell.results].index(result.training.name)
    ages, summary = result.staleness, result.records.summary
    columns = {
        "state": "done", "epochs": summary.get("epochs"), "threads": result.threads,
        "hardware": result.hosts, "updates_per_epoch": result.steps_per_epoch,
        "seconds": result.seconds, "seconds_since_last_start": summary.get("seconds"),
        "target": comparison.target,
        "seconds_to_target": None if comparison.target is None
        else result.reached(comparison.target),
        "images_per_s": result.images_per_s,
        "speedup": cell.speedup[place] if len(cell.speedup) == len(cell.results) else None,
        "best_epoch": summary.get("best_epoch"), "part": result.part,
        "rows": result.figures.get("rows"), "majority": finite(result.figures.get("majority")),
        "container": (comparison.container or {}).get("accuracy"), "unlike": cell.deviations,
        "mean_staleness": sum(age * updates for age, updates in ages.items()) / sum(ages.values())
        if ages else None}
    for name in FIGURES:
        columns[name] = finite(result.figures.get(name))
        interval = result.intervals.get(name)
        if interval:
            columns[f"{name}_low"], columns[f"{name}_high"] = interval
    return columns
