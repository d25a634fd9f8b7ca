"""One training step on one GPU: this project, Keras 3 and PyTorch, in each precision.

    python benchmarks/gpu_step.py [--device gpu] [--batch N] [--cases NAME,…] [--json FILE]

Each contestant is a process of its own on the same GPU, and they run in turn, so that clocks and
temperature are the same for all; the first round is not counted. The same network and random data.
In this project "float32" means float32: TF32, which Keras and TensorFlow use by default, is a case
of its own. PyTorch runs with the Python of TORCH_PYTHON (default: this one, or that of
benchmarks/setup.sh); a contestant that can't start is left out, with the reason. With --device cpu
it shows that the script works.
"""

from __future__ import annotations

import argparse
import os
import queue
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hpc_deepfake.core.files import write_json

ROOT = Path(__file__).resolve().parent.parent
_START = 240.0  # seconds until a contestant must have taken its first steps: XLA compiles
_WARM_UP = 5


class Case(NamedTuple):
    """A contestant.

    Attributes:
        framework: ``ours``, ``keras`` or ``pytorch``.
        precision: ``float32``, ``tf32`` or ``bfloat16``.
        deterministic: whether operations must give the same bits in each run.
        xla: whether XLA compiles the step; None: as the framework does by default.
    """

    framework: str
    precision: str
    deterministic: bool = False
    xla: bool | None = None


CASES = {
    "ours": Case("ours", "float32", True),
    "ours, tf32": Case("ours", "tf32", True),
    "ours, bfloat16": Case("ours", "bfloat16", True),
    "ours, not deterministic": Case("ours", "float32"),
    "ours, tf32, not deterministic": Case("ours", "tf32"),
    "ours, bfloat16, not deterministic": Case("ours", "bfloat16"),
    "keras fit": Case("keras", "float32"),
    "keras fit, tf32": Case("keras", "tf32"),
    "keras fit, tf32, xla": Case("keras", "tf32", xla=True),
    "keras fit, tf32, no xla": Case("keras", "tf32", xla=False),
    "pytorch": Case("pytorch", "float32"),
    "pytorch, tf32": Case("pytorch", "tf32"),
    "pytorch, bfloat16": Case("pytorch", "bfloat16"),
}
# which ratios say something: the same precision, and the same freedom
RATIOS = [("ours, not deterministic", "keras fit"), ("ours, tf32, not deterministic",
          "keras fit, tf32"), ("ours, tf32, not deterministic", "keras fit, tf32, xla"),
          ("ours, not deterministic", "pytorch"), ("ours, tf32, not deterministic",
          "pytorch, tf32"), ("ours, bfloat16, not deterministic", "pytorch, bfloat16"),
          ("ours", "ours, not deterministic"), ("ours, tf32", "ours"), ("ours, bfloat16", "ours")]

Steps = Callable[[int], None]


def ours(case: Case, device: str, batch: int) -> Steps:
    """This project, as its training loop does it: the next rows are read and copied to the device
    while a step runs, and a step is launched before the one before it is done."""
    from contestants import data

    from hpc_deepfake import strategies
    from hpc_deepfake.data.augment import Rows
    from hpc_deepfake.data.rows import AHEAD, prefetch
    from hpc_deepfake.network import device as devices
    from hpc_deepfake.network import table
    from hpc_deepfake.network.settings import Settings
    from hpc_deepfake.strategies.base import Batch

    devices.start(device, precision=case.precision, deterministic=case.deterministic)
    import keras

    keras.utils.set_random_seed(0)
    strategy = strategies.get("sequential")(table.build(), Settings(precision=case.precision), None)
    strategy.load(None)
    pictures, labels = data()
    done = 0

    def steps(count: int) -> None:
        nonlocal done
        for rows in prefetch(lambda order: strategy.placed(Rows(pictures[order], labels[order])),
                             orders(batch, count), ahead=AHEAD):
            seed = np.array([0, done], np.int32)
            strategy.launch([Batch(rows.pictures, rows.labels, seed)], batch, done, 0)
            done += 1
        strategy.landed()
        strategy.settle({})

    return steps


