"""``hpc-deepfake summary``: finished runs side by side, beside the majority class."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.options import Parser

_FIELDS = ("feature", "strategy", "ranks", "epochs", "images_per_s")


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    cli = Parser(prog="hpc-deepfake summary", description=(
        "Print a line for each finished run, and how fast its pictures were prepared."),
        epilog="example:\n  hpc-deepfake summary runs/*")
    cli.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directories")
    runs = [_read(path) for path in cli.parse(argv).runs]
    print(table(runs))
    return 0


def _read(path: Path) -> dict[str, Any]:
    try:
        summary, config = (json.loads((path / name).read_text(encoding="utf-8"))
                           for name in ("summary.json", "config.json"))
        made = Path(f"{config['data']}.json")
        found = {"run": path, "data": config["data"],
                 **{name: summary[name] for name in _FIELDS},
                 **{part: summary[part] for part in ("validation", "test") if part in summary}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} holds no finished run ({error})") from None
    found["made"] = json.loads(made.read_text(encoding="utf-8")) if made.is_file() else None
    return found


def table(runs: list[dict[str, Any]]) -> str:
    """Validation and, where there is one, test figures of some runs, as lines for a person."""
    row = "{:<26.26} {:>8} {:>6}  {:<10} {:>6} {:>5} {:>8}".format
    lines = [row("", "accuracy", "AUC", "part", "epochs", "ranks", "images/s")]
    baselines = {}
    for run in runs:
        for part in (part for part in ("validation", "test") if part in run):
            found = run[part]
            lines.append(row(f"{run['run'].name}: {run['feature']}, {run['strategy']}",
                             _percent(found["accuracy"]), _number(found["auc"]), part,
                             run["epochs"], run["ranks"], f"{run['images_per_s']:,.0f}"))
            baselines[row("majority class", _percent(found["majority"]), _number(0.5), part,
                          "", "", "")] = None
    lines += baselines
    lines.append("validation also chose the epoch; a test part (--split 70/10/20) didn't")
    for data in dict.fromkeys(run["data"] for run in runs):
        made = next(run["made"] for run in runs if run["data"] == data)
        if made is not None:
            rate = made["images"] / made["seconds"]["wall"]
            lines.append(f"preprocessing: {made['images']:,} images, {rate:,.0f} images/s on "
                         f"{made['ranks']} ranks ({made['writer']}), {Path(data).name}")
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
