"""How long `predict` takes for one picture, and what of it.

    python benchmarks/start.py --model RUN [--rounds N] [--json FILE]

Each row is a process of its own, run in turn: seconds by the clock, and of computing, which other
work on the machine changes less. "As before" collects garbage while TensorFlow is imported, imports
matplotlib and starts MPI, as version 0.2.0 did until its first release.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import finish

from preprocessing.sample import generate

BEFORE = """
import contextlib, sys
from hpc_deepfake.core import mpi, surroundings
surroundings.settle()
import matplotlib
from hpc_deepfake import predict
from hpc_deepfake.network import device
device._uncollected = contextlib.nullcontext
mpi.run(lambda comm: predict.main(sys.argv[1:], comm))
"""
TENSORFLOW = """
from hpc_deepfake.core.surroundings import settle
settle()
from hpc_deepfake.network import device
device.start("cpu")
"""
TARGET = 5.0  # seconds


def measure(command: list[str]) -> tuple[float, float]:
    """Seconds by the clock and of computing that a process takes."""
    used, began = _used(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began, _used() - used


def _used() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--model", type=Path, required=True, metavar="RUN", help="a trained model")
    cli.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds (default: 5)")
    cli.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    options = cli.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), 2, 0)
        picture = os.fspath(next(Path(folder, "Tp").iterdir()))
        predict = ["--model", os.fspath(options.model), "--device", "cpu", picture]
        variants = {
            "Python": [sys.executable, "-c", "pass"],
            "hpc-deepfake --help": [sys.executable, "-m", "hpc_deepfake.cli", "--help"],
            "TensorFlow": [sys.executable, "-c", TENSORFLOW],
            "predict": [sys.executable, "-m", "hpc_deepfake.cli", "predict", *predict],
            "predict as before": [sys.executable, "-c", BEFORE, *predict]}
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
        for number in range(options.rounds + 1):
            for name, command in variants.items():
                taken = measure(command)
                if number:  # the first round reads the files from disk
                    seconds[name].append(taken)
    print(f"{'':<22}  {'seconds':>8}  {'lowest':>8}  {'highest':>8}  {'computing':>10}")
    rows = {}
    for name, values in seconds.items():
        clock, computing = (sorted(column) for column in zip(*values, strict=True))
        rows[name] = {"seconds": clock, "computing": computing}
        print(f"{name:<22}  {statistics.median(clock):>8.2f}  {clock[0]:>8.2f}  {clock[-1]:>8.2f}  "
              f"{statistics.median(computing):>10.2f}")
    median = statistics.median(rows["predict"]["seconds"])
    finish(options, rows, {"seconds of predict on one picture": median},
           {"seconds of predict on one picture": f"below {TARGET:g}"})


if __name__ == "__main__":
    main()
