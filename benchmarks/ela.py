"""Speed of error level analysis, against the usual notebook's way and against its codec alone.

    python benchmarks/ela.py [--json FILE]

The pictures are generated JPEG files. On one core: this project, the notebook's way and the codec
alone (decode, encode, decode) take turns on the same files of 384×256 pixels, the size of nearly
all pictures of CASIA 1. Whole programs, with 15% of other sizes: two ranks against two independent
processes, and the load balance of a list that ends with TIFF files.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from common import arguments, finish, ratio, table
from PIL import Image, ImageChops, ImageEnhance

from preprocessing.ela import Parameters, features_of_file, recompress
from preprocessing.picture import decode, decode_with_pillow
from preprocessing.sample import generate

PARAMETERS = Parameters()


def notebook(path: Path, scratch: Path) -> np.ndarray:
    """ELA as the notebooks on CASIA compute it: Pillow, through a temporary file."""
    original = Image.open(path).convert("RGB")
    original.save(scratch, "JPEG", quality=90)
    difference = ImageChops.difference(original, Image.open(scratch))
    largest = max(high for _, high in difference.getextrema()) or 1
    brighter = ImageEnhance.Brightness(difference).enhance(255 / largest)
    return np.asarray(brighter.resize((128, 128)))


def check_codec(paths: list[Path]) -> None:
    """Check that the codec's pixels equal Pillow's."""
    for path in paths:
        data = path.read_bytes()
        pixels = decode(data)
        assert np.array_equal(pixels, decode_with_pillow(data)), path
        encoded = io.BytesIO()
        Image.fromarray(pixels[..., ::-1]).save(encoded, "JPEG", quality=90)
        assert np.array_equal(recompress(pixels, 90), decode_with_pillow(encoded.getvalue())), \
            path


def one_core(paths: list[Path], rounds: int, scratch: Path) -> dict[str, list[float]]:
    """Images/s of each variant in each round."""
    variants: dict[str, Callable[[Path], object]] = {
        "ELA, this project": lambda path: features_of_file(path, ("ela",), PARAMETERS),
        "ELA, the usual notebook": lambda path: notebook(path, scratch),
        "codec alone": lambda path: recompress(
            cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR), 90)}
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        seconds = dict.fromkeys(variants, 0.0)
        for path in paths:  # in turn, picture by picture: the machine's speed drifts within seconds
            for name, function in variants.items():
                start = time.perf_counter()
                function(path)
                seconds[name] += time.perf_counter() - start
        if number:
            for name, spent in seconds.items():
                rates[name].append(len(paths) / spent)
    return rates


def preprocess(data: Path, out: Path, ranks: int) -> list[str]:
    """The command of a new run that writes ``out``; 0 ranks: without mpirun."""
    out.unlink(missing_ok=True)
    launcher = ["mpirun", "-np", str(ranks)] if ranks else []
    return [*launcher, sys.executable, "-m", "preprocessing", "--data", str(data),
            "--out", str(out), "--features", "ela"]


def wall(out: Path) -> float:
    """Seconds of the parallel part, from the run's report."""
    return json.loads(Path(f"{out}.json").read_text())["seconds"]["wall"]


def two_ranks(folder: Path, whole: Path, halves: list[Path], images: int,
              rounds: int) -> dict[str, list[float]]:
    """Images/s of two ranks on the whole list, and of two processes with half the list each."""
    rates: dict[str, list[float]] = {"two ranks": [], "two independent processes": []}
    for number in range(rounds + 1):
        subprocess.run(preprocess(whole, folder / "whole.h5", 2), check=True,
                       stdout=subprocess.DEVNULL)
        outs = [folder / f"half{i}.h5" for i in range(2)]
        running = [subprocess.Popen(preprocess(half, out, 0), stdout=subprocess.DEVNULL)
                   for half, out in zip(halves, outs, strict=True)]
        assert not any(process.wait() for process in running)
        if number:
            rates["two ranks"].append(images / wall(folder / "whole.h5"))
            rates["two independent processes"].append(
                sum(images / 2 / wall(out) for out in outs))
    return rates


def imbalance(folder: Path, data: Path, ranks: int, rounds: int) -> float:
    """Busy seconds of the slowest rank over the mean, median of some runs."""
    values = []
    for _ in range(rounds):
        subprocess.run(preprocess(data, folder / "mixed.h5", ranks), check=True,
                       stdout=subprocess.DEVNULL)
        busy = [sum(stages.values()) for stages in json.loads(
            (folder / "mixed.h5.json").read_text())["seconds"]["by_rank"]]
        values.append(max(busy) / statistics.mean(busy))
    return statistics.median(values)


def spread(sources: list[Path], folder: Path, copies: range) -> Path:
    """A data set with links to the pictures, each under several names."""
    for label in ("real", "fake"):
        (folder / label).mkdir(parents=True, exist_ok=True)
    for copy in copies:
        for path in sources:
            label = "real" if path.parent.name in ("Au", "real") else "fake"
            os.link(path, folder / label / f"{copy}_{path.name}")
    return folder


def main() -> None:
    options = arguments(__doc__, pictures=400, rounds=7, copies=10)
    folder = Path(tempfile.mkdtemp(prefix="ela-benchmark-"))
    try:
        generate(folder / "sample", options.pictures)
        paths = sorted((folder / "sample").glob("*/*.jpg"))
        common_size = [path for path in paths if sorted(Image.open(path).size) == [256, 384]]
        size = np.mean([path.stat().st_size for path in common_size]) / 1e3
        print(f"{len(common_size)} JPEG files of 384×256, mean {size:.0f} kB; one core:")
        check_codec(paths[:50])
        rates = one_core(common_size, options.rounds, folder / "scratch.jpg")
        table(rates, "images/s")
        half = range(options.copies // 2)
        halves = [spread(paths, folder / f"half{i}", half) for i in range(2)]
        whole = spread(paths, folder / "whole", range(2 * len(half)))
        images = 2 * len(half) * len(paths)
        print(f"\nwhole programs, {images:,} images:")
        programs = two_ranks(folder, whole, halves, images, 3)
        table(programs, "images/s")
        mixed = spread(paths, folder / "mixed", range(2))
        for path in list((mixed / "fake").iterdir()):  # sorted last, as in CASIA 2
            Image.open(path).save(path.with_name(f"z{path.stem}.tif"))
        uneven = {f"imbalance, {ranks} ranks, TIFF at the end": imbalance(folder, mixed, ranks, 5)
                  for ranks in (2, 4)}
    finally:
        shutil.rmtree(folder)
    finish(options, {**rates, **programs}, {
        "ELA over the usual notebook": ratio(rates, "ELA, this project",
                                             "ELA, the usual notebook"),
        "ELA over its codec alone": ratio(rates, "ELA, this project", "codec alone"),
        "two ranks over two independent processes": ratio(programs, "two ranks",
                                                          "two independent processes"),
        **uneven,
    }, {"ELA over the usual notebook": "at least 2", "ELA over its codec alone": "at least 0.85",
        "two ranks over two independent processes": "at least 0.95",
        **dict.fromkeys(uneven, "at most 1.1")})


if __name__ == "__main__":
    main()
