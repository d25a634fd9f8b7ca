"""Two ranks on two cores: this project against two independent processes and other frameworks.

    python benchmarks/ranks.py [--json FILE]

Each rank trains on 32 rows per step, in float32, with one thread. "Independent" are two processes
of this project that don't communicate: the upper limit for two ranks. Run benchmarks/setup.sh
first.
"""

from __future__ import annotations

from common import arguments, finish, ratio, table
from contestants import BATCH
from workers import Worker, pair, started

INDEPENDENT = "two independent processes"
OURS = "this project, sync"


GROUPS = {
    INDEPENDENT: lambda steps: [Worker("ours") for _ in range(2)],
    OURS: lambda steps: [Worker("ours", steps)],
    "this project, Horovod's own settings": lambda steps: [Worker(
        "ours", steps, HOROVOD_CYCLE_TIME="1", HOROVOD_FUSION_THRESHOLD=str(128 << 20))],
    "MultiWorkerMirroredStrategy": lambda steps: pair("mirrored"),
    "PyTorch DDP, gloo": lambda steps: pair("pytorch"),
}


def main() -> None:
    options = arguments(__doc__, rounds=5, steps=15)
    rates: dict[str, list[float]] = {name: [] for name in GROUPS}
    for _ in range(options.rounds):
        for name, group in GROUPS.items():
            # started again each time: idle ranks of the others would take CPU time
            with started({name: group(options.steps)}) as ready:
                for worker in ready[name]:
                    worker.begin(options.steps)
                seconds = [rank for worker in ready[name] for rank in worker.seconds()]
            rates[name].append(sum(BATCH * options.steps / rank for rank in seconds))
    table(rates, "images/s")
    others = [name for name in GROUPS if name != OURS]
    finish(options, rates, {f"over {name}": ratio(rates, OURS, name) for name in others},
           {f"over {INDEPENDENT}": "at least 0.8", f"over {others[2]}": "above 1",
            f"over {others[3]}": "above 1"})


if __name__ == "__main__":
    main()
