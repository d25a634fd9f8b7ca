"""Time training steps of one strategy; started by strategies.py.

    mpirun -np N python benchmarks/one_strategy.py NAME STEPS [--layout KEY=VALUE …]

NAME is a strategy, or ``independent``: each rank trains alone, all at the same time. Each rank has
32 rows per step, float32 and one thread. Rank 0 prints one line of JSON: the seconds of each rank's
median step, and by kind of exchange the bytes that a rank sends per step, the mean over the ranks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter

import numpy as np
from contestants import BATCH, batches, data

from hpc_deepfake.core.streams import whole_lines

WARM_UP = 4


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("name", metavar="NAME", help="a strategy, or independent")
    cli.add_argument("steps", type=int, metavar="STEPS", help="number of measured steps")
    cli.add_argument("--layout", nargs="*", default=[], metavar="KEY=VALUE",
                     help="attributes of hpc_deepfake.strategies.layout.Layout")
    cli.add_argument("--compression", default="none", help="as for train")
    cli.add_argument("--micro-batches", type=int, default=1, metavar="N", help="as for train")
    options = cli.parse_args()
    whole_lines()

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
    # ranks of one data share have the same rows; all shares together have BATCH rows per rank
    own = [np.resize(order, rows)[share(np.arange(rows), index, shares)]
            for order in batches(WARM_UP + options.steps)]
    for number, (images, marks) in enumerate(prefetch(
            lambda numbers: (pictures[numbers], labels[numbers]), own)):
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
            kind: size / world.size / len(own) for kind, size in sent.items()}}), flush=True)


if __name__ == "__main__":
    main()
