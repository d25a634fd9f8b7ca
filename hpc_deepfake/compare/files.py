"""``compare.html``, ``compare.md``, ``compare.csv`` and ``compare.json``."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hpc_deepfake.compare.comparison import Cell, Comparison
from hpc_deepfake.compare.document import document, markdown
from hpc_deepfake.compare.folder import replace
from hpc_deepfake.compare.results import FIGURES, Result
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.json_data import finite

_COLUMNS = (
    "run", "method", "feature", "repeat", "seed", "state", "epochs", "processes", "computing",
    "servers", "threads_each", "threads", "hardware", "rows_per_update", "updates_per_epoch",
    "seconds", "seconds_since_last_start", "seconds_to_target", "target", "images_per_s", "speedup",
    "best_epoch", "part", "rows",
    *(f"{name}{end}" for name in FIGURES for end in ("", "_low", "_high")), "majority",
    "container", "unlike", "mean_staleness")


def write(found: Comparison, out: Path, command: str, launcher: str) -> list[Path]:
    """Write all four, each whole or not at all; returns their paths.

    Raises:
        InputError: they can't be written.
    """
    texts = {"compare.html": document(found, command, launcher),
             "compare.md": markdown(found, command, launcher), "compare.csv": table(found),
             "compare.json": json.dumps(everything(found, command), indent=2) + "\n"}
    try:
        for name, content in texts.items():
            replace(out / name, content)
    except OSError as error:
        raise InputError(f"cannot write the report in {out}: {error.strerror}") from None
    return [out / name for name in texts]


def table(found: Comparison) -> str:
    """CSV, a line for each training."""
    file = io.StringIO()
    lines = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
    lines.writeheader()
    lines.writerows(_lines(found))
    return file.getvalue()


def everything(found: Comparison, command: str) -> dict[str, Any]:
    """All figures, for programs."""
    by_name = {one.training.name: one for one in found.results}
    trainings = [{**line, "elapsed": by_name[line["run"]].elapsed,
                  "staleness": by_name[line["run"]].staleness}
                 if line["run"] in by_name else line for line in _lines(found)]
    return {
        "command": command, "target": found.target, "target_chosen": found.chosen,
        "part": found.part, "base_feature": found.base, "feature_method": found.lead,
        "notes": found.notes, "missing": found.missing, "container": found.container,
        "majority": found.majority,
        "differences": {one.fact: one.values for one in found.differences},
        "methods": [_cell(cell, found.target) for cell in found.cells],
        "mcnemar": [{"method": found.lead, "features": [one.first.training.feature,
                                                        one.second.training.feature],
                     "repeat": one.repeat, **asdict(one.paired)} for one in found.tests],
        "trainings": trainings}


def _cell(cell: Cell, target: float | None) -> dict[str, Any]:
    def values(spread: Any) -> Any:
        return spread and {"median": spread.middle, "lowest": spread.low, "highest": spread.high}

    return {"method": cell.method, "feature": cell.feature, "finished": len(cell.results),
            **asdict(cell.layout), "seconds": values(cell.seconds),
            "seconds_to_target": values(cell.reached(target)),
            "images_per_s": values(cell.images_per_s), "speedup": cell.speedup,
            **{name: values(cell.figure(name)) for name in FIGURES},
            "intervals": {name: cell.interval(name) for name in FIGURES}, "unlike": cell.unlike}


def _lines(found: Comparison) -> list[dict[str, Any]]:
    results = {one.training.name: (cell, one) for cell in found.cells for one in cell.results}
    lines = []
    for one in found.plan:
        line = {"run": one.name, "method": one.method, "feature": one.feature,
                "repeat": one.repeat, "seed": one.seed, "state": "missing",
                "epochs": one.settings["epochs"], "processes": one.layout.processes,
                "computing": one.layout.computing, "servers": one.layout.servers,
                "threads_each": one.layout.threads, "rows_per_update": one.layout.rows}
        if one.name in results:
            line.update(_figures(found, *results[one.name]))
        lines.append(line)
    return lines


def _figures(found: Comparison, cell: Cell, one: Result) -> dict[str, Any]:
    place = [other.training.name for other in cell.results].index(one.training.name)
    ages, summary = one.staleness, one.records.summary
    found_line = {
        "state": "done", "epochs": summary.get("epochs"), "threads": one.threads,
        "hardware": one.hosts, "updates_per_epoch": one.steps_per_epoch, "seconds": one.seconds,
        "seconds_since_last_start": summary.get("seconds"), "target": found.target,
        "seconds_to_target": None if found.target is None else one.reached(found.target),
        "images_per_s": one.images_per_s,
        "speedup": cell.speedup[place] if len(cell.speedup) == len(cell.results) else None,
        "best_epoch": summary.get("best_epoch"), "part": one.part, "rows": one.figures.get("rows"),
        "majority": finite(one.figures.get("majority")),
        "container": (found.container or {}).get("accuracy"), "unlike": cell.unlike,
        "mean_staleness": sum(age * n for age, n in ages.items()) / sum(ages.values())
        if ages else None}
    for name in FIGURES:
        found_line[name] = finite(one.figures.get(name))
        ends = one.intervals.get(name)
        if ends:
            found_line[f"{name}_low"], found_line[f"{name}_high"] = ends
    return found_line
