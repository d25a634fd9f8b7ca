"""Draw pictures of the guides: the README's from the results of ./run demo, and the steps.

    python docs/make_figures.py [DATA/sample] [RUNS/demo]
    python docs/make_figures.py steps [DATA/sample]
    python docs/make_figures.py where [DATA/sample] [RUN that says where]
    python docs/make_figures.py network       (of docs/emulation.csv)
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap

import hpc_deepfake
from hpc_deepfake.scaling.emulation import SHARES
from hpc_deepfake.scaling.emulation.plan import Task
from hpc_deepfake.scaling.emulation.plan import sent as sent_by
from hpc_deepfake.strategies import traffic
from preprocessing.ela import Parameters, error_level, features_of_pixels, recompress
from preprocessing.gray_bits import planes
from preprocessing.picture import decode, read
from preprocessing.sample import plan

IMAGES = Path(__file__).parent / "images"
COLOURS = {"ela": "#1b6ca8", "raw": "#c8553d"}


def pairs(sample: Path, numbers: tuple[int, ...]) -> list[tuple[Path, Path]]:
    """Authentic pictures of these numbers and their tampered twins."""
    pictures = plan(max(numbers) + 2)
    return [(sample / pictures[i].path, sample / pictures[i + 1].path) for i in numbers]


def demo(sample: Path, runs: Path) -> None:
    """Pictures and their error levels, and how both features of the demo learned."""
    figure = plt.figure(figsize=(11, 3.3), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.55, 1))
    axes = left.subplots(2, 4)
    for pair, (authentic, tampered) in enumerate(pairs(sample, (12, 60))):
        for offset, (path, name) in enumerate(((authentic, "authentic"), (tampered, "tampered"))):
            pixels = decode(read(str(path)))
            for row, image in enumerate((pixels, error_level(pixels, Parameters()))):
                axis = axes[row, 2 * pair + offset]
                axis.imshow(image[..., ::-1])
                axis.set_axis_off()
            axes[0, 2 * pair + offset].set_title(name, fontsize=10)
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
    """A tampered picture at every step of preprocessing."""
    path = pairs(sample, (12,))[0][1]
    pixels = decode(read(str(path)))
    again = recompress(pixels, Parameters().quality)
    difference = cv2.absdiff(pixels, again)
    errors = error_level(pixels, Parameters())
    gray, high, low = planes(errors)
    raw, ela, bits = (feature[..., ::-1] for feature in features_of_pixels(
        pixels, ("raw", "ela", "gray_bits"), Parameters()))
    images = {
        "1 decoded": pixels, "2 recompressed": again,
        f"3 difference, ≤ {difference.max()} of 255": difference, "4 scaled to 255": errors,
        "5 resized: ela": ela, "resized: raw": raw, "gray": gray, "high bits": high,
        "low bits": low, "resized: gray_bits": bits,
    }
    figure = plt.figure(figsize=(11, 3.3), layout="constrained")
    axes = figure.subplots(2, 5).ravel()
    for axis, (title, image) in zip(axes, images.items(), strict=True):
        # true brightness, not stretched to the darkest and brightest value
        axis.imshow(image if image.ndim == 2 else image[..., ::-1], cmap="gray", vmin=0, vmax=255)
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    save(figure, "steps.png")


def where(sample: Path, run: Path) -> None:
    """Pictures that a model didn't see, their error levels as it reads them, what was changed, and
    its map."""
    model = hpc_deepfake.load(run)
    predictions = [(prediction, Path(prediction.path or ""), prediction.where)
                   for prediction in model.predict(sample)
                   if not prediction.notes and not prediction.unlike]
    shown = [*[found for found in predictions if found[1].parent.name == "Tp"][:3],
             *[found for found in predictions if found[1].parent.name == "Au"][:1]]
    figure = plt.figure(figsize=(7.4, 5), layout="constrained")
    rows = figure.subplots(4, len(shown))
    names = ("picture", "error levels", "changed", "map")
    for column, (prediction, path, found) in zip(rows.T, shown, strict=True):
        assert found is not None, "the model doesn't say where"
        pixels = decode(read(str(path)))
        mask = sample / "Gt" / f"{path.stem}_gt.png"
        changed = decode(read(str(mask))) if mask.exists() else np.zeros_like(pixels)
        errors, = features_of_pixels(pixels, ("ela",), model.card.parameters)
        for axis, image in zip(column, (pixels[..., ::-1], errors, changed,
                                        found.at_own_size()), strict=True):
            axis.imshow(image, cmap="gray", vmin=0, vmax=255, aspect="auto")
            axis.set(xticks=[], yticks=[])
        column[0].set_title(f"{path.parent.name}: {prediction.probability:.0%} tampered",
                            fontsize=10)
    for axis, name in zip(rows[:, 0], names, strict=True):
        axis.set_ylabel(name, fontsize=10)
    save(figure, "where-maps.png")


def network() -> None:
    """Which strategy is the fastest, by ranks and speed of the links.

    Areas: (computing + what messages take beyond the computing that hides them), where messages
    take a factor times their bytes over the link; one factor for each strategy, of the rows of
    docs/emulation.csv. Dots: the fastest of those rows, where all were measured. Meshes
    are nowhere the fastest."""
    with open(Path(__file__).with_name("emulation.csv"), newline="") as file:
        rows = [{**row, "ranks": int(row["ranks"]), "link": float(row["link_bit_per_s"]),
                 "rate": float(row["images_per_s"])} for row in csv.DictReader(file)]
    compute = SHARES.scaled(0.17)
    colours = {"sync": "#1763a6", "sync:fp16": "#b5460f", "hybrid": "#1d7044",
               "local-sgd": "#7443b8"}

    def moving(strategy: str, ranks: int, link: float) -> float:
        group = min(ranks, 32)
        sent = sum(traffic.hybrid(ranks, group, 32).values()) if strategy == "hybrid" else \
            sent_by(Task(strategy, ranks, link, 1.0, 1, 32, compute, traffic.TABLE))
        return sent * 8 / link

    def hidden(strategy: str) -> float:
        return compute.beside if strategy.startswith("sync") else 0.0

    factors = {}
    for strategy in colours:
        waits = [(32 * row["ranks"] / row["rate"] - compute.total + hidden(strategy))
                 / moving(strategy, row["ranks"], row["link"]) for row in rows
                 if row["strategy"] == strategy and row["ranks"] > 2 and row["link"] < 5e9]
        factors[strategy] = float(np.median(waits))
    print({name: round(factor, 2) for name, factor in factors.items()})
    across, up = np.geomspace(2, 4096, 221), np.geomspace(5e7, 1e11, 221)
    steps = np.array([[[compute.total + max(factors[strategy] * moving(
        strategy, max(round(ranks), 2), link) - hidden(strategy), 0.0) for ranks in across]
        for link in up] for strategy in colours])
    figure, axis = plt.subplots(figsize=(7.6, 4.6), layout="constrained")
    best = np.where(compute.total / steps[0] > 0.98, 0, np.argmin(steps, 0))
    axis.pcolormesh(across, up, best, cmap=ListedColormap(colours.values()), vmin=0,
                    vmax=len(colours) - 1, alpha=0.35, shading="nearest", rasterized=True)
    lines = axis.contour(across, up, compute.total / steps.min(0), colors="#333333",
                         levels=(0.1, 0.25, 0.5, 0.75, 0.9), linewidths=0.8)
    axis.clabel(lines, fmt=lambda level: f"{level:.0%}", fontsize=8)
    for link in sorted({row["link"] for row in rows}):
        for ranks in sorted({row["ranks"] for row in rows if row["link"] == link}):
            own = {row["strategy"]: row["rate"] for row in rows
                   if (row["link"], row["ranks"]) == (link, ranks) and row["strategy"] in colours}
            if set(own) != set(colours):  # the fastest may be among those that are missing
                continue
            top = max(own, key=lambda name: own[name])
            top = "sync" if own["sync"] > 0.98 * own[top] else top
            axis.plot(ranks, link, "o", color=colours[top], markeredgecolor="white", markersize=8)
    for name, colour in colours.items():
        if name in {list(colours)[place] for place in np.unique(best)}:
            axis.plot([], [], "s", color=colour, alpha=0.6, label=name)
    axis.set(xscale="log", yscale="log", xlabel="ranks, one on each node", ylabel="link, bit/s",
             xlim=(1.7, 4096), ylim=(up[0], up[-1]))
    ticks = [2, 8, 32, 128, 512, 2048]
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axis.set_yticks([1e8, 1e9, 1e10, 1e11], ["100 M", "1 G", "10 G", "100 G"])
    axis.minorticks_off()
    ratio = 4 * traffic.TABLE.kernel * 8 / compute.total
    other = axis.secondary_yaxis("right", functions=2 * (lambda y: ratio / np.maximum(y, 1e-9),))
    other.set_ylabel("gradient over the link ÷ computing a step")
    other.set_yticks([10, 1, 0.1, 0.01], ["10", "1", "0.1", "0.01"])
    other.minorticks_off()
    axis.legend(loc="upper right", title="fastest", fontsize=9)
    save(figure, "strategy-for-network.png")


def save(figure: plt.Figure, name: str) -> None:
    """Write a figure into docs/images."""
    IMAGES.mkdir(exist_ok=True)
    figure.savefig(IMAGES / name, dpi=110)
    print(IMAGES / name)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        sys.exit(0)
    if arguments[:1] == ["network"]:
        network()
    elif arguments[:1] == ["steps"]:
        steps(Path(*arguments[1:] or ["data/sample"]))
    elif arguments[:1] == ["where"]:
        defaults = ("data/sample", "runs/where")
        where(*map(Path, [*arguments[1:], *defaults[len(arguments) - 1:]]))
    else:
        defaults = ("data/sample", "runs/demo")
        demo(*map(Path, [*arguments, *defaults[len(arguments):]]))
