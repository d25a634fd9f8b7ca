"""What a rank of a mesh holds of a network: the layers of one stage, or shards of them."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import tensorflow as tf

from hpc_deepfake.strategies.mesh.regions import Group
from hpc_deepfake.strategies.mesh.shape import Place, Shape
from hpc_deepfake.strategies.mesh.shards import Parameter


class Groups:
    """The ranks that a rank of a mesh works with.

    Attributes:
        tensor: ranks that share the layers.
        data: ranks that hold the same weights.
        batch: the same ranks, for the statistics of each micro-batch.
    """

    def __init__(self, shape: Shape, place: Place) -> None:
        """
        Args:
            shape: of the mesh.
            place: of this rank.
        """
        self.tensor = Group(shape.tensor_group(place), place.tensor)
        self.data = Group(shape.data_group(place), place.data)
        self.batch = Group(shape.data_group(place), place.data)


class Output(NamedTuple):
    """What a stage computes of a micro-batch of n rows in training.

    Attributes:
        y: input of the next stage; of the last stage the logits (n, 2).
        statistics: of this batch, in the order of ``Part.moving``.
        penalty: sum of the stage's regularisers; None: it has none.
    """

    y: tf.Tensor
    statistics: list[tf.Tensor]
    penalty: tf.Tensor | None = None


class Part(Protocol):
    """A rank's part of a network.

    Attributes:
        stages: names of the blocks of each stage.
        stage_of: stage of each ``Parameter.block``.
        parameters: the weights of the whole network, in the order of a checkpoint.
        weights: this rank's, by the names of those of ``parameters`` that its stage has.
        moving: moving statistics among them.
        momenta: of ``moving``, as for ``batchnorm.update_moving``.
        large: the weight whose gradient isn't looked at for numbers that aren't finite, since that
            takes too long (see ``Sequential``); None: there is none on this rank.
        received: shape and type of the input from the previous stage in training.
        evaluated: the same in evaluation.
        sent: shape and type of the output to the next stage in training.
    """

    stages: list[tuple[str, ...]]
    stage_of: dict[str, int]
    parameters: list[Parameter]
    weights: dict[str, tf.Variable]
    moving: list[tf.Variable]
    momenta: list[float] | None
    large: tf.Variable | None
    received: tf.TensorSpec
    evaluated: tf.TensorSpec
    sent: tf.TensorSpec

    def train(self, x: tf.Tensor, seed: tf.Tensor, present: tf.Tensor) -> Output:
        """A training pass.

        Args:
            x: as ``received``.
            seed: int32 (2), of everything random.
            present: 1, or 0 if the rows count for nothing; of the weights' type.
        """

    def evaluate(self, x: tf.Tensor) -> tf.Tensor:
        """The input of the next stage, or the probabilities (n, 2), by the moving statistics.

        Args:
            x: as ``evaluated``.
        """
