"""Program of test_parallel: regions, layers and stages on N ranks, beside serial ones.

    mpirun -np N python tests/mpi/parallel.py OUT.json

Rank 0 writes, for each case, the largest error over all ranks relative to the largest number; all
in float64. Serial layers see the whole input; shards are copied from their weights.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from mpi4py import MPI

from hpc_deepfake.network import device
from hpc_deepfake.network.shapes import Shapes
from hpc_deepfake.strategies import collectives

COMM = MPI.COMM_WORLD
SIZE = 32  # of the pictures: what ranks compute together doesn't depend on it
device.start("cpu", threads=1)
collectives.start(COMM, False, 60, 600)

import tensorflow as tf  # noqa: E402 (after the device)

from hpc_deepfake.network.batchnorm import synchronised  # noqa: E402
from hpc_deepfake.strategies.base import Arrays  # noqa: E402
from hpc_deepfake.strategies.mesh import layers, regions, shards  # noqa: E402
from hpc_deepfake.strategies.mesh.regions import Group  # noqa: E402
from hpc_deepfake.strategies.mesh.shape import bounds  # noqa: E402

tf.get_logger().setLevel("ERROR")  # it warns of functions that are made again and again
ALONE, GROUP = Group(), Group(tuple(range(COMM.size)), COMM.rank)
Layer = Callable[..., tf.Tensor]
found: dict[str, float] = {}


def numbers(*shape: int, seed: int = 0, kind: tf.DType = tf.float64) -> tf.Tensor:
    """The same on all ranks."""
    return tf.cast(np.random.default_rng(seed).standard_normal(shape), kind)


def mine(whole: tf.Tensor | np.ndarray, axis: int = -1) -> np.ndarray:
    """This rank's shard along an axis."""
    whole = np.asarray(whole)
    start, stop = bounds(COMM.rank, COMM.size, whole.shape[axis])
    return np.take(whole, range(start, stop), axis)


def run(layer: Layer, x: tf.Tensor, weights: list[tf.Tensor], upstream: tf.Tensor,
        group: Group) -> Arrays:
    """Output, gradient of the input, gradients of the weights; compiled as in training."""
    @tf.function(autograph=False)
    def compiled(x: tf.Tensor, *weights: tf.Tensor) -> tf.Tensor:
        return layer(x, *weights, group)

    x, weights, upstream = tf.constant(x), [tf.constant(w) for w in weights], tf.constant(upstream)
    with tf.GradientTape() as tape:
        tape.watch([x, *weights])
        y = compiled(x, *weights)
    gradients = tape.gradient(y, [x, *weights], upstream)
    return [y.numpy(), *(gradient.numpy() for gradient in gradients)]


def compare(name: str, got: Arrays, wanted: Arrays) -> None:
    error = 0.0
    for one, other in zip(got, wanted, strict=True):
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        assert one.shape == other.shape, f"{name}: {one.shape}, not {other.shape}"
        error = max(error, float(np.abs(one - other).max() / np.abs(other).max()))
    found[name] = COMM.allreduce(error, MPI.MAX)


def four_regions(kind: tf.DType = tf.float64) -> None:
    """By their definition, on the last of three axes, which no number of ranks divides. What each
    rank puts in differs where the ranks' tensors differ in use."""
    every = [numbers(2, 3, 13, seed=rank, kind=kind) for rank in range(COMM.size)]
    same, own = every[0], every[COMM.rank]
    total = np.sum([np.asarray(one, np.float64) for one in every], 0)
    name = kind.name

    def region(function: Layer) -> Layer:
        return lambda x, group: function(x, group=group, name=f"{name}_{function.__name__}")

    def gathering(x: tf.Tensor, group: Group) -> tf.Tensor:
        return regions.gather_from(x, group, 13, f"{name}_gather")

    compare(f"copy_to {name}", run(region(regions.copy_to), same, [], own, GROUP), [same, total])
    compare(f"reduce_from {name}", run(region(regions.reduce_from), own, [], same, GROUP),
            [total, same])
    compare(f"scatter_to {name}", run(region(regions.scatter_to), same, [], mine(own), GROUP),
            [mine(same), np.concatenate([np.asarray(one)[..., slice(*bounds(rank, COMM.size, 13))]
                                         for rank, one in enumerate(every)], -1)])
    compare(f"gather_from {name}", run(gathering, mine(same), [], own, GROUP),
            [same, mine(own)])


