"""A rank's shards of the blocks of the network ``table`` that its stage has."""

from __future__ import annotations

from collections.abc import Collection

import tensorflow as tf

from hpc_deepfake.network.batchnorm import Statistics, by_moving, normaliser, some_frozen
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.network.shapes import DROPOUT, Shapes
from hpc_deepfake.strategies.layout import Layout
from hpc_deepfake.strategies.mesh import layers
from hpc_deepfake.strategies.mesh.cut import cut, of_table
from hpc_deepfake.strategies.mesh.part import Groups, Output
from hpc_deepfake.strategies.mesh.regions import Group
from hpc_deepfake.strategies.mesh.shape import Place, Shape
from hpc_deepfake.strategies.mesh.shards import output_shape, parameters


class TablePart:
    """A ``part.Part`` with tensor parallelism."""

    def __init__(self, shapes: Shapes, frozen: Collection[str], shape: Shape, place: Place,
                 settings: Settings, layout: Layout, groups: Groups) -> None:
        """
        Args:
            shapes: of the network.
            frozen: blocks that aren't trained.
            shape: of the mesh.
            place: of this rank.
            settings: what the run computes.
            layout: how the ranks share the work.
            groups: the ranks that this one works with.
        """
        self._shape, self._place, self._groups = shape, place, groups
        self._settings, self._layout, self._shapes = settings, layout.tensor_layout, shapes
        self._own = tf.float64 if settings.precision == "float64" else tf.float32
        self._compute = tf.bfloat16 if settings.precision == "bfloat16" else self._own
        self.stages = cut(shape.pipeline, layout.stages, of_table(shapes))
        self.stage_of = {block: stage for stage, blocks in enumerate(self.stages)
                         for block in blocks}
        self.parameters = parameters(layout.tensor_layout, shapes, frozen)
        self._blocks = self.stages[place.stage]
        self.weights = {parameter.name: tf.Variable(tf.zeros(
            parameter.part_shape(place.tensor, shape.tensor), self._own), parameter.trainable)
            for parameter in self.parameters if parameter.block in self._blocks}
        statistics = {block: Statistics(self.weights[f"{block}/mean"],
                                        self.weights[f"{block}/variance"])
                      for block in self._blocks if block.startswith("bn")}
        self._statistics = statistics
        self._frozen = {block: pair for block, pair in statistics.items() if block in frozen}
        self.moving = [value for block, pair in statistics.items() if block not in frozen
                       for value in pair]
        self.momenta: list[float] | None = None
        self.large = self.weights.get("dense1/kernel")
        previous = None if place.stage == 0 else self.stages[place.stage - 1][-1]
        self.received, self.evaluated = (self._output(previous, kind)
                                         for kind in (self._compute, self._own))
        self.sent = self._output(self._blocks[-1], self._compute)

    def _output(self, block: str | None, compute: tf.DType) -> tf.TensorSpec:
        """Of a block, or the pictures."""
        if block is None:
            return tf.TensorSpec((None, self._shapes.size, self._shapes.size, 3), tf.uint8)
        shape = output_shape(block, self._layout, self._place.tensor, self._shape.tensor,
                             self._shapes)
        return tf.TensorSpec((None, *shape), self._own if block == "dense1" else compute)

    def train(self, x: tf.Tensor, seed: tf.Tensor, present: tf.Tensor) -> Output:
        settings = self._settings
        normalise = normaliser(self._own, settings.sync_bn, present,
                               self._groups.batch.allreduce)
        dropout = DROPOUT if settings.dropout is None else settings.dropout
        how = layers.Pass(self._groups.tensor, self._layout, self._own, self._compute,
                          some_frozen(normalise, self._frozen), dropout, seed)
        y, statistics = layers.stage(self._blocks, x, self.weights, how)
        return Output(y, [value for block, pair in zip(self._statistics, statistics, strict=True)
                          if block not in self._frozen for value in pair])

    def evaluate(self, x: tf.Tensor) -> tf.Tensor:
        place, shape = self._place, self._shape
        group = Group(shape.tensor_group(place), place.tensor, "evaluate_")
        how = layers.Pass(group, self._layout, self._own, self._own, by_moving(self._statistics))
        y, _ = layers.stage(self._blocks, x, self.weights, how)
        return tf.nn.softmax(y) if place.stage == shape.pipeline - 1 else y
