"""Program of test_mesh: what each mesh of N ranks computes from the same global batches.

    mpirun -np N python tests/mpi/meshes.py OUT.npz

Rank 0 writes the results. One rank is sequential, with 1 and 3 micro-batches: the references.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hpc_deepfake import strategies
from hpc_deepfake.data.rows import share
from hpc_deepfake.network import device
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.strategies import collectives
from hpc_deepfake.strategies.layout import Layout
from hpc_deepfake.strategies.mesh.shape import parse
from hpc_deepfake.train import __main__ as train
from hpc_deepfake.train.loop import dropout_seed

SIZE = 32  # of the pictures: what ranks compute together doesn't depend on it
train.before_mpi(["--strategy", "mesh"])
from mpi4py import MPI  # noqa: E402 (what is said before counts)

COMM = MPI.COMM_WORLD


class Case(NamedTuple):
    name: str
    micro: int
    layout: Layout


def case(mesh: str, micro: int = 1, note: str = "", **more: str) -> Case:
    return Case(mesh + note, micro, Layout(mesh=mesh, **more))


CASES = {
    1: [Case("sequential 1", 1, Layout()), Case("sequential 3", 3, Layout())],
    2: [case("data=2"), case("tensor=2"), case("tensor=2", note=" column", tensor_layout="column"),
        case("pipeline=2", 3), case("pipeline=2", 3, " gpipe", schedule="gpipe")],
    3: [case("tensor=3"), case("pipeline=3", 3, stages="bn1,dense2")],
    4: [case("data=2,tensor=2"), case("data=2,pipeline=2", 3),
        case("tensor=2,pipeline=2", 3, tensor_layout="column", stages="dense1")],
    8: [case("data=2,tensor=2,pipeline=2", 3, stages="conv2")],
}[COMM.size]
device.start("cpu", threads=1)
SETS = [group for one in CASES if one.layout.mesh
        for group in parse(one.layout.mesh, COMM.size).groups()]
if SETS:
    collectives.start(COMM, False, 60, 600, SETS)

import keras  # noqa: E402 (after the device)
import tensorflow as tf  # noqa: E402

from hpc_deepfake.network import table  # noqa: E402
from hpc_deepfake.strategies.base import STOP, Batch, Strategy  # noqa: E402
from hpc_deepfake.strategies.mesh import layers, pipeline  # noqa: E402
from hpc_deepfake.strategies.mesh import strategy as mesh_strategy  # noqa: E402
from hpc_deepfake.strategies.mesh.schedule import most_live  # noqa: E402
from hpc_deepfake.strategies.mesh.stage import Local, Stage  # noqa: E402
from hpc_deepfake.strategies.mesh.strategy import Mesh  # noqa: E402

EXACT = Settings(dropout=0.0, sync_bn=True)
SGD = replace(EXACT, precision="float64", optimizer="sgd", learning_rate=0.01)
IN_FLOAT32 = (1, 2)  # ranks
CLIP_NORM, CLIPPED = 0.05, 3  # smaller than the norm in each of that many steps
found: dict[str, np.ndarray | float] = {}


def make(one: Case, settings: Settings, kind: type[Strategy] | None = None) -> Strategy:
    keras.utils.set_random_seed(0)
    kind = kind or strategies.get("mesh" if one.layout.mesh else "sequential")
    network = table.build("float64" if settings.precision == "float64" else "float32", SIZE) \
        if kind.wants_model(COMM.rank) else None
    strategy = kind(network, replace(settings, accumulate=one.micro), COMM, one.layout)
    strategy.load(None)
    if one.layout.mesh:  # what is under way then must not lie in memory that is free
        finish, strategy.taken = strategy.stage.finish, []

        def taking(*inputs: object) -> object:
            strategy.taken = [np.full(count, np.nan) for count in range(1, 33)]
            return finish(*inputs)

        strategy.stage.finish = taking
    return strategy


def mine(strategy: Strategy, rows: int, step: int, micro: int) -> list[Batch]:
    """This rank's share of a global batch of noise."""
    random = np.random.default_rng(step)
    images = random.integers(0, 256, (rows, SIZE, SIZE, 3)).astype(np.uint8)
    labels = random.integers(0, 2, rows).astype(np.uint8)
    index, shares = strategy.share
    return [Batch(images[part], labels[part], dropout_seed(0, step * micro + place, index))
            for place, part in enumerate(share(whole, index, shares) for whole in
                                         np.array_split(np.arange(rows), micro))]