def dense(inputs: int = 13, outputs: int = 11) -> None:
    x, upstream = numbers(5, inputs), numbers(5, outputs, seed=1)
    kernel, bias = numbers(inputs, outputs, seed=2), numbers(outputs, seed=3)

    def column(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, group: Group) -> tf.Tensor:
        return layers.column_dense(x, kernel, bias, group, "column")

    def column_whole(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, group: Group) -> tf.Tensor:
        return regions.gather_from(column(x, kernel, bias, group), group, outputs, "column")

    def row(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, group: Group) -> tf.Tensor:
        return layers.row_dense(x, kernel, bias, group, "row")

    def row_whole(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, group: Group) -> tf.Tensor:
        return row(regions.scatter_to(x, group, "row"), kernel, bias, group)

    y, dx, dkernel, dbias = run(column, x, [kernel, bias], upstream, ALONE)
    shard = [mine(kernel, 1), mine(bias)]
    compare("column", run(column, x, shard, mine(upstream), GROUP),
            [mine(y), dx, mine(dkernel, 1), mine(dbias)])
    compare("column, gathered", run(column_whole, x, shard, upstream, GROUP),
            [y, dx, mine(dkernel, 1), mine(dbias)])
    shard = [mine(kernel, 0), bias]
    compare("row", run(row, mine(x), shard, upstream, GROUP),
            [y, mine(dx), mine(dkernel, 0), dbias])
    compare("row, scattered", run(row_whole, x, shard, upstream, GROUP),
            [y, dx, mine(dkernel, 0), dbias])


def convolution() -> None:
    x, upstream = numbers(2, 7, 6, 5), numbers(2, 5, 4, 7, seed=1)
    kernel, bias = numbers(3, 3, 5, 7, seed=2), numbers(7, seed=3)

    def channels(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, group: Group) -> tf.Tensor:
        return layers.convolution(x, kernel, bias, group, "convolution")

    def whole(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, group: Group) -> tf.Tensor:
        return regions.gather_from(channels(x, kernel, bias, group), group, 7, "convolution")

    y, dx, dkernel, dbias = run(channels, x, [kernel, bias], upstream, ALONE)
    shard = [mine(kernel), mine(bias)]
    compare("convolution", run(channels, x, shard, mine(upstream), GROUP),
            [mine(y), dx, mine(dkernel), mine(dbias)])
    compare("convolution, gathered", run(whole, x, shard, upstream, GROUP),
            [y, dx, mine(dkernel), mine(dbias)])


