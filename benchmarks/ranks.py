"""Two ranks on two cores: this project against two independent processes and other frameworks.

    python benchmarks/ranks.py [--json FILE]

Each rank trains on 32 rows per step, in float32, with one thread. "Independent" are two processes
of this project that don't communicate: the upper limit for two ranks. All are started at the
beginning and take turns; ranks that wait for theirs are stopped, since Horovod's thread would take
CPU time. Run benchmarks/setup.sh first.
"""

from __future__ import annotations

import sys

from common import arguments, finish, ratio, table
from contestants import BATCH
from workers import Worker, pair, started

INDEPENDENT = "two independent processes"
SYNC, HYBRID = "this project, sync", "this project, hybrid"
OWN_SETTINGS = "this project, Horovod's own settings"
MIRRORED, DDP = "MultiWorkerMirroredStrategy", "PyTorch DDP, gloo"
GROUPS = {
    INDEPENDENT: lambda: [Worker("ours") for _ in range(2)],
    SYNC: lambda: [Worker("ours", ranks=2)],
    HYBRID: lambda: [Worker("ours", ranks=2, STRATEGY="hybrid")],
    OWN_SETTINGS: lambda: [Worker("ours", ranks=2, HOROVOD_CYCLE_TIME="1",
                                  HOROVOD_FUSION_THRESHOLD=str(128 << 20))],
    MIRRORED: lambda: pair("mirrored"),
    DDP: lambda: pair("pytorch"),
}
TARGETS = {(SYNC, INDEPENDENT): "at least 0.95", (HYBRID, INDEPENDENT): "at least 0.95",
           (SYNC, MIRRORED): "above 2", (SYNC, DDP): "above 2.2", (SYNC, OWN_SETTINGS): "–"}


def main() -> None:
    options = arguments(__doc__, rounds=8, steps=15)
    rates: dict[str, list[float]] = {name: [] for name in GROUPS}
    with started({name: group() for name, group in GROUPS.items()}) as ready:
        for number in range(options.rounds + 1):  # the first one is not counted
            for name, workers in ready.items():
                for worker in workers:
                    worker.begin(options.steps)
                seconds = [rank for worker in workers for rank in worker.seconds()]
                rate = sum(BATCH * options.steps / rank for rank in seconds)
                print(f"round {number}: {name}: {rate:,.0f} images/s", file=sys.stderr, flush=True)
                if number:
                    rates[name].append(rate)
    table(rates, "images/s")
    names = {pair: f"{pair[0].rpartition(', ')[2]} over {pair[1]}" for pair in TARGETS}
    finish(options, rates, {name: ratio(rates, *pair) for pair, name in names.items()},
           {name: TARGETS[pair] for pair, name in names.items()})


if __name__ == "__main__":
    main()
