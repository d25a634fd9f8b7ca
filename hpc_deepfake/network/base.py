"""What the strategies know of a network: its weights by their use, and its training pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import tensorflow as tf

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network.batchnorm import AllReduce, normaliser

if TYPE_CHECKING:
    import keras

    from hpc_deepfake.network.batchnorm import Normalise
    from hpc_deepfake.network.settings import Settings

Product = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class Pass(NamedTuple):
    """How a training pass computes on this rank.

    Attributes:
        compute: type of convolutions and large products; all else has the type of the weights.
        dropout: rate of the dropout layers; None: as the network has them.
        sync_bn: normalise over the micro-batch of all ranks.
        present: 1, or 0 on a rank whose rows count for nothing; scalar of the weights' type.
        allreduce: sums a float64 tensor over the ranks, under a name that all ranks share.
        product: matrix product with the large dense kernel.
    """

    compute: tf.DType
    dropout: float | None
    sync_bn: bool
    present: tf.Tensor
    allreduce: AllReduce
    product: Product = tf.matmul

    def normaliser(self, own: tf.DType) -> Normalise:
        """The batch normalisation of the pass, for weights of the type ``own``."""
        return normaliser(own, self.sync_bn, self.present, self.allreduce)


class Out(NamedTuple):
    """What a training pass computes of n rows.

    Attributes:
        logits: (n, 2), in the type of the weights.
        statistics: of this batch, in the order of ``Network.moving``.
        penalty: sum of the regularisers; None: the network has none.
        map: log-odds that each pixel was changed, (n, S, S), in the type of the weights; None: the
            network doesn't say where.
    """

    logits: tf.Tensor
    statistics: list[tf.Tensor]
    penalty: tf.Tensor | None = None
    map: tf.Tensor | None = None


class Network(Protocol):
    """A Keras model as the strategies train it. The model owns the variables.

    Attributes:
        model: built of layers that a ``.keras`` file can hold.
        size: width and height of its input.
        channels: of its input.
        located: the model with two outputs, as of ``maps.both``; None: it doesn't say where.
        trainable: weights that gradients change, in the order of a checkpoint.
        moving: means of batch statistics: mean and variance of each batch normalisation in turn.
        momenta: of ``moving``, as for ``batchnorm.update_moving``.
        fixed: weights that training never changes, such as those of frozen layers.
        large: the dense kernel that is most of the weights and that ``hybrid`` shards; None: there
            is none, or it is not trained.
        buckets: places in ``trainable``, in the order in which the backward pass computes their
            gradients. Each is reduced by itself, the last one with statistics and sums.
        constraints: paths of the weights that have one.
    """

    model: keras.Model
    size: int
    channels: int
    located: keras.Model | None
    trainable: list[tf.Variable]
    moving: list[tf.Variable]
    momenta: list[float] | None
    fixed: list[tf.Variable]
    large: tf.Variable | None
    buckets: list[list[int]]

    @property
    def constraints(self) -> Sequence[str]: ...

    @property
    def all(self) -> list[tf.Variable]:
        """``trainable``, ``moving`` and ``fixed``: what a checkpoint holds of the network."""

    def forward(self, pictures: tf.Tensor, seed: tf.Tensor, how: Pass) -> Out:
        """A training pass.

        Args:
            pictures: uint8 (n, size, size, channels).
            seed: int32 (2), of everything random in the pass.
            how: how it computes.
        """

    def predict(self, pictures: tf.Tensor, product: Product) -> tf.Tensor:
        """Probabilities (n, 2) of authentic and tampered, by the moving statistics.

        Args:
            pictures: uint8 (n, size, size, channels).
            product: as of ``Pass``.
        """

    def constrain(self) -> None:
        """Bring the weights to where their constraints want them, after each step."""

    def spare(self) -> keras.Model:
        """Another model of the same layers, with weights of its own."""


def of(model: keras.Model, settings: Settings) -> Network:
    """The network that ``settings`` name, whose model is ``model``.

    Raises:
        InputError: it can't be trained; on all ranks.
    """
    if settings.network == "table":
        from hpc_deepfake.network.fused import Weights

        return Weights(model)
    from hpc_deepfake.network.general import General

    network = General(model)
    network.check()
    return network


def refuse_constraints(network: Network, strategy: str) -> None:
    """Raise InputError, on all ranks, if ``strategy`` can't keep the constraints of a network whose
    weights it cuts into pieces."""
    if network.constraints:
        raise InputError(f"the network's weights {', '.join(network.constraints)} have constraints "
                         f"(kernel_constraint, …), and --strategy {strategy} holds only pieces of "
                         "the weights: use sync or local-sgd, or leave the constraints out",
                         everywhere=True)


def buckets(variables: Sequence[tf.Variable], first: int = 1 << 20,
            size: int = 25 << 20) -> list[list[int]]:
    """Places of ``variables`` in the order of the backward pass, which is about the reverse of
    theirs, in buckets of ``size`` bytes or of one larger variable; the first one is ready early and
    of ``first`` bytes. The sizes are those of PyTorch's DistributedDataParallel (Li et al. 2020).
    """
    found: list[list[int]] = []
    filled, limit = 0, first
    for place in reversed(range(len(variables))):
        own = variables[place].shape.num_elements() * variables[place].dtype.size
        if not found or filled >= limit or (filled and filled + own > max(limit, size)):
            if found:
                limit = size
            found.append([])
            filled = 0
        found[-1].append(place)
        filled += own
    return found
