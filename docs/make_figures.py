"""Draws the guides' pictures: the README's from what ./run demo left behind, and the steps.

    python docs/make_figures.py [DATA/sample] [RUNS/demo]
    python docs/make_figures.py steps [DATA/sample]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import cv2
import matplotlib.pyplot as plt

from preprocessing.ela import Parameters, error_level, features_of_pixels, recompress
from preprocessing.gray_bits import planes
from preprocessing.picture import decode, read
from preprocessing.sample import plan

IMAGES = Path(__file__).parent / "images"
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
    save(figure, "demo.png")


def steps(sample: Path) -> None:
    """A tampered picture, and what it becomes at every step of preprocessing."""
    path = pairs(sample, (12,))[0][1]
    pixels = decode(read(str(path)))
    again = recompress(pixels, Parameters().quality)
    difference = cv2.absdiff(pixels, again)
    errors = error_level(pixels, Parameters())
    gray, high, low = planes(errors)
    raw, ela, bits = (one[..., ::-1] for one in features_of_pixels(
        pixels, ("raw", "ela", "gray_bits"), Parameters()))
    shown = {
        "1 decoded": pixels, "2 recompressed": again,
        f"3 difference, ≤ {difference.max()} of 255": difference, "4 scaled to 255": errors,
        "5 resized: ela": ela, "resized: raw": raw, "gray": gray, "high bits": high,
        "low bits": low, "resized: gray_bits": bits,
    }
    figure = plt.figure(figsize=(11, 3.3), layout="constrained")
    axes = figure.subplots(2, 5).ravel()
    for axis, (title, image) in zip(axes, shown.items(), strict=True):
        # the levels themselves, not stretched from the darkest to the brightest
        axis.imshow(image if image.ndim == 2 else image[..., ::-1], cmap="gray", vmin=0, vmax=255)
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    save(figure, "steps.png")


def save(figure: plt.Figure, name: str) -> None:
    IMAGES.mkdir(exist_ok=True)
    figure.savefig(IMAGES / name, dpi=110)
    print(IMAGES / name)


if __name__ == "__main__":
    given = sys.argv[1:]
    if given[:1] == ["steps"]:
        steps(Path(*given[1:] or ["data/sample"]))
    else:
        main(*(Path(one or default) for one, default in zip(
            [*given, None, None], ("data/sample", "runs/demo"), strict=False)))
