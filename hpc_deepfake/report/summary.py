"""``hpc-deepfake summary``: finished runs in a table, with the majority class below them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.options import Parser
from hpc_deepfake.core.text import number, percent, plural

_FIELDS = ("feature", "strategy", "ranks", "epochs", "images_per_s")
_EXAMPLES = """examples:
  hpc-deepfake summary runs/first
  hpc-deepfake summary runs/*"""


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake summary", epilog=_EXAMPLES, description=(
        "Print finished runs as a table: accuracy and AUC of each part beside the majority\n"
        "class, and the speed of training and preprocessing."))
    cli.add_argument("runs", nargs="+", type=Path, metavar="RUN",
                     help="run directory of a finished training")
    return cli


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    print(table([_read(path) for path in parser().parse(argv).runs]), flush=True)
    return 0


def _read(path: Path) -> dict[str, Any]:
    try:
        summary, config = (json.loads((path / name).read_text(encoding="utf-8"))
                           for name in ("summary.json", "config.json"))
        made = Path(f"{config['data']}.json")
        run = {"run": path, "data": config["data"],
               **{name: summary[name] for name in _FIELDS},
               **{part: summary[part] for part in ("validation", "test") if part in summary}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} holds no finished run ({error}): name the directory of a "
                         "training that has finished") from None
    run["made"] = json.loads(made.read_text(encoding="utf-8")) if made.is_file() else None
    return run


def table(runs: list[dict[str, Any]]) -> str:
    """Validation and, if there is a test part, test figures of runs, as lines to read."""
    row = "{:<26.26} {:>8} {:>6}  {:<10} {:>6} {:>5} {:>8}".format
    lines = [row("", "accuracy", "AUC", "part", "epochs", "ranks", "images/s")]
    baselines: list[str] = []
    for run in runs:
        for part in (part for part in ("validation", "test") if part in run):
            figures = run[part]
            lines.append(row(f"{run['run'].name}: {run['feature']}, {run['strategy']}",
                             percent(figures["accuracy"]), number(figures["auc"]), part,
                             run["epochs"], run["ranks"], f"{run['images_per_s']:,.0f}"))
            baselines.append(row("majority class", percent(figures["majority"]), number(0.5), part,
                                 "", "", ""))
    lines += dict.fromkeys(baselines)
    lines.append("The validation part also selected the epoch; a test part (--split 70/10/20) "
                 "didn't.")
    for data in dict.fromkeys(run["data"] for run in runs):
        made = next(run["made"] for run in runs if run["data"] == data)
        if made is not None:
            rate = made["images"] / made["seconds"]["wall"]
            lines.append(f"preprocessing: {made['images']:,} images, {rate:,.0f} images/s on "
                         f"{plural(made['ranks'], 'rank')} ({made['writer']}), {Path(data).name}")
    return "\n".join(lines)
