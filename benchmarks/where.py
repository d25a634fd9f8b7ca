"""Where: how well networks find what was changed, and how fast they learn it, beside baselines.

    python benchmarks/where.py photographs.h5 --other elsewhere.h5 --runs /scratch/where \\
        --options "--network unet --feature ela+raw --recipe where" --options "--network table" \\
        [--seeds 0 1] [--ranks 2] [--json FILE]

Each data file needs masks, and the first one a test part. For every seed and every ``--options`` of
``train`` a model is trained on the training part, as a user would, and evaluated on the test part
and on all of each other file, which has nothing to do with the training. Runs that are in the
folder are not repeated. A network without a map has figures of pictures only.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from common import finish

from hpc_deepfake.core.json_data import dictionary, read

MODEL = "model"
COLUMNS = ("AUC of pictures", "AUC of pixels", "F1", "best F1", "pooled F1", "false-alarm area",
           "images/s")


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("data", type=Path, help="data file with masks and a test part")
    cli.add_argument("--other", type=Path, action="append", default=[], help="to evaluate on too")
    cli.add_argument("--runs", type=Path, required=True, help="folder of the runs, continued")
    cli.add_argument("--options", action="append", required=True, help="of train, to be compared")
    cli.add_argument("--seeds", type=int, nargs="+", default=[0])
    cli.add_argument("--ranks", type=int, default=1)
    cli.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    options = cli.parse_args()
    rows: dict[str, dict[str, float | None]] = {}
    for number, text in enumerate(options.options):
        found: dict[str, list[dict[str, float | None]]] = {}
        for seed in options.seeds:
            run = options.runs / f"{options.data.stem}-{number}-seed{seed}"
            train(run, options.data, f"{text} --seed {seed}", options.ranks)
            speed = dictionary(read(run / "summary.json"))["images_per_s"]
            for data in (options.data, *options.other):
                for name, values in evaluated(run, data, data is options.data).items():
                    own = values | ({"images/s": speed} if name == MODEL else {})
                    found.setdefault(f"{data.stem}: {text if name == MODEL else name}",
                                     []).append(own)
        rows |= {name: mean(values) for name, values in found.items()}
    show(rows)
    finish(options, rows, {}, {})


def train(run: Path, data: Path, text: str, ranks: int) -> None:
    """Train, unless the run is complete."""
    if not (run / "summary.json").exists():
        launcher = ["mpirun", "-np", str(ranks)] if ranks > 1 else []
        subprocess.run([*launcher, sys.executable, "-m", "hpc_deepfake.train", "--data", str(data),
                        "--run", str(run), *text.split()], check=True)


def evaluated(run: Path, data: Path, own: bool) -> dict[str, dict[str, float | None]]:
    """Figures of the model, and of maps that know nothing of it, on the test part of its own data
    file or on all of another."""
    report = run / f"{data.stem}.json"
    if not report.exists():
        subprocess.run([sys.executable, "-m", "hpc_deepfake.cli", "evaluate", "--model", str(run),
                        "--data", str(data), "--part", "test" if own else "all", "--no-container",
                        "--json", str(report)], check=True)
    figures = dictionary(read(report))
    maps = {name: of_map(values) for name, values in (figures.get("where") or {}).items()
            if isinstance(values, dict)}
    return {**maps, MODEL: maps.get(MODEL, {}) | {"AUC of pictures": figures["auc"]}}


def of_map(values: dict[str, Any]) -> dict[str, float | None]:
    each = values["per_picture"]
    return {"AUC of pixels": each["auc"], "F1": each["f1"], "best F1": each["f1_best"],
            "pooled F1": values["pooled"]["f1"], "false-alarm area": values["false_alarm_area"]}


def mean(values: list[dict[str, float | None]]) -> dict[str, float | None]:
    """Of all seeds; None: a column isn't defined."""
    found: dict[str, float | None] = {}
    for column in COLUMNS:
        known = [value for own in values if (value := own.get(column)) is not None]
        found[column] = statistics.mean(known) if len(known) == len(values) else None
    return found


def show(rows: dict[str, dict[str, float | None]]) -> None:
    width = max(map(len, rows))
    print("  ".join([f"{'':<{width}}", *(f"{column:>6}" for column in COLUMNS)]))
    for name, values in rows.items():
        print("  ".join([f"{name:<{width}}", *(cell(*item) for item in values.items())]))


def cell(column: str, value: float | None) -> str:
    text = "" if value is None else f"{value:.0f}" if column == "images/s" else f"{value:.3f}"
    return text.rjust(max(6, len(column)))


if __name__ == "__main__":
    main()