def train(strategy: Strategy, sizes: list[int]) -> np.ndarray:
    """Mean loss of each step; step i has sizes[i] rows in all."""
    micro = strategy.settings.accumulate
    return np.array([strategy.step(mine(strategy, rows, step, micro), rows, step, 0).loss / rows
                     for step, rows in enumerate(sizes)])


def some(values: np.ndarray) -> np.ndarray:
    """Of the large kernel every 97th number, which meets all rows, columns and channels."""
    return values.ravel()[::97 if values.size > 1_000_000 else 1]


def weights(strategy: Strategy) -> np.ndarray:
    """On rank 0."""
    whole = strategy.whole()
    return np.concatenate([some(value) for value in whole] or [np.empty(0)])


def gradients(name: str, strategy: Strategy, rows: int) -> None:
    batch, = mine(strategy, rows, 100, 1)
    for place, gradient in enumerate(strategy.gradients(batch, rows)):
        found[f"{name}/{strategy.settings.precision}/gradient{rows}/{place}"] = some(gradient)


def spread(strategy: Mesh) -> float:
    """Largest difference between ranks of a weight that both hold, after training."""
    small = {(one.name, 0 if one.axis is None else strategy.place.tensor):
             strategy.weights[one.name].numpy() for one in strategy._exchange.own(strategy._table)
             if one.size < 10_000}
    every = COMM.allgather(small)
    return max(float(np.abs(value - other[key]).max()) for key, value in small.items()
               for other in every if key in other)


def clipped(one: Case, strategy: Strategy) -> list[np.ndarray]:
    """Continue with --clip-norm, which is taken outside of the graphs of a mesh; the state before.
    """
    settings, state = replace(strategy.settings, clip_norm=CLIP_NORM), strategy.state()
    if isinstance(strategy, Mesh):
        strategy.settings = strategy.stage._settings = settings
    else:
        strategy = make(one, settings)
        strategy.load(state)
    found[f"{one.name}/clipped/before"] = weights(strategy)
    found[f"{one.name}/clipped/loss"] = train(strategy, [3] * CLIPPED)
    found[f"{one.name}/clipped/weights"] = weights(strategy)
    return state


def unsummed(one: Case, strategy: Mesh, state: list[np.ndarray]) -> None:
    """The same with a mistake: each rank clips by the norm of its own part."""
    strategy.load(state)
    strategy._model_comm = MPI.COMM_SELF
    train(strategy, [3] * CLIPPED)
    found[f"{one.name}/unsummed/weights"] = weights(strategy)


def diverging(one: Case, strategy: Strategy) -> None:
    """A step after the network's last bias has become NaN on the last rank. The strategy is of no
    use afterwards."""
    found[f"{one.name}/diverged/before"] = COMM.allgather(strategy.finite())
    if COMM.rank == COMM.size - 1:
        [bias] = [variable for variable in strategy.variables if variable.shape == (2,)]
        bias.assign(tf.fill(bias.shape, tf.constant(np.nan, bias.dtype)))
    found[f"{one.name}/diverged/weights"] = COMM.allgather(strategy.finite())
    done = strategy.step(mine(strategy, 8, 0, one.micro), 8, 41, STOP)
    found[f"{one.name}/diverged/done"] = COMM.allgather(done.diverged)
    found[f"{one.name}/diverged/at"] = COMM.allgather(
        -1 if strategy.diverged_at is None else strategy.diverged_at)


