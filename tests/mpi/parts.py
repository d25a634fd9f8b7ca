"""Program of test_parts: what ranks that hold parts of a network compute of any Keras model.

    mpirun -np N python tests/mpi/parts.py OUT.npz mesh

Rank 0 writes the results. One rank is sequential: the references.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np

from hpc_deepfake import strategies
from hpc_deepfake.data.rows import share
from hpc_deepfake.network import device
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.strategies import collectives
from hpc_deepfake.strategies.layout import Layout
from hpc_deepfake.train import __main__ as program

sys.path.append(str(Path(__file__).resolve().parents[1]))
program.before_mpi(["--strategy", "mesh"])
from mpi4py import MPI  # noqa: E402 (what is said before counts)

COMM = MPI.COMM_WORLD
SIZES = {"stacked": 16, "branched": 16, "meso4": 64}
EXACT = Settings(network="any", dropout=0.0, sync_bn=True, precision="float64", optimizer="sgd",
                 learning_rate=0.01, accumulate=2, batch_size=2)


class Case(NamedTuple):
    name: str
    network: str
    strategy: str
    layout: Layout = Layout()
    settings: Settings = EXACT


# with one share of the rows the masks are the same; a normalisation is frozen, too
RANDOM = replace(EXACT, dropout=None)
CASES = {
    1: [Case(name, name, "sequential") for name in SIZES]
    + [Case("stacked random", "stacked", "sequential", settings=RANDOM)],
    2: [Case("stacked random pipeline=2", "stacked", "mesh",
             Layout(mesh="pipeline=2", stages="pool"), RANDOM),
        Case("meso4 pipeline=2", "meso4", "mesh", Layout(mesh="pipeline=2")),
        Case("stacked hybrid", "stacked", "hybrid")],
    4: [Case("branched data=2,pipeline=2", "branched", "mesh", Layout(mesh="data=2,pipeline=2"))]}
device.start("cpu", threads=1)
if COMM.size > 1:
    collectives.start(COMM, False, 60, 600,
                      [(0, 2), (1, 3)] if COMM.size == 4 else [])

import keras  # noqa: E402 (after the device)
import tensorflow as tf  # noqa: E402
from small_networks import branched, stacked  # noqa: E402

from hpc_deepfake.network import general, registry  # noqa: E402
from hpc_deepfake.strategies.base import Batch, Strategy  # noqa: E402
from hpc_deepfake.strategies.hybrid import Hybrid  # noqa: E402
from hpc_deepfake.strategies.mesh.chain_part import ChainPart  # noqa: E402
from hpc_deepfake.strategies.mesh.part import Output  # noqa: E402
from hpc_deepfake.strategies.sequential import Sequential  # noqa: E402

# of these bytes the small networks have several
SMALL_BUCKETS = partial(general.buckets, first=500, size=2000)
found: dict[str, np.ndarray | float] = {}


def built(case: Case) -> keras.Model:
    keras.utils.set_random_seed(0)
    if case.network == "meso4":
        return registry.build(case.network, SIZES[case.network], "float64")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    model = {"branched": branched, "stacked": stacked}[case.network]()
    keras.config.set_dtype_policy(before)
    if case.settings == RANDOM:
        model.get_layer("bn").trainable = False
    return model


def make(case: Case) -> Strategy:
    kind = strategies.get(case.strategy)
    with mock.patch.object(general, "buckets", SMALL_BUCKETS):
        strategy = kind(built(case) if kind.wants_model(COMM.rank) else None,
                        case.settings, COMM, case.layout)
    strategy.load(None)
    return strategy


def mine(case: Case, strategy: Strategy, rows: int, seed: int, micro: int = 1) -> list[Batch]:
    """This rank's share of a global batch of noise."""
    random, (index, shares) = np.random.default_rng(seed), strategy.share
    labels = random.integers(0, 2, rows).astype(np.uint8)
    size = SIZES[case.network]
    images = random.integers(0, 256, (rows, size, size, 3)).astype(np.uint8)
    return [Batch(images[part], labels[part], np.array([seed, place], np.int32))
            for place, part in enumerate(share(whole, index, shares) for whole in
                                         np.array_split(np.arange(rows), micro))]


def train(case: Case, strategy: Strategy, sizes: tuple[int, ...] = (5, 6, 1)) -> np.ndarray:
    """Mean loss of each step; step i has sizes[i] rows in all, at last fewer than micro-batches."""
    return np.array([strategy.step(mine(case, strategy, rows, step, 2), rows, step, 0).loss / rows
                     for step, rows in enumerate(sizes)])


def flat(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0), *(array.ravel() for array in arrays)])


def compute(case: Case) -> None:
    strategy = make(case)
    found[f"{case.name}/losses"] = train(case, strategy)
    for kind, size in strategy.settle({})[0].counts.get("bytes", {}).items():
        found[f"{case.name}/bytes/{kind}"] = size
    whole, state = strategy.whole(), strategy.state()
    found[f"{case.name}/weights"] = flat(whole)
    if case.network == "meso4":  # enough of it
        return
    pictures = np.random.default_rng(7).integers(0, 256, (3, *[SIZES[case.network]] * 2, 3))
    pictures = pictures.astype(np.uint8)
    index, shares = strategy.evaluation_share
    here = strategy.probabilities(pictures[share(np.arange(3), index, shares)])
    found[f"{case.name}/probabilities"] = np.concatenate(
        COMM.allgather(here if strategy.speaks else here[:0]))
    if COMM.rank == 0:  # taken up by one rank alone, bit for bit; and as a model for files
        alone = Sequential(built(case), case.settings)
        alone.load(state)
        found[f"{case.name}/state"] = np.array_equal(flat(state), flat(alone.state()))
        found[f"{case.name}/model"] = \
            strategy.keras_model(whole).predict_on_batch(pictures)[:, 1]
    strategy.load(state if COMM.rank == 0 else None)
    found[f"{case.name}/again"] = np.array_equal(flat(state), flat(strategy.state()))


def mistakes(stages: Case, _: Case, rows: Case) -> None:
    """The same with mistakes in what parts of a network have in common."""
    complete, state, of_kernel = ChainPart.train, general._state, Hybrid._reduce_kernel

    def without_penalty(part: ChainPart, *inputs: tf.Tensor) -> Output:
        return complete(part, *inputs)._replace(penalty=None)

    ChainPart.train = without_penalty
    found["without penalty/weights"] = _weights(stages)
    ChainPart.train = complete
    general._state = lambda seed, name, kind: state(seed, f"stage {COMM.rank}", kind)
    found["own masks/losses"] = train(stages, make(stages))
    general._state = state
    # all buckets as if they were of the kernel, whose sum over the ranks of its group exists
    Hybrid._reduce_kernel = lambda self, gradient, name: gradient
    found["own buckets/weights"] = _weights(rows)
    Hybrid._reduce_kernel = of_kernel


def _weights(case: Case) -> np.ndarray:
    strategy = make(case)
    train(case, strategy)
    return flat(strategy.whole())


for case in CASES[COMM.size]:
    compute(case)
if COMM.size == 2:
    mistakes(*CASES[2])
COMM.Barrier()  # a rank that leaves takes Horovod from the others
if COMM.rank == 0:
    np.savez(Path(sys.argv[1]), **found)
