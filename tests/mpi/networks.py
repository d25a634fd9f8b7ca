"""Program of test_network_ranks: what the data parallel strategies compute of any Keras model.

    mpirun -np N python tests/mpi/networks.py OUT.npz

Rank 0 writes the results. With one rank the strategy is sequential: the reference.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
from mpi4py import MPI

from hpc_deepfake import strategies
from hpc_deepfake.data.rows import share
from hpc_deepfake.network import device
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.strategies.layout import Layout

sys.path.append(str(Path(__file__).resolve().parents[1]))
COMM = MPI.COMM_WORLD
NAME = strategies.choose("auto", COMM.size)
device.start("cpu", threads=1)
strategies.prepare(NAME, COMM, False)

import keras  # noqa: E402 (after the device)
import tensorflow as tf  # noqa: E402
from small_networks import branched, located  # noqa: E402

from hpc_deepfake.network import general, maps, registry  # noqa: E402
from hpc_deepfake.strategies.base import Batch  # noqa: E402
from hpc_deepfake.strategies.sequential import Sequential  # noqa: E402

STRATEGY = strategies.get(NAME)
SIZES = {"branched": 16, "meso4": 64, "located": 16}
OWN = {"branched": branched, "located": located}
EXACT = Settings(network="any", dropout=0.0, sync_bn=True, precision="float64", optimizer="sgd",
                 learning_rate=0.01)
# of these bytes the small networks have several
SMALL_BUCKETS = partial(general.buckets, first=500, size=2000)


def built(name: str, precision: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    if name not in OWN:
        return registry.build(name, SIZES[name], precision)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    model = OWN[name]()
    keras.config.set_dtype_policy(before)
    return model


def make(name: str, settings: Settings, kind: type[Sequential] = STRATEGY,
         layout: Layout | None = None) -> Sequential:
    with mock.patch.object(general, "buckets", SMALL_BUCKETS):
        strategy = kind(built(name, settings.precision), settings, COMM, layout)
    strategy.load(None)
    return strategy


def mine(name: str, rows: int, seed: int, micro: int = 1) -> list[Batch]:
    """This rank's share of a global batch of ``micro`` micro-batches of noise."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, rows).astype(np.uint8)
    size, located = SIZES[name], name == "located"
    images = random.integers(0, 256, (rows, size, size, 6 if located else 3)).astype(np.uint8)
    masks = random.choice(np.array([0, 1, 255], np.uint8), (rows, size, size))
    masks[::3] = 255  # unknown
    masks[1::3] = 0
    return [Batch(images[part], labels[part], np.array([seed, 7], np.int32),
                  masks[part] if located else None) for part in (
        share(whole, COMM.rank, COMM.size) for whole in np.array_split(np.arange(rows), micro))]


def train(name: str, strategy: Sequential, sizes: list[int]) -> np.ndarray:
    """Mean loss of each step; step i has sizes[i] rows in all."""
    losses = []
    for step, rows in enumerate(sizes):
        done = strategy.step(mine(name, rows, step, strategy.settings.accumulate), rows, step)
        losses.append(done.loss / max(done.rows, 1))
    return np.array(losses)


def weights(strategy: Sequential) -> np.ndarray:
    return np.concatenate([one.ravel() for one in strategy.whole()] or [np.empty(0)])


class Forgetful(STRATEGY):
    """A mistake: one bucket isn't reduced."""

    def _reduce_bucket(self, gradients: list[tf.Tensor], name: str) -> list[tf.Tensor]:
        return gradients if name == "bucket1" else super()._reduce_bucket(gradients, name)


def compute(name: str, found: dict[str, object]) -> None:
    strategy = make(name, EXACT)
    found["buckets"] = len(strategy.weights.buckets)
    for rows in (10, 2):  # 2: a rank of three has none
        batch, = mine(name, rows, 100)
        found[f"gradient{rows}"] = np.concatenate(
            [one.ravel() for one in strategy.gradients(batch, rows)])
    found["sgd/loss"] = train(name, strategy, [6, 6, 6, 2, 5])
    found["sgd/weights"] = weights(strategy)
    found["sgd/bytes"] = sum(strategy.settle({})[0].counts.get("bytes", {}).values())
    found["numbers"] = sum(v.shape.num_elements()
                           for v in (*strategy.weights.trainable, *strategy.weights.moving))
    if COMM.size == 3:  # of unequal shares enough
        return
    accumulating = make(name, replace(EXACT, accumulate=2, clip_norm=0.5))
    found["accumulate/loss"] = train(name, accumulating, [8, 7])
    found["accumulate/weights"] = weights(accumulating)
    adam = make(name, replace(EXACT, optimizer="adam", precision="float32"))
    found["adam/loss"] = train(name, adam, [8, 8, 8, 3])
    own = make(name, replace(EXACT, sync_bn=False, dropout=None))
    found["own/loss"] = train(name, own, [6, 6, 6])
    found["own/weights"] = weights(own)
    moving = np.concatenate([v.numpy() for v in own.weights.moving])
    found["own/spread"] = np.abs(np.array(COMM.allgather(moving)) - moving).max()
    model = own.keras_model(own.whole()) if COMM.rank == 0 else None
    if model is not None:
        pictures = mine(name, 6, 0)[0].pictures
        found["model/difference"] = np.abs(
            model.predict_on_batch(pictures)[:, 1] - own.probabilities(pictures)).max()
        if own.locates:
            probabilities, found["maps"] = own.located(pictures)
            found["maps/model"] = maps.quantised(maps.both(model).predict_on_batch(pictures)[1])
            assert np.abs(probabilities - own.probabilities(pictures)).max() < 1e-12
    if COMM.size == 1:
        return
    from hpc_deepfake.strategies.local import LocalSGD

    local = make(name, replace(EXACT, sync_bn=False, dropout=None), LocalSGD,
                 Layout(sync_every=1))
    train(name, local, [6, 6, 6])
    found["local/weights"] = weights(local)
    if name == "branched":
        half = make(name, replace(EXACT, compression="fp16"))
        found["fp16/loss"] = train(name, half, [6, 6, 6])
        forgetful = make(name, EXACT, Forgetful)
        train(name, forgetful, [6, 6, 6, 2, 5])
        found["forgetful/weights"] = weights(forgetful)


def main(out: Path) -> None:
    every: dict[str, object] = {}
    for name in SIZES if COMM.size < 3 else OWN:
        found: dict[str, object] = {}
        compute(name, found)
        every |= {f"{name}/{key}": value for key, value in found.items()}
    if COMM.rank == 0:
        np.savez(out, **every)


main(Path(sys.argv[1]))
