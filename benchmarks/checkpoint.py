"""What saving costs: images/s by the wall clock over those of training alone.

    python benchmarks/checkpoint.py [--json FILE]

Two ranks train the network by ``sync`` on random pictures, with epochs of about five seconds, each
of which is better than the one before, so that the model is written too. "In the foreground" is
what version 0.1 did: a checkpoint and the model at the end of each epoch, while training waits.
"In the background" does the same beside the training; "by default" writes the model at each epoch
and the checkpoint every ten minutes. Validation, which the wall clock counts, is taken off here.
The variants run in turn; the first epoch of a run, which builds the graph, does not count.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from common import arguments, finish, table

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

ROOT = Path(__file__).resolve().parent.parent
EPOCHS, SECONDS = 5, 5.0
VARIANTS = {"in the foreground": ("foreground", "0"), "in the background": ("background", "0"),
            "by default": ("background", "10")}


def train(how: str, options: list[str]) -> None:
    """What a rank runs: a training whose every epoch is the best."""
    from functools import partial

    from hpc_deepfake.core import mpi
    from hpc_deepfake.train import __main__ as program

    def main(comm: Comm) -> int:
        from hpc_deepfake.train import loop

        loop.State.better = lambda *_: True  # type: ignore[method-assign]
        if how == "foreground":
            start = loop.Saver.start

            def waiting(saver: loop.Saver, *writes: object) -> None:
                start(saver, *writes)  # type: ignore[arg-type]
                saver.join()

            loop.Saver.start = waiting  # type: ignore[method-assign,assignment]
        return program.main(comm, options)

    mpi.run(main, partial(program.before_mpi, options))


def run(how: str, minutes: str, rows: int, folder: Path, epochs: int = EPOCHS) -> list[dict]:
    """Train, and return the records of the epochs after the first."""
    subprocess.run(
        ["mpirun", "-np", "2", sys.executable, __file__, "--worker", how, "--synthetic", str(rows),
         "--run", folder, "--epochs", str(epochs), "--patience", "0", "--threads", "1", "--device",
         "cpu", "--no-report", "--checkpoint-minutes", minutes, "--keep", "1"],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    return [json.loads(line) for line in (folder / "metrics.jsonl").open()][1:]


def save_parts(folder: Path) -> dict[str, tuple[float, float]]:
    """Seconds, and processor seconds, of the parts of a save: median of five."""
    from hpc_deepfake.network import table as network
    from hpc_deepfake.network.model import Card, save
    from hpc_deepfake.network.settings import Settings
    from hpc_deepfake.strategies.sequential import Sequential
    from hpc_deepfake.train import checkpoint
    from preprocessing.ela import Parameters

    strategy = Sequential(network.build(), Settings())
    whole, state = strategy.whole(), strategy.state()
    parts = {"copy the best weights": strategy.whole, "copy the state": strategy.state,
             "write a checkpoint, with fsync": lambda: checkpoint.save(
                 folder / "checkpoints", 1, state + whole, {}, 1),
             "write the model": lambda: save(strategy.keras_model(whole),
                                             Card("ela", Parameters()), folder / "model.keras")}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in parts}
    for _ in range(5):
        for name, part in parts.items():
            began, cpu = time.perf_counter(), time.process_time()
            part()
            taken[name].append((time.perf_counter() - began, time.process_time() - cpu))
    return {name: (statistics.median(seconds for seconds, _ in times),
                   statistics.median(cpu for _, cpu in times)) for name, times in taken.items()}


def main() -> None:
    options = arguments(__doc__, rounds=3)
    shares: dict[str, list[float]] = {name: [] for name in VARIANTS}
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as place:  # a disk, not memory
        line = run("background", "10", 1024, Path(place) / "first", 2)[0]
        rows = max(round(line["images_per_s"] * SECONDS / 64), 1) * 64
        for number in range(options.rounds):
            for name, (how, minutes) in VARIANTS.items():
                lines = run(how, minutes, rows, Path(place) / f"{number}-{name}")
                wall = [rows / (line["wall_s"] - line["seconds"]["evaluate"]) for line in lines]
                training = [line["images_per_s"] for line in lines]
                rates.setdefault(f"{name}: training", []).append(statistics.median(training))
                rates.setdefault(f"{name}: wall clock", []).append(statistics.median(wall))
                shares[name] += [part / whole for part, whole in zip(wall, training, strict=True)]
        parts = save_parts(Path(place))
    print(f"{'':<32}  seconds  of which processor")
    for name, (seconds, cpu) in parts.items():
        print(f"{name:<32}  {seconds:>7.2f}  {cpu:>18.2f}")
    print(f"\n{rows:,} rows in an epoch")
    table(rates, "images/s")
    finish(options, {"parts": parts, "rates": rates, "shares": shares},
           {f"{name}: wall clock over training": statistics.median(values)
            for name, values in shares.items()},
           {"by default: wall clock over training": "at least 0.95"})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        train(sys.argv[2], sys.argv[3:])
    else:
        main()