def keras_fit(case: Case, device: str, batch: int) -> Steps:
    """Keras 3 as its users run it: compile and fit."""
    from contestants import data

    from hpc_deepfake.network import device as devices
    from hpc_deepfake.network import table

    devices.start(device, precision=case.precision, deterministic=case.deterministic)
    import keras

    network = table.build()
    network.compile(keras.optimizers.Adam(1e-4), "categorical_crossentropy",
                    jit_compile="auto" if case.xla is None else case.xla)
    pictures, labels = data()
    targets = np.eye(2, dtype=np.float32)[labels]

    def steps(count: int) -> None:
        rows = np.concatenate(orders(batch, count))
        network.fit(pictures[rows], targets[rows], batch_size=batch, epochs=1, verbose=0)

    return steps


def pytorch(case: Case, device: str, batch: int) -> Steps:
    """PyTorch, channels-last, with fused Adam."""
    import torch
    from contestants import data
    from torch import nn

    where = "cuda" if device == "gpu" else "cpu"
    if where == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("this PyTorch sees no GPU")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = \
        case.precision == "tf32"
    network = nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.BatchNorm2d(32, 1e-3, 0.01), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3), nn.ReLU(), nn.BatchNorm2d(64, 1e-3, 0.01), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(57600, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 2),
    ).to(where, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), 1e-4, fused=True)
    loss = nn.CrossEntropyLoss()
    pictures, labels = data()

    def steps(count: int) -> None:
        for rows in orders(batch, count):
            images = torch.from_numpy(pictures[rows]).to(where, non_blocking=True)
            images = images.permute(0, 3, 1, 2).float() / 255
            marks = torch.from_numpy(labels[rows]).to(where, non_blocking=True).long()
            optimizer.zero_grad()
            with torch.autocast(where, torch.bfloat16, case.precision == "bfloat16"):
                value = loss(network(images), marks)
            value.backward()
            optimizer.step()
        if where == "cuda":
            torch.cuda.synchronize()

    return steps


FRAMEWORKS = {"ours": ours, "keras": keras_fit, "pytorch": pytorch}


def orders(batch: int, count: int) -> list[np.ndarray]:
    """Row numbers of ``count`` random batches."""
    from contestants import ROWS

    random = np.random.default_rng(1)
    return [np.resize(random.permutation(ROWS), batch) for _ in range(count)]


