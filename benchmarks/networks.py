"""Every network's training step against Keras' own ``fit`` of the same model, and two ranks.

    python benchmarks/networks.py [--networks NAME,…] [--batch N] [--json FILE]

One step on one core: this project, and Keras with and without XLA, in turn on the same core; the
ratio is that over the faster of both. Then two ranks of ``sync`` with the last network, against two
processes of this project that don't communicate. XLA compiles a large network for minutes:
BENCHMARK_TIMEOUT=1200 waits for it.
"""

from __future__ import annotations

import os
import statistics
import sys

from common import arguments, finish, interleave, ratio, table
from workers import Worker, started

from hpc_deepfake.network.registry import NAMES

CONTESTANTS = {"ours": "this project", "keras": "fit", "keras_without_xla": "fit without XLA"}
INDEPENDENT, RANKS = "two independent processes", "two ranks, sync"


def main() -> None:
    options = arguments(__doc__, rounds=5, steps=3, size=128, batch=16, networks=",".join(
        [*(name for name in NAMES if name not in ("table", "resnet50")), "resnet50"]))
    rates: dict[str, list[float]] = {}
    ratios, targets = {}, {}
    names = options.networks.split(",")
    for name in names:
        own = {f"{name}: {text}": values for text, values in _steps(name, options).items()}
        rates |= own
        ours, *others = own
        faster = max(others, key=lambda other: statistics.median(own[other]))
        ratios[f"{name} over Keras' fit"] = ratio(own, ours, faster)
        targets[f"{name} over Keras' fit"] = "at least 1"
    last = f"{names[-1]}, two ranks over two processes"
    rates |= {f"{names[-1]}: {text}": values for text, values in _ranks(names[-1], options).items()}
    ratios[last] = ratio(rates, *(f"{names[-1]}: {text}" for text in (RANKS, INDEPENDENT)))
    targets[last] = "at least 0.9"
    table(rates, "images/s")
    finish(options, rates, ratios, targets)


def _environment(name: str, options) -> dict[str, str]:
    return {"NETWORK": name, "SIZE": str(options.size), "BATCH": str(options.batch)}


def _steps(name: str, options) -> dict[str, list[float]]:
    """Pictures per second of each contestant on one core, in turn."""
    core = {min(os.sched_getaffinity(0))}
    with started({key: [Worker(key, cores=core, interpreter=sys.executable,
                               **_environment(name, options))] for key in CONTESTANTS}) as groups:

        def run(key: str) -> None:
            groups[key][0].begin(options.steps)
            groups[key][0].seconds()

        seconds = interleave({text: lambda key=key: run(key) for key, text in CONTESTANTS.items()},
                             options.rounds)
    return {text: [options.batch * options.steps / duration for duration in values]
            for text, values in seconds.items()}


def _ranks(name: str, options) -> dict[str, list[float]]:
    """Pictures per second of two processes together."""
    rates: dict[str, list[float]] = {INDEPENDENT: [], RANKS: []}
    for _ in range(options.rounds):
        for text, own in rates.items():
            settings = {"interpreter": sys.executable, **_environment(name, options)}
            workers = [Worker("ours", ranks=2, **settings)] if text == RANKS else \
                [Worker("ours", **settings) for _ in range(2)]
            with started({text: workers}):
                for worker in workers:
                    worker.begin(options.steps)
                seconds = [rank for worker in workers for rank in worker.seconds()]
            own.append(sum(options.batch * options.steps / duration for duration in seconds))
    return rates


if __name__ == "__main__":
    main()
