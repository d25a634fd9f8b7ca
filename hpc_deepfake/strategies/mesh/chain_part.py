"""A stage of any network, as a Keras model of its layers.

Only rank 0 has the whole network, at the start; each rank builds its stage from the description of
its layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import tensorflow as tf

from hpc_deepfake.core import mpi
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network import copies
from hpc_deepfake.network.base import Pass
from hpc_deepfake.network.general import General, logits
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.network.zoo import layers as _registered  # noqa: F401, with Keras
from hpc_deepfake.strategies.layout import Layout
from hpc_deepfake.strategies.mesh import chain
from hpc_deepfake.strategies.mesh.cut import cut
from hpc_deepfake.strategies.mesh.part import Groups, Output
from hpc_deepfake.strategies.mesh.shape import Place, Shape
from hpc_deepfake.strategies.mesh.shards import Parameter

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.network.base import Network


@dataclass(frozen=True)
class _Plan:
    """What all ranks are told of the network.

    Attributes:
        stages: names of the blocks of each stage.
        layers: names of the layers with weights of each stage.
        parameters: all weights, in the order of a checkpoint.
        models: of each stage, as Keras describes it.
        ends: shape, without the batch, and type of what each stage outputs.
    """

    stages: list[tuple[str, ...]]
    layers: list[list[str]]
    parameters: list[Parameter]
    models: list[copies.Description]
    ends: list[tuple[tuple[int, ...], str]]


class ChainPart:
    """A ``part.Part``, without tensor parallelism."""

    large = None

    def __init__(self, network: Network | None, comm: Comm, shape: Shape, place: Place,
                 settings: Settings, layout: Layout, groups: Groups) -> None:
        """Collective.

        Args:
            network: the whole one, on rank 0.
            comm: all ranks.
            shape: of the mesh.
            place: of this rank.
            settings: what the run computes.
            layout: how the ranks share the work.
            groups: the ranks that this one works with.

        Raises:
            InputError: the network can't be cut so; on all ranks.
        """
        def planned() -> _Plan:
            assert network is not None
            return _plan(network, shape.pipeline, layout.stages)

        plan = mpi.on_root(comm, planned)
        self._settings, self._groups = settings, groups
        self._own = tf.float64 if settings.precision == "float64" else tf.float32
        self._compute = tf.bfloat16 if settings.precision == "bfloat16" else self._own
        self.stages, self.parameters = plan.stages, plan.parameters
        self.stage_of = {layer: stage for stage, layers in enumerate(plan.layers)
                         for layer in layers}
        self._first, self._last = place.stage == 0, place.stage == shape.pipeline - 1
        self._model = copies.build(plan.models[place.stage])
        self._network = General(self._model, last=self._last)
        self.weights = {}
        for parameter in self.parameters:
            if self.stage_of[parameter.block] == place.stage:
                layer, _, number = parameter.name.partition("/")
                self.weights[parameter.name] = \
                    self._model.get_layer(layer).weights[int(number)].value
        self.moving, self.momenta = self._network.moving, self._network.momenta
        pictures = self._model.input_shape
        self.received = tf.TensorSpec(pictures, tf.uint8) if self._first else \
            self._between(plan.ends[place.stage - 1], self._compute)
        self.evaluated = self.received if self._first else \
            self._between(plan.ends[place.stage - 1], self._own)
        self.sent = self._between(plan.ends[place.stage], self._compute)

    def _between(self, end: tuple[tuple[int, ...], str], compute: tf.DType) -> tf.TensorSpec:
        """What is sent between two stages: numbers of the weights' type as ``compute``."""
        shape, kind = end
        kind = tf.as_dtype(kind)
        return tf.TensorSpec((None, *shape), compute if kind == self._own else kind)

    def train(self, x: tf.Tensor, seed: tf.Tensor, present: tf.Tensor) -> Output:
        how = Pass(self._compute, self._settings.dropout, self._settings.sync_bn, present,
                   self._groups.batch.allreduce)
        x = tf.cast(x, self._own) if self._first else x
        y, statistics, penalty = self._network.run(x, seed, how)
        y = tf.cast(logits(y), self._own) if self._last else tf.cast(y, self.sent.dtype)
        return Output(y, statistics, penalty)

    def evaluate(self, x: tf.Tensor) -> tf.Tensor:
        return self._model(x, training=False)


def _plan(network: Network, count: int, begins: str | None) -> _Plan:
    """How the network is cut into ``count`` stages.

    Raises:
        InputError: it can't be; on this process alone.
    """
    blocks = chain.blocks(network.model)
    stages = cut(count, begins, chain.line(blocks))
    by_name = {block.name: block for block in blocks}
    parts = [[by_name[name] for name in stage] for stage in stages]
    layers = [[layer for block in part for layer in block.layers if layer.weights]
              for part in parts]
    names = {id(weight.value): f"{layer.name}/{number}" for own in layers for layer in own
             for number, weight in enumerate(layer.weights)}
    parameters = []
    for place, variable in enumerate(network.all):
        shape, name = tuple(variable.shape), names[id(variable)]
        if variable.dtype != network.trainable[0].dtype:
            raise InputError(f"--mesh: a weight of the layer {name.partition('/')[0]} is of the "
                             f"type {variable.dtype.name}, and a mesh deals out weights of one "
                             "type: use --strategy sync", everywhere=True)
        parameters.append(Parameter(name, shape, shape, None, place < len(network.trainable)))
    ends = [(part[-1].ends.shape[1:], part[-1].ends.dtype) for part in parts]
    for part, (shape, _) in zip(parts, ends, strict=True):
        if None in shape:
            raise InputError(f"--mesh: the output of the layer {part[-1].ends.name} has no fixed "
                             f"shape, {shape}, and can't be sent to another rank: use --strategy "
                             "sync", everywhere=True)
    return _Plan(stages, [[layer.name for layer in own] for own in layers], parameters,
                 [copies.describe(chain.part(part)) for part in parts], ends)
