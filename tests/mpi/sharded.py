"""Program of test_hybrid: a small product with dealt rows against the whole one.

    mpirun -np 3 python tests/mpi/sharded.py

Unequal widths and unequal rows. Rank 0 prints JSON: largest differences, by exchanged type.
"""

from __future__ import annotations

import json

import numpy as np
from mpi4py import MPI

from hpc_deepfake.network import device

COMM = MPI.COMM_WORLD
device.start("cpu", threads=1)

import tensorflow as tf  # noqa: E402 (after the device)

from hpc_deepfake.strategies.collectives import process_set, start  # noqa: E402
from hpc_deepfake.strategies.meter import Meter  # noqa: E402
from hpc_deepfake.strategies.sharded import Sharded  # noqa: E402

start(COMM, False, 60, 600)
WIDTHS, ROWS, OUTPUTS = (4, 3, 3), (2, 1, 3), 5
random = np.random.default_rng(0)
x, w = random.normal(size=(sum(ROWS), sum(WIDTHS))), random.normal(size=(sum(WIDTHS), OUTPUTS))
upstream = random.normal(size=(sum(ROWS), OUTPUTS))
wanted = (x @ w, upstream @ w.T, x.T @ upstream)  # y, and the gradients of sum(y·upstream)


def part(values: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    return np.split(values, np.cumsum(sizes)[:-1])[COMM.rank]


found = {}
for kind, compute, brief in (("float64", tf.float64, False), ("bf16", tf.float64, True),
                             ("bfloat16", tf.bfloat16, False)):
    own = tf.float32 if compute == tf.bfloat16 else compute
    sharded = Sharded(WIDTHS, COMM.rank, process_set(range(COMM.size)), own, brief)

    @tf.function(autograph=False)
    def both(mine: tf.Tensor, rows: tf.Tensor, weights: tf.Tensor, sharded: Sharded = sharded,
             compute: tf.DType = compute) -> tuple:
        meter = Meter(True)
        with tf.GradientTape() as tape:
            tape.watch([mine, rows])
            y = sharded.product(tf.cast(mine, compute), tf.cast(rows, compute), meter, "test")
            total = tf.reduce_sum(tf.cast(y, weights.dtype) * weights)
        return y, *tape.gradient(total, [mine, rows]), meter.total()

    y, for_x, for_w, total = both(*(tf.constant(part(*pair), own) for pair in (
        (x, ROWS), (w, WIDTHS), (upstream, ROWS))))
    here = [tf.cast(one, tf.float64).numpy() for one in (y, for_x, for_w)]
    found[kind] = [float(np.abs(np.concatenate(COMM.allgather(got)) - want).max())
                   for got, want in zip(here, wanted)]
    found[f"{kind}/sent"] = COMM.allgather(total.numpy()[2:].tolist())
if COMM.rank == 0:
    print(json.dumps(found))
