"""What each stage costs as a data set grows from 1,000 to 1,000,000 pictures, pixels aside.

    python benchmarks/growth.py [--rows N …] [--stages WORD] [--folder DIR] [--json FILE]
    python benchmarks/growth.py --draw FILE.json FILE.png

Each number of rows runs in a process of its own: it makes trees of empty files named as CASIA's and
as those of a data set with real/, fake/ and masks/, lists, groups, splits and deals them, writes
the data file, whose pixels stay a hole that takes no space on the disk, and calls what training,
evaluation, audit and the report do with all its rows or with their predictions. Seconds are of
computing, which other work on the machine changes less than the clock; memory is what the process
grew by at most within the stage. What should be flat and isn't is marked, and what grows faster
than the rows.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import ctypes
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import finish

ROWS = (1_000, 10_000, 100_000, 1_000_000)
SIZE = 32  # pixels: the smallest rows
RANKS = 64  # that the work is dealt to
KINDS = (b"ani", b"arc", b"art", b"cha", b"ind", b"nat", b"pla", b"sec", b"txt", b"xxx", b"yyy")
_WARM = 200  # rows
_LEAST = 0.05  # seconds and …
_MIB = 16.0  # … MiB that say something about growth
_LINEAR, _FLAT = 2.0, 2.0  # factors within which a stage grows as it should


class Stage(NamedTuple):
    """What is measured: its name, its room, whether it should be flat, and what it does."""

    name: str
    room: str
    flat: bool
    call: Callable[[], object]


class Measured(NamedTuple):
    """Seconds of computing and MiB of memory of a stage."""

    seconds: float
    mib: float


def measure(call: Callable[[], object]) -> tuple[Measured, Any]:
    """What a call takes, and its result. A stage of milliseconds is repeated for its seconds."""
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak is counted from now on
    before, began = _status("VmRSS"), time.process_time()
    result = call()
    seconds, mib = time.process_time() - began, (_status("VmHWM") - before) / 1024
    if seconds < _LEAST / 5:
        began, repeats = time.process_time(), 5
        for _ in range(repeats):
            call()
        seconds = min(seconds, (time.process_time() - began) / repeats)
    return Measured(seconds, max(mib, 0.0)), result


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def make_tree(top: Path, layout: str, rows: int) -> None:
    """Empty files of different sizes: half of them authentic, and each tampered one with a mask."""
    half = rows // 2
    if layout == "CASIA":
        folders = ("Au", "Tp", "CASIA 2 Groundtruth")
        source = [b"%s_%05d" % (KINDS[i // 99_999], i % 99_999 + 1) for i in range(half)]
        short = [name.replace(b"_", b"") for name in source]
        authentic = [b"Au_%s.jpg" % name for name in source]
        tampered = [b"Tp_D_NRN_S_N_%s_%s_%05d" % (short[i], short[i ^ 1 if i ^ 1 < half else i],
                                                  i % 99_999 + 1) for i in range(half)]
        masks = [b"%s_gt.png" % name for name in tampered]
        tampered = [b"%s.jpg" % name for name in tampered]
    else:
        folders = ("real", "fake", "masks")
        authentic = [b"scan %s.jpg" % _word(i) for i in range(half)]
        tampered = [b"made %s.jpg" % _word(i) for i in range(half)]
        masks = [b"made %s.png" % _word(i) for i in range(half)]
    size = 4096  # a different one for each file, so that no two may be copies
    for folder, names in zip(folders, (authentic, tampered, masks), strict=True):
        (top / folder).mkdir(parents=True)
        place = os.open(top / folder, os.O_RDONLY)
        for name in names:
            file = os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=place)
            size += 1
            os.ftruncate(file, size)
            os.close(file)
        os.close(place)


def _word(number: int) -> bytes:
    """A name without a number, which would make it one of a series."""
    return bytes(97 + int(digit) for digit in f"{number:07d}")


def make_list(top: Path, rows: int) -> Path:
    """A list of the files of a tree, with labels and groups."""
    with open(top / "list.csv", "w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(("path", "label", "group"))
        for folder, label in (("real", "authentic"), ("fake", "tampered")):
            for number, name in enumerate(sorted(os.listdir(top / folder))):
                lines.writerow((f"{folder}/{name}", label, f"g{number // 2}"))
    return top / "list.csv"


class Course:
    """The stages of one number of rows, in an order in which each finds what it needs."""

    def __init__(self, rows: int, folder: Path) -> None:
        self.rows, self.folder = rows, folder
        self.made: dict[str, Any] = {}

    def run(self, wanted: str) -> dict[str, dict[str, Any]]:
        """Measure the stages, and those that they need; figures by name."""
        found = {}
        for stage in (*self.listing(), *self.training(), *self.judging()):
            measured, self.made[stage.name] = measure(stage.call)
            if wanted in f"{stage.room} {stage.name}":
                found[stage.name] = {"room": stage.room, "flat": stage.flat, **measured._asdict()}
            print(f"{self.rows:>9,}  {stage.name:<34} {measured.seconds:9.3f} s "
                  f"{measured.mib:9.1f} MiB", file=sys.stderr, flush=True)
        return found

    def listing(self) -> list[Stage]:
        """From names to an empty data file."""
        from preprocessing import ela, extract, integrity, split, store
        from preprocessing.catalogue import with_copies
        from preprocessing.listing.scan import scan, scan_manifest

        casia, plain = self.folder / "casia", self.folder / "plain"
        make_tree(casia, "CASIA", self.rows)
        make_tree(plain, "plain", self.rows)
        file = make_list(plain, self.rows)
        made, path = self.made, self.folder / "data.h5"
        recipe: list[store.Recipe] = []

        def create() -> None:
            catalogue = made["list CASIA's names and masks"]
            recipe[:] = [store.Recipe(("ela",), ela.Parameters(size=SIZE), "80/20", "group", 0,
                                      catalogue.digest(), len(catalogue))]
            path.unlink(missing_ok=True)
            store.create(path, catalogue, made["split by group"], recipe[0])

        def parts(by: str) -> np.ndarray:
            catalogue = made["list CASIA's names and masks"]
            if by == "image":
                return split.by_image(catalogue.labels, (0.8, 0.2), 0)
            return split.by_group(catalogue.labels, catalogue.groups, (0.8, 0.2), 0)

        def resume() -> None:
            header = store.open_header(path)
            store.check_same(header, recipe[0], made["list CASIA's names and masks"])
            integrity.damaged_columns(header)

        return [
            Stage("list real/ and fake/ with masks", "listing", False, lambda: scan(plain)),
            Stage("list a file of names and groups", "listing", False, lambda: scan_manifest(file)),
            Stage("list CASIA's names and masks", "listing", False, lambda: scan(casia)),
            Stage("look for equal files", "listing", False,
                  lambda: with_copies(made["list CASIA's names and masks"])),
            Stage("split by group", "listing", False, partial(parts, "group")),
            Stage("split by image", "listing", False, partial(parts, "image")),
            Stage("create the data file", "listing", False, create),
            Stage("open it to resume", "listing", False, resume),
            Stage(f"deal the rows to {RANKS} ranks", "listing", False, lambda: extract.dealt(
                store.open_header(path), made["list CASIA's names and masks"],
                np.arange(self.rows), RANKS, np.zeros(0, np.int64)))]

    def training(self) -> list[Stage]:
        """What a training does with a complete file, steps aside."""
        from hpc_deepfake import metrics
        from hpc_deepfake.data.rows import check_trainable, epoch_order, open_data
        from hpc_deepfake.data.steps import Steps
        from hpc_deepfake.network.pictures import Pictures
        from hpc_deepfake.train import checkpoint, predictions, provenance
        from preprocessing.store import DONE, open_header

        made, path, run = self.made, self.folder / "data.h5", self.folder / "run"
        run.mkdir()

        def complete() -> None:
            header = open_header(path)
            header.array("status", "r+")[:] = DONE
            header.array("crc32", "r+")[:] = zlib.crc32(bytes(SIZE * SIZE * 3))
            random = np.random.default_rng(0)
            header.array("digest", "r+")[:] = random.integers(0, 256, (self.rows, 16), np.uint8)
            header.array("width", "r+")[:] = random.integers(200, 1000, self.rows)
            header.array("height", "r+")[:] = random.integers(200, 1000, self.rows)
            header.array("format", "r+")[:] = 1
            header.array("quality", "r+")[:] = random.integers(60, 101, self.rows)

        def opened() -> Any:
            data = open_data(path, "ela")
            check_trainable(data)
            return data

        def rows(part: str) -> np.ndarray:
            return made["open it to train"].rows(part)

        def dealt() -> Any:
            order = epoch_order(rows("train"), 0, 1)
            return [steps[number] for steps in [Steps(order, 64 * RANKS, 1, (1, RANKS))]
                    for number in range(len(steps))]

        def first() -> object:
            steps = Steps(made["order of an epoch"], 64 * RANKS, 1, (1, RANKS))
            return made["open it to train"].batch(steps[0][0])

        def probabilities() -> np.ndarray:
            data, random = made["open it to train"], np.random.default_rng(1)
            labels = data.labels[rows("validation")]
            made["labels"], made["probabilities"] = labels, random.beta(
                2 - labels, 1 + labels).astype(np.float32).astype(np.float64)
            return made["probabilities"]

        def card() -> object:
            return provenance.card(made["open it to train"], rows("validation"),
                                   made["probabilities"], 1, None)

        def pictures() -> Pictures:
            data, count = made["open it to train"], self.rows
            row = np.random.default_rng(2).integers(0, 256, (count, 16), np.uint8)
            return Pictures(np.array(data.header.array("digest")), row, data.parts,
                            np.zeros((0, 8), np.uint8), np.zeros((0, 16, 16, 3), np.uint8))

        def listed() -> object:
            pictures().write(run / "model.keras")
            found = Pictures.read(run)
            return found and found.relation(bytes(16), bytes(range(16)), None)

        def saved() -> object:
            checkpoint.save(run / "checkpoints", 1, [made["probabilities"]], {}, 1)
            return checkpoint.load(checkpoint.found(run / "checkpoints")[0])

        def predicted() -> object:
            predictions.write(run, made["open it to train"],
                              {"validation": made["probabilities"]})
            return predictions.read(run)

        return [
            Stage("(complete the file)", "", False, complete),
            Stage("open it to train", "train", False, opened),
            Stage("order of an epoch", "train", False,
                  lambda: epoch_order(rows("train"), 0, 1)),
            Stage("deal an epoch's batches", "train", False, dealt),
            Stage("read a rank's first batch", "train", True, first),
            Stage("(probabilities)", "", False, probabilities),
            Stage("validation figures", "train", False, lambda: metrics.evaluate(
                made["probabilities"], made["labels"])),
            Stage("a model's card", "train", False, card),
            Stage("what it was trained on", "train", False, lambda: provenance.trained_on(
                made["open it to train"], path, rows("train"), rows("validation"))),
            Stage("list of training pictures", "train", False, listed),
            Stage("checkpoint and resume", "train", False, saved),
            Stage("predictions.csv", "train", False, predicted)]

    def judging(self) -> list[Stage]:
        """What evaluation, audit and report do with predictions."""
        from hpc_deepfake.audit import leaks, rows, shortcuts
        from hpc_deepfake.evaluate import figures, plots
        from hpc_deepfake.evaluate.material import Material
        from hpc_deepfake.metrics import intervals
        from hpc_deepfake.network.card import Card
        from hpc_deepfake.report import results
        from hpc_deepfake.report.collect import Content, Part
        from hpc_deepfake.train import predictions
        from hpc_deepfake.train.records import Records
        from hpc_deepfake.web.html import Html
        from preprocessing import ela, facts

        made, path = self.made, self.folder / "data.h5"
        card = Card("ela", ela.Parameters(size=SIZE))

        def material() -> Material:
            data = made["open it to train"]
            chosen = data.rows("validation")
            groups = np.array(data.header.array("group"))
            return Material([bytes(path) for path in data.paths[chosen]], data.labels[chosen],
                            groups[chosen], np.bincount(groups)[groups[chosen]],
                            made["probabilities"])

        def evaluated() -> object:
            return figures.of(material(), card)

        def facts_of_rows() -> object:
            opened = rows.open_rows(path)
            table = {name: shortcuts.code(np.array(opened.header.array(name))[opened.rows]
                                          .astype(np.float64)) for name in facts.COLUMNS
                     if name != "digest"}
            return shortcuts.measure(table, opened.labels, opened.groups)

        def sources() -> object:
            opened = rows.open_rows(path)
            return leaks.shared(leaks.names(opened.paths), opened.groups, opened.parts)

        def page() -> Html:
            found = predictions.read(self.folder / "run")["validation"]
            part = Part("validation", {}, found)
            records = Records(self.folder / "run", {}, {}, [], {}, 0.5, {})
            return results.results(Content(records, [part], None, None, ""), part)

        return [
            Stage("intervals by bootstrap", "judge", False, lambda: intervals.bootstrap(
                made["probabilities"], made["labels"], material().groups)),
            Stage("evaluate's figures", "judge", False, evaluated),
            Stage("evaluate's pictures", "judge", False, lambda: plots.save(
                self.folder / "validation.png", material(), card, "")),
            Stage("audit: facts that tell the label", "judge", False, facts_of_rows),
            Stage("audit: sources in two parts", "judge", False, sources),
            Stage("report: section of a part", "judge", False, page)]


def verdict(flat: bool, by_rows: dict[int, dict[str, Any]]) -> str:
    """What is wrong with the growth of a stage; empty if nothing is."""
    counts = sorted(by_rows)
    words = []
    for name, least, what in (("seconds", _LEAST, "time"), ("mib", _MIB, "memory")):
        known = [count for count in counts if by_rows[count][name] >= least]
        if not known:
            continue
        last = by_rows[counts[-1]][name]
        if flat:
            before = max(by_rows[counts[0]][name], least)
            if last > _FLAT * before:
                words.append(f"{what} not flat")
        elif len(known) > 1:
            before = by_rows[known[-2]][name] / known[-2] * known[-1]
            if last > _LINEAR * before:
                words.append(f"{what} faster than the rows")
    return ", ".join(words)


def draw(found: dict[str, Any], path: Path) -> None:
    """Seconds and memory over rows, each stage a line, as an SVG or PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "growth"
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained", sharex=True)
    colours = {"listing": "#1b6ca8", "train": "#c8553d", "judge": "#4d7c3a"}
    titles = {"listing": "preprocessing, pictures aside", "train": "train, steps aside",
              "judge": "evaluate, audit, report"}
    for axis, name, title, least in ((axes[0], "seconds", "seconds of computing", 1e-3),
                                     (axes[1], "mib", "memory, MiB", 1)):
        for room, colour in colours.items():
            label: str | None = titles[room]
            for by_rows in found.values():
                if next(iter(by_rows.values()))["room"] != room:
                    continue
                counts = sorted(map(int, by_rows))
                axis.plot(counts, [max(by_rows[str(count)][name], least) for count in counts],
                          color=colour, linewidth=1.2, marker="o", markersize=3, alpha=0.8,
                          label=label)
                label = None
        axis.set(xscale="log", yscale="log", xlabel="pictures", title=title)
        axis.spines[["top", "right"]].set_visible(False)
    ends = np.array(axes[0].get_xlim())
    axes[0].plot(ends, ends * 1e-5, color="#777", linewidth=1, linestyle="--",
                 label="10 µs for each picture")
    axes[1].plot(ends, ends / 2**10, color="#777", linewidth=1, linestyle="--",
                 label="1 KiB for each picture")
    for axis in axes:
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--rows", type=int, nargs="+", default=ROWS, metavar="N",
                     help="numbers of pictures (default: 1,000 to 1,000,000, times 10)")
    cli.add_argument("--stages", default="", metavar="WORD",
                     help="show only stages with this word: listing, train, judge or of the name")
    cli.add_argument("--folder", type=Path, metavar="DIR",
                     help="where trees and data files are made and removed (default: this folder)")
    cli.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    cli.add_argument("--draw", type=Path, nargs=2, metavar=("JSON", "PICTURE"),
                     help="draw the results of --json, and measure nothing")
    cli.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = cli.parse_args()
    if options.draw:
        return draw(json.loads(options.draw[0].read_text())["rows"], options.draw[1])
    if options.worker:
        with tempfile.TemporaryDirectory(dir=options.folder or Path.cwd()) as folder:
            with open(os.devnull, "w") as silence, contextlib.redirect_stderr(silence):
                Course(_WARM, Path(folder, "warm")).run("")  # what is imported doesn't count
            print(json.dumps(Course(options.worker, Path(folder)).run(options.stages)))
        return None
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for rows in options.rows:
        command = [sys.executable, __file__, "--worker", str(rows), "--stages", options.stages,
                   *(["--folder", options.folder] if options.folder else [])]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        for name, figures in json.loads(done.stdout).items():
            found.setdefault(name, {})[rows] = figures
    found = {name: rows for name, rows in found.items() if not name.startswith("(")}
    widths = [max(map(len, found)), *[9] * len(options.rows)]
    print(f"{'seconds of computing':<{widths[0]}}  "
          + "  ".join(f"{rows:>9,}" for rows in options.rows) + "  µs each   MiB  KiB each")
    for name, by_rows in found.items():
        last = max(by_rows)
        seconds, mib = by_rows[last]["seconds"], by_rows[last]["mib"]
        print(f"{name:<{widths[0]}}  "
              + "  ".join(f"{by_rows[rows]['seconds']:>9.3f}" for rows in options.rows)
              + f"  {seconds / last * 1e6:>7.2f}  {mib:>4.0f}  {mib * 1024 / last:>8.2f}"
              + (f"  {words}" if (words := verdict(by_rows[last]["flat"], by_rows)) else ""))
    names = ("list CASIA's names and masks", "split by group", f"deal the rows to {RANKS} ranks")
    whole = sum(found[name][max(options.rows)]["seconds"] for name in names if name in found)
    marked = sum(bool(verdict(next(iter(by_rows.values()))["flat"], by_rows))
                 for by_rows in found.values())
    finish(options, found, {"seconds to list, split and deal": whole, "stages marked": marked},
           {"seconds to list, split and deal": "below 60", "stages marked": "0"})
    return None


if __name__ == "__main__":
    main()
