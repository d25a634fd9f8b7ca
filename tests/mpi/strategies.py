"""Program of test_equivalence: what each strategy computes from the same global batches.

    mpirun -np N python tests/mpi/strategies.py OUT.npz SIZE [hybrid [SHARD_GROUP]]

Rank 0 writes the results, of the network for pictures of SIZE × SIZE. With one rank the strategy is
sequential: the reference; with more it is sync, if no other is named. In the usual size these are
the first gradients, and what a rank of ``hybrid`` holds and sends; in a smaller one all else, too.
"""

from __future__ import annotations

import gc
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from mpi4py import MPI

from hpc_deepfake import strategies
from hpc_deepfake.data.rows import share
from hpc_deepfake.network import device
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.strategies.layout import Layout
from preprocessing import ela

COMM = MPI.COMM_WORLD
SIZE = int(sys.argv[2])
LAYOUT = Layout(shard_group=int(sys.argv[4]) if len(sys.argv) > 4 else 0)
NAME = strategies.choose(sys.argv[3] if len(sys.argv) > 3 else "auto", COMM.size,
                         layout=LAYOUT)
device.start("cpu", threads=1)
strategies.prepare(NAME, COMM, False, LAYOUT)

import keras  # noqa: E402 (after the device)
import tensorflow as tf  # noqa: E402

from hpc_deepfake.network import table  # noqa: E402
from hpc_deepfake.network.shapes import Shapes  # noqa: E402
from hpc_deepfake.strategies.base import SAVE, STOP, Batch  # noqa: E402
from hpc_deepfake.strategies.sequential import Parts, Sequential  # noqa: E402

STRATEGY = strategies.get(NAME)
EXACT = Settings(dropout=0.0, sync_bn=True)
CLIP_NORM = 120.0  # of the four steps with micro-batches some have a larger norm, some a smaller


