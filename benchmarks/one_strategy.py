"""Training steps of one strategy, timed; started by strategies.py.

    mpirun -np N python benchmarks/one_strategy.py NAME STEPS [--layout KEY=VALUE …]

NAME is a strategy, or ``independent``: each rank trains alone, all at the same time. Each rank has
32 rows a step, float32, one thread. Rank 0 prints one line of JSON: the median step's seconds of
each rank, and by kind the bytes that a rank sends in a step, the mean over all.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter

import numpy as np
from contestants import BATCH, batches, data

WARM_UP = 4


def main() -> None:
    cli = argparse.ArgumentParser()
    cli.add_argument("name")
    cli.add_argument("steps", type=int)
    cli.add_argument("--layout", nargs="*", default=[])
    cli.add_argument("--compression", default="none")
    cli.add_argument("--micro-batches", type=int, default=1)
    options = cli.parse_args()

    from hpc_deepfake import strategies
    from hpc_deepfake.network import device, table
    from hpc_deepfake.train import __main__ as train

    if options.name != "independent":
        train.before_mpi(["--strategy", options.name])
    from mpi4py import MPI

    from hpc_deepfake.data.rows import prefetch, share
    from hpc_deepfake.network.settings import Settings
    from hpc_deepfake.strategies.base import Batch
    from hpc_deepfake.strategies.layout import Layout

    world = MPI.COMM_WORLD
    alone = options.name == "independent"
    name, comm = ("sequential", None) if alone else (options.name, world)
    layout = Layout(**{key: int(value) if value.isdecimal() else value for key, _, value in
                       (pair.partition("=") for pair in options.layout)})
    device.start("cpu", threads=1)
    if not alone:
        strategies.prepare(strategies.choose(name, world.size, layout=layout),
                           comm, False, layout)
    micro = options.micro_batches
    strategy = strategies.get(name)(table.build(), Settings(
        compression=options.compression, accumulate=micro), comm, layout)
    strategy.load(None)
    pictures, labels = data()
    index, shares = strategy.share
    rows = BATCH if alone else BATCH * world.size
    seconds = []
    world.Barrier()
    ready, sent = time.perf_counter(), Counter()
    # ranks that train one share together have its rows; all shares together as many as all ranks
    mine = [np.resize(order, rows)[share(np.arange(rows), index, shares)]
            for order in batches(WARM_UP + options.steps)]
    for number, (images, marks) in enumerate(prefetch(
            lambda one: (pictures[one], labels[one]), mine)):
        seed = np.array([0, number], np.int32)
        done = strategy.step([Batch(*part, seed) for part in zip(
            np.array_split(images, micro), np.array_split(marks, micro), strict=True)], rows,
            number, 0)
        now = time.perf_counter()
        if number >= WARM_UP:
            seconds.append(now - ready)
        sent.update(done.counts.get("bytes", {}))
        ready = now
    sent.update(strategy.settle({})[0].counts.get("bytes", {}))
    medians = world.gather(statistics.median(seconds))
    if world.rank == 0:
        print(json.dumps({"seconds": medians, "bytes": {
            kind: size / world.size / len(mine) for kind, size in sent.items()}}), flush=True)


if __name__ == "__main__":
    main()