def contest(options: argparse.Namespace) -> None:
    """The process of one contestant: for each line N on standard input, N steps; prints the
    seconds."""
    from hpc_deepfake.core.errors import InputError
    from hpc_deepfake.core.streams import whole_lines

    whole_lines()
    case = CASES[options.case]
    try:
        steps = FRAMEWORKS[case.framework](case, options.device, options.batch)
    except InputError as error:
        sys.exit(f"{error}")
    steps(_WARM_UP)
    print("ready", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        steps(int(line))
        print(time.perf_counter() - start, flush=True)


class Contestant:
    """The process of a case, seen from outside."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [interpreter(CASES[name]), str(Path(__file__)), "--case", name, "--device",
             options.device, "--batch", str(options.batch)],
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}",
                 "TF_CPP_MIN_LOG_LEVEL": "3"})
        self._lines: queue.Queue[str] = queue.Queue()
        self._errors: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=lambda: self._errors.extend(self._process.stderr or ()),
                         daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line.strip())
        self._lines.put("")

    def answer(self, limit: float, wanted: str = "") -> str:
        """The next line of its output, or the next one that is ``wanted``.

        Raises:
            RuntimeError: it ended, or took longer than ``limit`` seconds.
        """
        until = time.monotonic() + limit
        while True:
            try:
                line = self._lines.get(timeout=max(0.1, until - time.monotonic()))
            except queue.Empty:
                raise RuntimeError(f"no answer within {limit:.0f} s") from None
            if not line:
                self._process.wait()
                reasons = [text.strip() for text in self._errors if text.strip()]
                raise RuntimeError(reasons[-1] if reasons else "ended without a word")
            if wanted in ("", line):
                return line

    def seconds(self, steps: int) -> float:
        """Of this number of steps."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        return float(self.answer(_START))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def interpreter(case: Case) -> str:
    """The Python of a case."""
    if case.framework != "pytorch":
        return sys.executable
    named, own = os.environ.get("TORCH_PYTHON"), ROOT / ".venv-benchmarks" / "bin" / "python"
    return named or (str(own) if own.exists() else sys.executable)


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Images/s of each case in each round, and why others are left out."""
    contestants: list[Contestant] = []
    missing: dict[str, str] = {}
    rates: dict[str, list[float]] = {}
    steps = options.steps
    try:
        for name in options.cases.split(";"):
            one = Contestant(name, options)  # one after the other: starts take memory and cores
            try:
                one.answer(_START, "ready")
                contestants.append(one)
            except RuntimeError as error:
                missing[name] = str(error)
                one.close()
        if not steps and contestants:  # about as long as asked for, of the first case
            steps = max(3, round(10 * options.seconds / contestants[0].seconds(10)))
        for number in range(options.rounds + 1):
            for one in list(contestants):
                try:
                    took = one.seconds(steps)
                except (RuntimeError, OSError) as error:
                    missing[one.name] = str(error)
                    contestants.remove(one)
                    one.close()
                    continue
                if number:
                    rates.setdefault(one.name, []).append(options.batch * steps / took)
            if number and options.json is not None:  # what is left if a time limit ends it
                write_json(options.json, result(options, steps, rates, missing))
    finally:
        for one in contestants:
            one.close()
    return result(options, steps, rates, missing)


def result(options: argparse.Namespace, steps: int, rates: dict[str, list[float]],
           missing: dict[str, str]) -> dict[str, object]:
    """What ``--json`` writes, of the rounds so far."""
    return {"device": options.device, "batch": options.batch, "steps": steps, "images/s": rates,
            "missing": missing,
            "ratios": {f"{first} over {second}": statistics.median(
                a / b for a, b in zip(rates[first], rates[second], strict=True))
                for first, second in RATIOS if len(rates.get(first, ())) ==
                len(rates.get(second, ())) > 0}}


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    cli.add_argument("--batch", type=int, default=32, metavar="N", help="rows of a step")
    cli.add_argument("--rounds", type=int, default=5, metavar="N", help="of all cases in turn")
    cli.add_argument("--seconds", type=float, default=0.5, metavar="S",
                     help="of each measurement, about")
    cli.add_argument("--steps", type=int, default=0, metavar="N", help="instead of --seconds")
    cli.add_argument("--cases", default=";".join(CASES), metavar="NAME;…",
                     help=f"contestants (default: all: {'; '.join(CASES)})")
    cli.add_argument("--case", help=argparse.SUPPRESS)
    cli.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    options = cli.parse_args()
    if unknown := set(options.cases.split(";")) - set(CASES):
        cli.error(f"--cases: {', '.join(sorted(unknown))}: choose of {'; '.join(CASES)}")
    if options.case:
        contest(options)
        return
    found = measure(options)
    for name, values in found["images/s"].items():
        print(f"{name:<36} {statistics.median(values):>10,.0f} images/s, {min(values):,.0f} to "
              f"{max(values):,.0f}")
    for name, why in found["missing"].items():
        print(f"{name:<36} left out: {why}")
    for name, value in found["ratios"].items():
        print(f"{name:<60} {value:.2f}")
    if options.json is not None:
        write_json(options.json, found)
    if not found["images/s"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