def pictures(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A global batch of noise, which can't be learned: the losses stay large."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, rows).astype(np.uint8)
    return random.integers(0, 256, (rows, SIZE, SIZE, 3)).astype(np.uint8), labels


def make(settings: Settings, kind: type[Sequential] = STRATEGY,
         layout: Layout = LAYOUT) -> Sequential:
    keras.utils.set_random_seed(0)
    strategy = kind(table.build(settings.precision, SIZE), settings, COMM, layout)
    strategy.load(None)
    return strategy


def mine(rows: int, seed: int, micro: int = 1) -> list[Batch]:
    """This rank's share of a global batch of ``micro`` micro-batches."""
    images, labels = pictures(rows, seed)
    return [Batch(images[part], labels[part], np.zeros(2, np.int32)) for part in (
        share(whole, COMM.rank, COMM.size) for whole in np.array_split(np.arange(rows), micro))]


def train(strategy: Sequential, sizes: list[int]) -> np.ndarray:
    """Mean loss of each step; step i has sizes[i] rows in all."""
    return np.array([strategy.step(mine(rows, step, strategy.settings.accumulate), rows,
                                   step).loss / rows for step, rows in enumerate(sizes)])


def gradients(found: dict[str, np.ndarray | float], strategy: Sequential) -> None:
    """The first ones. 10 rows: unequal shards at 3 and 4 ranks; 3 rows: a rank without any at 4."""
    for rows in (10, 3):
        batch, = mine(rows, 100)
        for place, gradient in enumerate(strategy.gradients(batch, rows)):
            found[f"{strategy.settings.precision}/gradient{rows}/{place}"] = gradient


def weights(strategy: Sequential) -> np.ndarray:
    """The whole ones, on rank 0."""
    return np.concatenate([one.ravel() for one in strategy.whole()] or [np.empty(0)])


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def moving_spread(strategy: Sequential) -> float:
    """Largest difference of a moving statistic between ranks."""
    here = np.concatenate([v.numpy() for v in strategy.weights.moving])
    every = np.array(COMM.allgather(here))
    return float(np.abs(every - every[0]).max())


def broken(name: str) -> type[Sequential]:
    """The strategy with a mistake, which the comparison must find."""

    class Broken(STRATEGY):
        def _reduce(self, parts: Parts) -> Parts:
            whole = super()._reduce(parts)
            if name == "unreduced_gradient":  # of one bias only
                return whole._replace(gradients=[*whole.gradients[:-1], parts.gradients[-1]])
            if name == "wrong_divisor":
                return whole._replace(gradients=[g / COMM.size for g in whole.gradients])
            return whole._replace(batch=[value * COMM.size for value in parts.batch])

        def _allreduce(self, value: tf.Tensor, key: str) -> tf.Tensor:
            if name == "local_statistics" and key.endswith("_forward"):
                return value
            return super()._allreduce(value, key)

    return Broken


def data_parallel(found: dict[str, np.ndarray | float], sgd: Settings) -> None:
    strategy = make(replace(EXACT, sync_bn=False))  # the default: each rank's own statistics
    found["fp16/reference"] = train(strategy, [8, 8, 8, 3])
    found["own_bn/spread"] = moving_spread(strategy)
    found["own_bn/finite"] = np.isfinite(weights(strategy)).all()
    found["own_bn/bytes"] = sum(strategy.settle({})[0].counts.get("bytes", {}).values())
    if COMM.size > 1:
        for name in ("dense_kernel", "rest"):
            found[f"waits/{name}"] = awaited(strategy, name)
    diverging(found, strategy)
    strategy = make(replace(EXACT, sync_bn=False, compression="fp16"))
    found["fp16/loss"] = train(strategy, [8, 8, 8, 3])
    if COMM.size == 2:
        for name in ("unreduced_gradient", "wrong_divisor", "local_statistics"):
            strategy = make(sgd, partial(broken(name)))
            found[f"{name}/loss"] = train(strategy, [6] * 6)
            found[f"{name}/weights"] = weights(strategy)


def awaited(strategy: Sequential, name: str) -> int:
    """Number of gradients of convolutions without which a reduction of a step can't begin: of
    TensorFlow's, one each for kernel and input."""
    operations = strategy._step.get_concrete_function().graph.get_operations()
    waiting = [one for one in operations
               if one.type == "HorovodAllreduce" and one.name.split("/")[-1] == name]
    assert len(waiting) == 1
    before: set[tf.Operation] = set()
    while waiting:
        operation = waiting.pop()
        if operation not in before:
            before.add(operation)
            waiting += [*operation.control_inputs, *(value.op for value in operation.inputs)]
    return sum(one.type.startswith(("Conv2DBackprop", "HpcDeepfakeConvolutionGradient"))
               for one in before)


def broken_hybrid(name: str) -> type[Sequential]:
    """As ``broken``: what only ``hybrid`` can get wrong."""
    from hpc_deepfake.strategies.sharded import Sharded

    class Unexchanged(Sharded):
        def _all_to_all(self, flat: tf.Tensor, splits: tf.Tensor, meter: object, key: str,
                        **more: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            if key == f"dense1_{name.removeprefix('unexchanged_')}":
                return flat, splits
            return super()._all_to_all(flat, splits, meter, key, **more)

    class Broken(STRATEGY):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)
            if self._sharded:
                self._sharded.__class__ = Unexchanged

        def _reduce_kernel(self, gradient: tf.Tensor, key: str) -> tf.Tensor:
            return gradient if name == "unreduced_kernel" else super()._reduce_kernel(gradient, key)

        def _whole_squares(self, squares: tf.Tensor) -> tf.Tensor:
            return squares if name == "unsummed_norms" else super()._whole_squares(squares)

    return Broken


def first_step(found: dict[str, np.ndarray | float]) -> None:
    """What a rank of ``hybrid`` holds and sends; before anything else is made here."""
    before = whole_kernels()
    strategy = make(EXACT)
    strategy.step(mine(8, 0), 8, 0, 0)
    found |= {f"bytes/{kind}": size
              for kind, size in strategy.settle({})[0].counts["bytes"].items()}
    found["kernels"] = COMM.allgather(whole_kernels() - before)


def whole_kernels() -> int:
    """Variables of any kind on this rank that have as many elements as the large kernel."""
    gc.collect()
    return sum(isinstance(value, tf.Variable) and value.shape.num_elements() == Shapes(SIZE).kernel
               for value in gc.get_objects())


def hybrid(found: dict[str, np.ndarray | float], sgd: Settings) -> None:
    size = LAYOUT.shard_group or COMM.size
    if COMM.size == 3 or LAYOUT.shard_group == 4:
        return  # enough of it

    brief = replace(EXACT, sync_bn=False)
    found["bf16/reference"] = train(make(brief), [8] * 4)
    found["bf16/loss"] = train(make(replace(brief, compression="bf16")), [8] * 4)

    strategy = make(replace(EXACT, precision="float64"))
    train(strategy, [8])
    state, chances = strategy.state(), [strategy.probabilities(pictures(rows, 5)[0])
                                        for rows in (5, 1)]
    whole = strategy.whole()
    if COMM.rank == 0:  # the model for files has nothing in common with what is trained
        strategy.keras_model([np.zeros_like(value) for value in whole])
    there = strategy.whole()
    if COMM.rank == 0:
        found["model/own"] = same(whole, there)
    if COMM.rank == 0:  # alone, by the Keras model
        alone = Sequential(table.build("float64", SIZE), strategy.settings)
        alone.load(state)
        found["state/same"] = same(state, alone.state())
        for rows, got in zip((5, 1), chances):
            want = alone.probabilities(pictures(rows, 5)[0])
            found[f"probabilities/{rows}"] = np.abs(got - want).max()
        found["model/same"] = same(strategy.keras_model(whole).get_weights(),
                                   alone.model.get_weights())
    other = make(strategy.settings, STRATEGY,
                 Layout(shard_group=COMM.size if size < COMM.size else 1))
    other.load(state if COMM.rank == 0 else None)
    found["regrouped/kernel"] = COMM.allgather(other.weights.dense1[0].shape[0])
    there = other.state()
    if COMM.rank == 0:
        found["regrouped/same"] = same(state, there)
    found["regrouped/losses"] = [one.step(mine(8, 1), 8, 1, 0).loss for one in (strategy, other)]

    names = {2: ("unexchanged_sums", "unexchanged_backward"), 4: ("unreduced_kernel",)}
    for name in names[COMM.size]:
        found[f"{name}/loss"] = train(make(sgd, broken_hybrid(name)), [6] * 6)


def layerwise(found: dict[str, np.ndarray | float], sgd: Settings) -> None:
    """LAMB, whose norms are those of whole layers, with averaged weights and a weighted loss."""
    settings = replace(sgd, optimizer="lamb", weight_decay=0.1, ema=0.8, label_smoothing=0.1)
    mistake = ["unsummed_norms"] * (NAME == "hybrid" and COMM.size == 2)
    for name in ("lamb", *mistake):
        strategy = make(settings, STRATEGY if name == "lamb" else broken_hybrid(name))
        strategy.class_weights = 0.75, 1.5
        found[f"{name}/loss"] = train(strategy, [6, 6, 3])
        state = strategy.state()
        found[f"{name}/state"] = np.concatenate([one.ravel() for one in state] or [np.empty(0)])
        strategy.swap()
        found[f"{name}/averaged"] = weights(strategy)


def diverging(found: dict[str, np.ndarray | float], strategy: Sequential) -> None:
    """A step after a weight of the last rank, and only there, has become NaN: one that ReLU or
    pooling may hide, then one that the loss shows. The strategy is of no use afterwards."""
    last = COMM.rank == COMM.size - 1
    found["diverged/before"] = COMM.allgather(strategy.finite())
    bias = strategy.weights.dense1[1]
    if last:
        bias.assign(np.where(np.arange(bias.shape[0]) == 3, np.nan, bias.numpy()))
    found["diverged/weights"] = COMM.allgather(strategy.finite())
    bias = strategy.weights.dense2[1]
    if last:
        bias.assign(np.full(2, np.nan))
    done = strategy.step(mine(8, 0), 8, 41, STOP + SAVE * (COMM.rank == 0))
    found["diverged/done"] = COMM.allgather(done.diverged)
    found["diverged/at"] = COMM.allgather(-1 if strategy.diverged_at is None
                                          else strategy.diverged_at)


def main(out: Path) -> None:
    found: dict[str, np.ndarray | float] = {}
    if NAME == "hybrid":
        first_step(found)
    sgd = replace(EXACT, precision="float64", optimizer="sgd", learning_rate=0.01)
    exact = make(sgd)
    gradients(found, exact)
    adam = make(EXACT)
    gradients(found, adam)
    if SIZE < ela.SIZE:
        training(found, exact, adam)
    if COMM.rank == 0:
        np.savez(out, **found)


def training(found: dict[str, np.ndarray | float], exact: Sequential, adam: Sequential) -> None:
    """The steps, also ragged ones, and whatever else depends on no size."""
    sgd = exact.settings
    found["float64/loss"] = train(exact, [6] * 8 + [3, 5])
    found["float64/weights"] = weights(exact)
    strategy = make(replace(sgd, accumulate=2, clip_norm=CLIP_NORM))
    found["accumulate/loss"] = train(strategy, [8, 8, 7, 5])
    found["accumulate/weights"] = weights(strategy)
    found["adam/loss"] = train(adam, [8] * 9 + [3])
    found["adam/spread"] = moving_spread(adam)
    if COMM.size < 3 or LAYOUT.shard_group == 2:
        layerwise(found, sgd)
    if NAME == "hybrid":
        diverging(found, adam)
        hybrid(found, sgd)
    else:
        data_parallel(found, sgd)


main(Path(sys.argv[1]))
