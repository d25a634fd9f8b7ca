"""Error level analysis of lists of pictures on two cores: this project, tf.data, a pool of Pillow.

    python benchmarks/ela_pipelines.py [--json FILE]

The pictures are mosaics of generated sample pictures: JPEG of 384×256 and 1920×1080, uncompressed
TIFF of three sizes as in CASIA 2. The ways take turns on the same files, in the page cache; those
of others have been started and have seen each file before:

- this project: ``preprocessing`` on two ranks, started anew, with checksums, facts, digests,
  writing and syncing to the disk, by the time of its parallel part, for a list that has each file
  ``--copies`` times; and in one process with one thread, without writing
- ``tf.data``: read, ``tf.io.decode_jpeg``, ``tf.image.adjust_jpeg_quality``, difference, scale,
  ``tf.image.resize`` (linear, TensorFlow's default), two calls in parallel and two threads. It has
  no decoder for TIFF (``tf.io.decode_image``: JPEG, PNG, GIF, BMP)
- the usual notebook's function in ``multiprocessing.Pool(2)``: Pillow, through a temporary file of
  each process
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import arguments, finish, ratio, table
from ela import PARAMETERS, notebook, preprocess, spread, wall
from PIL import Image

from preprocessing.ela import features_of_file
from preprocessing.sample import generate

CORES = 2
# name: sizes of the pictures, how they are saved, how many of them are made for each of --pictures
KINDS: dict[str, tuple[tuple[tuple[int, int], ...], str, float]] = {
    "JPEG 384×256": (((384, 256),), "jpg", 1.0),
    "JPEG 1920×1080": (((1920, 1080),), "jpg", 0.06),
    "TIFF": (((384, 256), (640, 480), (900, 600)), "tif", 0.25)}
OURS, SINGLE = "this project, 2 ranks", "this project, 1 process"
TENSORFLOW, POOL = "tf.data", "pool of Pillow"


def mosaics(sources: list[Path], folder: Path, sizes: tuple[tuple[int, int], ...], suffix: str,
            count: int) -> list[Path]:
    """Pictures cut from others side by side, as textured as these."""
    tiles = [np.asarray(Image.open(path).convert("RGB")) for path in sources]
    tiles = [tile for tile in tiles if tile.shape == (256, 384, 3)]
    random = np.random.default_rng(0)
    paths = []
    for number in range(count):
        width, height = sizes[number % len(sizes)]
        drawn = random.integers(len(tiles), size=(height // 256 + 2, width // 384 + 2))
        whole = np.concatenate([np.concatenate([tiles[i] for i in row], axis=1) for row in drawn])
        top, left = random.integers(256), random.integers(384)
        path = folder / ("real", "fake")[number % 2] / f"{number:05}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(whole[top:top + height, left:left + width]).save(
            path, **({"quality": 92} if suffix == "jpg" else {}))
        paths.append(path)
    return paths


def in_pool(path: Path) -> np.ndarray:
    """The notebook's function, in a process of a pool."""
    return notebook(path, Path(tempfile.gettempdir(), f"ela-{os.getpid()}.jpg"))


def by_tensorflow(paths: list[Path]) -> Callable[[], None]:
    """The pipeline of tf.data, traced."""
    import tensorflow as tf

    def features(path: tf.Tensor) -> tf.Tensor:
        pixels = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        again = tf.image.adjust_jpeg_quality(pixels, PARAMETERS.quality)
        difference = tf.abs(tf.cast(pixels, tf.int16) - tf.cast(again, tf.int16))
        largest = tf.maximum(tf.cast(tf.reduce_max(difference), tf.float32), 1.0)
        return tf.cast(tf.image.resize(tf.cast(difference, tf.float32) * (255.0 / largest),
                                       (PARAMETERS.size, PARAMETERS.size)), tf.uint8)

    options = tf.data.Options()
    options.threading.private_threadpool_size = CORES
    options.deterministic = False
    data = tf.data.Dataset.from_tensor_slices([str(path) for path in paths]).map(
        features, num_parallel_calls=CORES).prefetch(2).with_options(options)

    def run() -> None:
        for _ in data:
            pass
    return run


def measure(kind: str, folder: Path, paths: list[Path], pool: Any, rounds: int,
            copies: int) -> dict[str, list[float]]:
    """Images/s of each way in each round; one more round comes first."""
    out = folder.with_suffix(".h5")
    whole = spread(paths, folder.with_suffix(".whole"), range(copies))

    def ours() -> float:
        subprocess.run(preprocess(whole, out, CORES), check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        return wall(out) / copies

    def timed(function: Callable[[], object]) -> Callable[[], float]:
        def run() -> float:
            began = time.perf_counter()
            function()
            return time.perf_counter() - began
        return run

    ways = {OURS: ours,
            SINGLE: timed(lambda: [features_of_file(path, ("ela",), PARAMETERS) for path in paths]),
            POOL: timed(lambda: pool.map(in_pool, paths, chunksize=4))}
    if paths[0].suffix == ".jpg":
        ways[TENSORFLOW] = timed(by_tensorflow(paths))
    rates: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for name, seconds in ways.items():
            spent = seconds()
            if number:
                rates.setdefault(f"{kind}: {name}", []).append(len(paths) / spent)
    return rates


def main() -> None:
    # before TensorFlow has threads, which a fork would not have
    pool = multiprocessing.get_context("fork").Pool(CORES)
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(CORES)
    tf.config.threading.set_inter_op_parallelism_threads(CORES)
    options = arguments(__doc__, pictures=400, rounds=3, copies=5)
    folder = Path(tempfile.mkdtemp(prefix="ela-pipelines-"))
    rates: dict[str, list[float]] = {}
    try:
        generate(folder / "sample", 100)
        sources = sorted((folder / "sample").glob("*/*.jpg"))
        for kind, (sizes, suffix, share) in KINDS.items():
            place = folder / kind.replace(" ", "-")
            paths = mosaics(sources, place, sizes, suffix, int(options.pictures * share))
            rates |= measure(kind, place, paths, pool, options.rounds,
                             options.copies)
    finally:
        pool.terminate()
        shutil.rmtree(folder)
    table(rates, "images/s")
    ratios = {f"{kind}: {OURS} over {other}": ratio(rates, f"{kind}: {OURS}", f"{kind}: {other}")
              for kind in KINDS for other in (TENSORFLOW, POOL) if f"{kind}: {other}" in rates}
    finish(options, rates, ratios, dict.fromkeys(ratios, "above 1"))


if __name__ == "__main__":
    main()
