"""How long `predict` takes for one picture, and what of it; and `train` to its first step.

    python benchmarks/start.py --model RUN [--data FILE] [--rounds N] [--json FILE]

Each row is a process of its own, run in turn: seconds by the clock, and of computing, which other
work on the machine changes less. "As before" collects garbage while TensorFlow is imported, imports
matplotlib and starts MPI, as version 0.2.0 did until its first release. With a data file, training
on one rank and on two is started, and ended when the first step's sums are there on all ranks.
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
FIRST_STEP = """
import os, sys, time
from hpc_deepfake.core.surroundings import settle
settle()
from hpc_deepfake import strategies
from hpc_deepfake.core import mpi
from hpc_deepfake.train import __main__ as train
get = strategies.get
def ending(name):
    kind = get(name)
    begin = kind.launch
    def launch(self, *step):
        begin(self, *step)
        self.landed()  # waits for it
        self.comm.Barrier()
        if not self.comm.rank:
            print("first step", time.time() - float(os.environ["BEGAN"]), flush=True)
        time.sleep(0.2)  # until rank 0 has printed
        os._exit(0)
    kind.launch = launch
    return kind
strategies.get = ending
mpi.run(train.main, train.before_mpi)
"""
TARGET, FIRST = 5.0, 6.0  # seconds: of predict, to the first step


def measure(command: list[str]) -> tuple[float, float]:
    """Seconds by the clock and of computing that a process takes."""
    used, began = _used(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began, _used() - used


def first_step(data: Path, ranks: int) -> float:
    """Seconds from the command to the end of the first step."""
    launch = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", str(ranks)] \
        if ranks > 1 else []
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*launch, sys.executable, "-c", FIRST_STEP, "--data", data, "--run", f"{folder}/run",
             "--device", "cpu"], env={**os.environ, "BEGAN": str(time.time())}, text=True,
            capture_output=True)
    told = [line for line in done.stdout.splitlines() if line.startswith("first step")]
    if not told:
        raise SystemExit(done.stderr)
    return float(told[0].split()[-1])


def _used() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--model", type=Path, required=True, metavar="RUN", help="a trained model")
    cli.add_argument("--data", type=Path, metavar="FILE", help="a data file, to train on")
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
    medians = {"seconds of predict on one picture": statistics.median(rows["predict"]["seconds"])}
    targets = dict.fromkeys(medians, f"below {TARGET:g}")
    for ranks in (1, 2) if options.data else ():
        name = f"seconds to the first step, {ranks} rank{'s' * (ranks > 1)}"
        times = [first_step(options.data, ranks) for _ in range(options.rounds + 1)][1:]
        rows[name], medians[name] = {"seconds": sorted(times)}, statistics.median(times)
        targets[name] = f"below {FIRST:g}"
    finish(options, rows, medians, targets)


if __name__ == "__main__":
    main()
