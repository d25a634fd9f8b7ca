"""Bytes that a rank sends in a step, by formula, for any number of ranks.

A ring-allreduce of z bytes over n ranks sends 2·(n − 1)/n·z from each (Patarasuk & Yuan 2009), an
all-to-all (n − 1)/n·z, an all-gather of z bytes per rank (n − 1)·z.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from hpc_deepfake.network.shapes import FEATURES, KERNEL, MOVING, OUTPUTS, SMALL, UNITS, Shapes
from preprocessing.ela import SIZE

__all__ = ["FEATURES", "KERNEL", "MOST_SERVERS", "POOLED", "REST", "TABLE", "UNITS", "Sizes",
           "table"]
POOLED = math.prod(OUTPUTS["bn1"])  # numbers per picture between the two convolutions


class Sizes(NamedTuple):
    """How many numbers of a network the ranks exchange.

    Attributes:
        features: inputs of the largest dense layer; 0: it has none.
        units: its outputs.
        small: numbers in all other weights that are trained.
        moving: moving statistics.
        pooled: per picture between the two convolutions, of the network ``table``.
    """

    features: int
    units: int
    small: int
    moving: int
    pooled: int = 0

    @classmethod
    def of(cls, trained: Sequence[Sequence[int]], moving: Sequence[Sequence[int]],
           dense: int) -> Sizes:
        """Of a network with these shapes of trained weights and of moving statistics; ``dense``:
        place of the largest dense kernel among the former."""
        features, units = trained[dense]
        return cls(features, units, sum(map(math.prod, trained)) - features * units,
                   sum(map(math.prod, moving)))

    @property
    def kernel(self) -> int:
        """Numbers in the largest dense kernel."""
        return self.features * self.units

    @property
    def rest(self) -> int:
        """Numbers in the other weights, the batch statistics and three sums."""
        return self.small + self.moving + 3


def table(size: int) -> Sizes:
    """Of the network ``table`` for rows of ``size`` × ``size``."""
    shapes = Shapes(size)
    return Sizes(shapes.features, UNITS, SMALL, MOVING, math.prod(shapes.outputs["bn1"]))


TABLE = table(SIZE)
REST = TABLE.rest
# parameter servers among which the kernel can be cut if the first also holds the other weights
MOST_SERVERS = (KERNEL + SMALL) // SMALL


def allreduce(size: float, ranks: int) -> float:
    """Of a sum of ``size`` bytes."""
    return 2 * (ranks - 1) / ranks * size


def all_to_all(size: float, ranks: int) -> float:
    """Of an exchange of ``size`` bytes per rank."""
    return (ranks - 1) / ranks * size


def allgather(size: float, ranks: int) -> float:
    """Of collecting ``size`` bytes per rank on all ranks."""
    return (ranks - 1) * size


def sync(ranks: int, width: int = 4, kernel_width: int = 4,
         sizes: Sizes = TABLE) -> dict[str, float]:
    """Data parallel training.

    Args:
        ranks: number of ranks.
        width: bytes per number.
        kernel_width: bytes per number of the large kernel's gradient.
        sizes: of the network.
    """
    return {"allreduce": allreduce(sizes.kernel * kernel_width + sizes.rest * width, ranks)}


def local_sgd(ranks: int, every: int, moments: int = 2, width: int = 4,
              sizes: Sizes = TABLE) -> dict[str, float]:
    """Averages of weights, moving statistics and the optimizer's moments, per step.

    Args:
        ranks: number of ranks.
        every: steps between two averages.
        moments: numbers that the optimizer keeps for each weight; of Adam 2.
        width: bytes per number.
        sizes: of the network.
    """
    averaged = (1 + moments) * (sizes.kernel + sizes.small) + sizes.moving
    return {"allreduce": allreduce(averaged * width, ranks) / every}


def hybrid(ranks: int, group: int, rows: float, width: int = 4, activation_width: int = 4,
           micro: int = 1, sizes: Sizes = TABLE) -> dict[str, float]:
    """Data parallel training with the large kernel's rows sharded.

    Args:
        ranks: number of ranks.
        group: number of ranks that hold the kernel together.
        rows: rows per rank and micro-batch.
        width: bytes per number.
        activation_width: bytes per number of the activations and their gradients.
        micro: micro-batches per step.
        sizes: of the network.
    """
    activations = 2 * all_to_all(rows * sizes.features * activation_width, group)
    partial_sums = all_to_all(rows * group * sizes.units * width, group)
    return {"allreduce": allreduce(sizes.kernel / group * width, ranks // group)
            + allreduce(sizes.rest * width, ranks),
            "alltoall": micro * (activations + partial_sums),
            "allgather": micro * allgather(rows * sizes.units * width, group)}


def tensor(ranks: int, shards: int, rows: float, width: int = 4,
           sizes: Sizes = TABLE) -> dict[str, float]:
    """A mesh with tensor and data parallelism, the large kernel of ``table`` cut by rows.

    The second convolution needs all channels of the first: they are gathered, and their gradients
    summed. The sums of the dense layers and one gradient are small.

    Args:
        ranks: number of ranks.
        shards: ranks of a tensor group, which work on ``rows`` × ``shards`` rows together.
        rows: rows per rank.
        width: bytes per number.
        sizes: of the network.
    """
    together = rows * shards * width
    sums = allreduce(together * (sizes.pooled + sizes.units + 2), shards)
    gathered = all_to_all(together * (sizes.pooled + sizes.units), shards)
    reduced = (sizes.kernel + sizes.rest) / shards * width
    return {"allreduce": sums + allreduce(reduced, ranks // shards), "allgather": gathered}


def pipeline(ranks: int, stages: int, rows: float, cuts: Sequence[int] = (POOLED,),
             width: int = 4, sizes: Sizes = TABLE) -> dict[str, float]:
    """A mesh with pipeline and data parallelism: the mean over the ranks.

    Args:
        ranks: number of ranks.
        stages: number of stages.
        rows: rows per rank.
        cuts: numbers per picture sent from each stage to the next; as many come back.
        width: bytes per number.
        sizes: of the network.
    """
    assert len(cuts) == stages - 1
    # rows·stages rows, sent by as many ranks as there are stages
    return {"point_to_point": 2 * sum(cuts) * rows * width,
            "allreduce": allreduce((sizes.kernel + sizes.rest) / stages * width,
                                   ranks // stages)}


def mesh(ranks: int, tensor_shards: int, stages: int, rows: float, cuts: Sequence[int] = (),
         width: int = 4, sizes: Sizes = TABLE) -> dict[str, float]:
    """A mesh with tensor, pipeline and data parallelism: the mean over the ranks, but ``allreduce``
    of the ranks that hold the large kernel, which the others wait for.

    Args:
        ranks: number of ranks.
        tensor_shards: ranks of a tensor group.
        stages: number of stages.
        rows: rows per rank.
        cuts: numbers per picture sent from each stage to the next.
        width: bytes per number.
        sizes: of the network.
    """
    both = tensor_shards * stages
    within = tensor(tensor_shards, tensor_shards, rows, width, sizes)
    between = pipeline(stages, stages, rows, cuts, width, sizes)["point_to_point"]
    return {"tensor": sum(within.values()), "point_to_point": between,
            "allreduce": allreduce((sizes.kernel + sizes.rest) / tensor_shards * width,
                                   ranks // both)}


def crossover(rows: float, sizes: Sizes = TABLE) -> float:
    """Number of ranks at which ``hybrid``, with one group of all ranks, sends as much as ``sync``.

    With fewer ranks it sends less. Negative if it always sends more: from as many rows as the layer
    has outputs on the activations alone are larger than the kernel.
    """
    return (sizes.features / sizes.units * (sizes.units - rows)) / rows
