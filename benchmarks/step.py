"""One training step on one core: this project against stock Keras and PyTorch, and against the
limit of the machine.

    python benchmarks/step.py [--json FILE]

The same network and data, a batch of 32, one thread, and the same core for all of them in turn; in
float32, and in bfloat16 (PyTorch: autocast). The second table has for each group of operations what
it has to compute and to move (limit.py), the seconds that it took in steps of this project, and
which share of them the machine would need at the rates that it reached in the same run. Run
benchmarks/setup.sh first.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from common import arguments, finish, interleave, ratio, table
from contestants import BATCH, SIZE
from workers import Worker, started

OURS, KERAS, TORCH = "this project", "stock Keras 3, fit", "PyTorch, channels-last"
PLAIN = "this project, --no-compiled"
BRIEF = ", bfloat16"
CONTESTANTS = {OURS: "ours", PLAIN: "ours", KERAS: "keras",
               f"{KERAS} without XLA": "keras_without_xla", TORCH: "pytorch",
               OURS + BRIEF: "ours", PLAIN + BRIEF: "ours", TORCH + BRIEF: "pytorch"}
PRECISIONS = {"float32": "", "bfloat16": BRIEF}
TARGETS = {f"over {PLAIN}": "above 1", f"over {PLAIN}{BRIEF}": "above 1",
           f"over {KERAS}": "at least 1.5", f"over {KERAS} without XLA": "at least 1.5",
           f"over {TORCH}": "at least 1.4", f"over {TORCH}{BRIEF}": "at least 1.2",
           "share of the limit, float32": "at least 0.7",
           "share of the limit, bfloat16": "at least 0.6"}


def worker(name: str, core: set[int], folder: Path) -> Worker:
    """A contestant; this project's have files for what they measure of themselves."""
    precision = "bfloat16" if name.endswith(BRIEF) else "float32"
    return Worker(CONTESTANTS[name], cores=core, PRECISION=precision,
                  COMPILED=str(int(not name.startswith(PLAIN))),
                  RECORD=str(folder / precision))


def recorded(path: Path) -> list[dict[str, Any]]:
    """What a worker recorded in the rounds that count."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def shares(folder: Path, seconds: dict[str, list[float]], steps: int) -> dict[str, Any]:
    """Print the table of each precision.

    Returns:
        The machine's rates, by precision the rows of the table (by group flop, bytes, seconds and
        the machine's least seconds), and the share of each whole step, by round.
    """
    import limit

    from hpc_deepfake.network import blocks
    from hpc_deepfake.network import table as network

    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    model = network.build("float32", SIZE)
    records = {precision: recorded(folder / precision) for precision in PRECISIONS}
    machine = [line for line in records["float32"] if "matrix" in line][1:]  # but the first round
    by_round = [limit.Rates(**line) for line in machine]
    rates = limit.Rates({precision: statistics.median(line.matrix[precision] for line in by_round)
                         for precision in PRECISIONS},
                        statistics.median(line.memory for line in by_round))
    print(f"\nmatrix products: {rates.matrix['float32'] / 1e9:,.0f} GFLOP/s in float32, "
          f"{rates.matrix['bfloat16'] / 1e9:,.0f} in bfloat16; memory: {rates.memory / 1e9:.1f} "
          "GB/s read and written")
    found: dict[str, Any] = {"rates": rates._asdict(), "groups": {}, "shares": {}}
    for precision, suffix in PRECISIONS.items():
        works = limit.works(model, BATCH, precision, fused=blocks.usable("float32"))
        rounds = [limit.groups(line, works) for line in records[precision]
                  if "matrix" not in line][1:]
        spent = {name: statistics.median(line[name] for line in rounds) for name in rounds[0]}
        whole = statistics.median(seconds[OURS + suffix]) / steps
        spent["rest"] = max(0.0, whole - sum(spent[name] for name in works))
        rows = {name: (*works[name], spent[name], rates.seconds(works[name], precision))
                for name in works}
        rows["rest"] = (0, 0, spent["rest"], 0.0)
        rows["whole step"] = (*(sum(row[place] for row in rows.values()) for place in (0, 1)),
                              whole, sum(row[3] for row in rows.values()))
        print(f"\n{precision:<18}  {'GFLOP':>6}  {'MB':>6}  {'ms':>6}  {'limit, ms':>9}  share")
        for name, (flop, size, took, least) in rows.items():
            share = f"{least / took:>5.0%}" if least and took else f"{'–':>5}"
            print(f"{name:<18}  {flop / 1e9:>6.2f}  {size / 1e6:>6.1f}  {1e3 * took:>6.1f}  "
                  f"{1e3 * least:>9.1f}  {share}")
        found["groups"][precision] = rows
        found["shares"][precision] = [
            sum(line.seconds(work, precision) for work in works.values()) / (took / steps)
            for line, took in zip(by_round, seconds[OURS + suffix], strict=True)]
    return found


def main() -> None:
    options = arguments(__doc__, rounds=7, steps=10)
    core = {min(os.sched_getaffinity(0))}
    with tempfile.TemporaryDirectory() as folder, started(
            {name: [worker(name, core, Path(folder))] for name in CONTESTANTS}) as groups:

        def run(name: str, how: str = "") -> None:
            groups[name][0].begin(options.steps, how)
            groups[name][0].seconds()

        measured = {name: partial(run, name) for name in CONTESTANTS}
        traced = {f"{name}, traced": partial(run, name, "traced") for name in (OURS, OURS + BRIEF)}
        seconds = interleave(measured | traced | {"machine": partial(run, OURS, "machine")},
                             options.rounds)
        rates = {contestant: [BATCH * options.steps / duration for duration in seconds[contestant]]
                 for contestant in CONTESTANTS}
        table(rates, "images/s")
        limits = shares(Path(folder), seconds, options.steps)
    ratios = {f"over {other}": ratio(rates, OURS + BRIEF if other.endswith(BRIEF) else OURS, other)
              for other in CONTESTANTS if other not in (OURS, OURS + BRIEF)}
    for precision, by_round in limits["shares"].items():
        ratios[f"share of the limit, {precision}"] = statistics.median(by_round)
    finish(options, {**rates, "limit": limits}, ratios, TARGETS)


if __name__ == "__main__":
    main()
