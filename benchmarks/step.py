"""One training step on one core: this project against stock Keras and PyTorch.

    python benchmarks/step.py [--json FILE]

The same network and data, a batch of 32, float32, one thread, and the same core for all of them in
turn. Run benchmarks/setup.sh first.
"""

from __future__ import annotations

import os

from common import arguments, finish, interleave, ratio, table
from contestants import BATCH
from workers import Worker, started

NAMES = {"ours": "this project", "keras": "stock Keras 3, fit",
         "keras_without_xla": "stock Keras 3, fit without XLA", "pytorch": "PyTorch, channels-last"}


def main() -> None:
    options = arguments(__doc__, rounds=7, steps=10)
    core = {min(os.sched_getaffinity(0))}
    with started({name: [Worker(name, cores=core)] for name in NAMES}) as groups:

        def run(name: str) -> None:
            groups[name][0].begin(options.steps)
            groups[name][0].seconds()

        seconds = interleave({NAMES[name]: lambda name=name: run(name) for name in NAMES},
                             options.rounds)
    rates = {name: [BATCH * options.steps / duration for duration in values]
             for name, values in seconds.items()}
    table(rates, "images/s")
    ours, *others = NAMES.values()
    finish(options, rates, {f"over {other}": ratio(rates, ours, other) for other in others},
           {f"over {other}": f"at least {1.4 if 'PyTorch' in other else 1.5}"
            for other in others})


if __name__ == "__main__":
    main()
