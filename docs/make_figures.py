"""Draws the README's picture from what ./run demo left behind.

    python docs/make_figures.py [DATA/sample] [RUNS/demo]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from preprocessing.ela import Parameters, error_level
from preprocessing.picture import decode, read
from preprocessing.sample import plan

OUT = Path(__file__).parent / "images" / "demo.png"
COLOURS = {"ela": "#1b6ca8", "raw": "#c8553d"}


def pairs(sample: Path, wanted: tuple[int, ...]) -> list[tuple[Path, Path]]:
    """Authentic pictures and their tampered twins."""
    pictures = plan(max(wanted) + 2)
    return [(sample / pictures[i].path, sample / pictures[i + 1].path) for i in wanted]


def main(sample: Path, runs: Path) -> None:
    figure = plt.figure(figsize=(11, 3.3), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.55, 1))
    axes = left.subplots(2, 4)
    for column, (authentic, tampered) in enumerate(pairs(sample, (12, 60))):
        for place, (path, name) in enumerate(((authentic, "authentic"), (tampered, "tampered"))):
            pixels = decode(read(str(path)))
            for row, image in enumerate((pixels, error_level(pixels, Parameters()))):
                axis = axes[row, 2 * column + place]
                axis.imshow(image[..., ::-1])
                axis.set_axis_off()
            axes[0, 2 * column + place].set_title(name, fontsize=10)
    left.suptitle("pictures, and their error levels below", fontsize=10)

    axis = right.subplots()
    for feature, colour in COLOURS.items():
        lines = [json.loads(line) for line in (runs / feature / "metrics.jsonl").open()]
        axis.plot([line["epoch"] for line in lines], [line["val_auc"] for line in lines],
                  marker="o", markersize=4, color=colour,
                  label={"ela": "error levels", "raw": "raw pixels"}[feature])
    axis.axhline(0.5, color="#777", linewidth=1, linestyle="--", label="chance")
    axis.set(xlabel="epoch", ylabel="validation ROC-AUC", ylim=(0.4, 1))
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="center right")
    OUT.parent.mkdir(exist_ok=True)
    figure.savefig(OUT, dpi=110)
    print(OUT)


if __name__ == "__main__":
    main(*(Path(given or default) for given, default in zip(
        [*sys.argv[1:], None, None], ("data/sample", "runs/demo"), strict=False)))