def compare(one: Case) -> None:
    strategy = make(one, SGD)
    for rows in (5, 1):  # the shares of some are smaller, or empty
        gradients(one.name, strategy, rows)
    # at last fewer rows than micro-batches
    found[f"{one.name}/sgd/loss"] = train(strategy, [3] * 6 + [6] * 2 + [3, 4, 5, 2])
    found[f"{one.name}/sgd/weights"] = weights(strategy)
    here = strategy.probabilities(mine(strategy, 6, 7, 1)[0].pictures)
    found[f"{one.name}/probabilities"] = np.concatenate(
        COMM.allgather(here if strategy.speaks else here[:0]))
    state = clipped(one, strategy)
    if isinstance(strategy, Mesh):
        found[f"{one.name}/spread"] = COMM.allreduce(spread(strategy), MPI.MAX)
        place, stages = strategy.place.stage, strategy.shape.pipeline
        held = strategy.pipeline.most_live
        assert held == most_live(one.layout.schedule, stages, one.micro, place), held
        found[f"{one.name}/live"] = COMM.allreduce(held, MPI.MAX)
        assert not strategy.pipeline.live
        if "tensor" in one.name and COMM.size == 2:
            unsummed(one, strategy, state)
    diverging(one, strategy)
    if one.name in ("sequential 1", "tensor=2"):
        layerwise(one)
    if COMM.size not in IN_FLOAT32 or one.layout.schedule == "gpipe":  # compiling takes longest
        return
    strategy = make(one, EXACT)
    gradients(one.name, strategy, 5)
    found[f"{one.name}/adam/loss"] = train(strategy, [8] * 5 + [3])
    if COMM.size < 3 and strategy.share[1] == 1:  # dropout masks are the share's own
        found[f"{one.name}/dropout/loss"] = train(
            make(one, replace(SGD, dropout=0.5, learning_rate=1e-4)), [3] * 3)
        found[f"{one.name}/bfloat16/loss"] = train(
            make(one, Settings(precision="bfloat16", dropout=0.0)), [8] * 3)


def layerwise(one: Case, name: str = "lamb") -> None:
    """LAMB, whose norms are those of whole layers, with averaged weights and a weighted loss."""
    strategy = make(one, replace(SGD, optimizer="lamb", weight_decay=0.1, ema=0.8,
                                 label_smoothing=0.1))
    strategy.class_weights = 0.75, 1.5
    found[f"{one.name}/{name}/loss"] = train(strategy, [3] * 3)
    strategy.swap()
    found[f"{one.name}/{name}/weights"] = np.concatenate(
        [some(value) for value in strategy.state()] or [np.empty(0)])


def mistakes() -> None:
    """Comparisons of meshes with a mistake in what makes them one."""
    class Unreduced(Stage):
        def _reduce(self, gradients: list[tf.Tensor], batch: list[tf.Tensor]) -> Local:
            whole = super()._reduce(gradients, batch)
            return whole._replace(gradients=[*whole.gradients[:-1], gradients[-1]])

    data, tensor, _, line, _ = CASES
    mesh_strategy.Stage = Unreduced
    found["data=2 unreduced/sgd/loss"] = train(make(data, SGD), [3] * 6)
    mesh_strategy.Stage = Stage
    copy_to, layers.copy_to = layers.copy_to, lambda x, *_: x
    strategy = make(tensor, SGD)
    gradients("tensor=2 uncopied", strategy, 5)
    found["tensor=2 uncopied/sgd/loss"] = train(strategy, [3] * 6)
    layers.copy_to = copy_to
    reduce_from, layers.reduce_from = layers.reduce_from, lambda x, *_: x
    whole, mesh_strategy._whole = mesh_strategy._whole, lambda cut, groups, squares: squares
    layerwise(tensor, "own norms")
    mesh_strategy._whole = whole
    found["tensor=2 unsummed/adam/loss"] = train(make(tensor, EXACT), [8] * 3)
    layers.reduce_from = reduce_from
    tag = pipeline._tag
    if COMM.rank == 1:  # sends the gradients of micro-batches 0 and 1 under each other's number
        pipeline._tag = lambda operation: tag(operation) ^ 2 if operation.kind == "backward" \
            and operation.micro < 2 else tag(operation)
    found["pipeline=2 swapped/sgd/loss"] = train(make(line, SGD), [3] * 6)
    pipeline._tag = tag


for one in CASES:
    compare(one)
if COMM.size == 2:
    mistakes()
COMM.Barrier()  # a rank that leaves takes Horovod from the others
if COMM.rank == 0:
    np.savez(Path(sys.argv[1]), **found)