def network(layout: str, dropout: float) -> Arrays:
    """The whole network, conv1 to dense2, at a loss that depends on all: its trained weights'
    gradients, against the serial network's. Returns this rank's."""
    table = [one for one in shards.parameters(layout, Shapes(SIZE)) if one.trainable]
    whole = {one.name: np.asarray(numbers(*one.shape, seed=place)) / (one.shape[0] * 9) ** 0.5
             for place, one in enumerate(table)}
    pictures = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3)).astype(np.uint8)
    sizes: dict[int, set[int]] = {}

    def gradients(group: Group, weights: dict[str, np.ndarray]) -> Arrays:
        variables = {name: tf.Variable(value) for name, value in weights.items()}
        how = layers.Pass(
            group, layout, tf.float64, tf.float64,
            lambda x, gamma, beta, name: synchronised(x, gamma, beta, 1, lambda v, _: v, name),
            dropout, tf.constant([1, 2]))

        @tf.function(autograph=False, input_signature=(tf.TensorSpec((None, SIZE, SIZE, 3),
                                                                     tf.uint8),))
        def compiled(x: tf.Tensor) -> tuple[tf.Tensor, Arrays]:
            with tf.GradientTape() as tape:
                y, _ = layers.stage(shards.BLOCKS, x, variables, how)
                loss = tf.reduce_sum(y * numbers(2, 2, seed=99))
            return y, tape.gradient(loss, list(variables.values()))

        sizes[group.size] = graph_sizes(compiled.get_concrete_function().graph)
        y, found = compiled(tf.constant(pictures))
        return [y.numpy(), *(value.numpy() for value in found)]

    y, *serial = gradients(ALONE, whole)
    parts = {one.name: one.take(whole[one.name], GROUP.index, GROUP.size) for one in table}
    got = gradients(GROUP, parts)
    compare(f"network, {layout}, dropout {dropout}", got, [y, *(
        one.take(value, GROUP.index, GROUP.size)
        for one, value in zip(table, serial, strict=True))])
    for one in table:
        if one.name in ("conv1/kernel", "conv2/kernel", "dense1/kernel"):
            for size, who in ((1, "alone"), (GROUP.size, "sharded")):
                found[f"{layout}, {who}: {one.name} whole"] = \
                    COMM.allreduce(float(one.size in sizes[size]), MPI.MAX)
    return got


def graph_sizes(graph: tf.Graph) -> set[int]:
    """Numbers of elements of a graph's tensors and variables; of those with a row for each picture,
    in one row."""
    found = {variable.shape.num_elements() for variable in graph.variables}
    for operation in graph.get_operations():
        for tensor in operation.outputs:
            if tensor.shape.rank:
                found.add(int(np.prod([length for length in tensor.shape if length is not None])))
    return found


def same_everywhere(got: Arrays) -> None:
    """Gradients of weights that all ranks of a group have: equal, bit for bit."""
    table = [one for one in shards.parameters("row", Shapes(SIZE)) if one.trainable]
    for one, value in zip(table, got[1:], strict=True):
        if one.axis is None:
            every = np.array(COMM.allgather(value))
            found[f"{one.name} differs"] = float(np.abs(every - every[0]).max())


def mistakes() -> None:
    """The comparisons above with a region that isn't what it should be."""
    real = {name: getattr(layers, name) for name in ("copy_to", "reduce_from", "scatter_to",
                                                     "gather_from")}

    def nothing(x: tf.Tensor, *_: object) -> tf.Tensor:
        return tf.identity(x)

    def horovods(x: tf.Tensor, group: Group, name: str) -> tf.Tensor:
        return group.allreduce(x, f"{name}_reduce")  # with the gradient that Horovod registers

    def summed(x: tf.Tensor, group: Group, whole: int, name: str) -> tf.Tensor:
        return real["gather_from"](regions.copy_to(x, group, f"{name}_again"), group, whole, name)

    def shard_only(x: tf.Tensor, group: Group, name: str) -> tf.Tensor:
        return group.shard(x)

    for region, wrong in (("copy_to", nothing), ("reduce_from", horovods),
                          ("scatter_to", shard_only), ("gather_from", summed)):
        setattr(layers, region, wrong)
        before = dict(found)
        network("row", 0.0)
        error = found["network, row, dropout 0.0"]
        found.clear()
        found.update(before)
        found[f"mistake in {region}"] = error
        setattr(layers, region, real[region])


for kind in (tf.float64, tf.bfloat16):
    four_regions(kind)
dense()
convolution()
same_everywhere(network("row", 0.0))
network("row", 0.5)
network("column", 0.5)
if COMM.size == 2:
    mistakes()
COMM.Barrier()  # a rank that leaves takes Horovod from the others
if COMM.rank == 0:
    Path(sys.argv[1]).write_text(json.dumps(found))
