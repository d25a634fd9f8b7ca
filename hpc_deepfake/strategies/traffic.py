"""Bytes that a rank sends in a step, by formula, for any number of ranks.

A ring-allreduce of z bytes over n ranks sends 2·(n − 1)/n·z from each (Patarasuk & Yuan 2009), an
all-to-all (n − 1)/n·z, an all-gather of z bytes per rank (n − 1)·z.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from hpc_deepfake.network.shapes import FEATURES, KERNEL, MOVING, OUTPUTS, SMALL, UNITS

__all__ = ["FEATURES", "KERNEL", "MOST_SERVERS", "POOLED", "REST", "UNITS"]
POOLED = math.prod(OUTPUTS["bn1"])  # numbers per picture between the two convolutions
# numbers in the other weights, the batch statistics and three sums, which are one flat tensor
REST = SMALL + MOVING + 3
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


def sync(ranks: int, width: int = 4, kernel_width: int = 4) -> dict[str, float]:
    """Data parallel training.

    Args:
        ranks: number of ranks.
        width: bytes per number.
        kernel_width: bytes per number of the large kernel's gradient.
    """
    return {"allreduce": allreduce(KERNEL * kernel_width + REST * width, ranks)}


def hybrid(ranks: int, group: int, rows: float, width: int = 4, activation_width: int = 4,
           micro: int = 1) -> dict[str, float]:
    """Data parallel training with the large kernel's rows sharded.

    Args:
        ranks: number of ranks.
        group: number of ranks that hold the kernel together.
        rows: rows per rank and micro-batch.
        width: bytes per number.
        activation_width: bytes per number of the activations and their gradients.
        micro: micro-batches per step.
    """
    activations = 2 * all_to_all(rows * FEATURES * activation_width, group)
    partial_sums = all_to_all(rows * group * UNITS * width, group)
    return {"allreduce": allreduce(KERNEL / group * width, ranks // group)
            + allreduce(REST * width, ranks),
            "alltoall": micro * (activations + partial_sums),
            "allgather": micro * allgather(rows * UNITS * width, group)}


def tensor(ranks: int, shards: int, rows: float, width: int = 4) -> dict[str, float]:
    """A mesh with tensor and data parallelism, the large kernel cut by rows.

    The second convolution needs all channels of the first: they are gathered, and their gradients
    summed. The sums of the dense layers and one gradient are small.

    Args:
        ranks: number of ranks.
        shards: ranks of a tensor group, which work on ``rows`` × ``shards`` rows together.
        rows: rows per rank.
        width: bytes per number.
    """
    together = rows * shards * width
    sums = allreduce(together * (POOLED + UNITS + 2), shards)
    gathered = all_to_all(together * (POOLED + UNITS), shards)
    return {"allreduce": sums + allreduce((KERNEL + REST) / shards * width, ranks // shards),
            "allgather": gathered}


def pipeline(ranks: int, stages: int, rows: float, cuts: Sequence[int] = (POOLED,),
             width: int = 4) -> dict[str, float]:
    """A mesh with pipeline and data parallelism: the mean over the ranks.

    Args:
        ranks: number of ranks.
        stages: number of stages.
        rows: rows per rank.
        cuts: numbers per picture sent from each stage to the next; as many come back.
        width: bytes per number.
    """
    assert len(cuts) == stages - 1
    # rows·stages rows, sent by as many ranks as there are stages
    return {"point_to_point": 2 * sum(cuts) * rows * width,
            "allreduce": allreduce((KERNEL + REST) / stages * width, ranks // stages)}


def mesh(ranks: int, tensor_shards: int, stages: int, rows: float, cuts: Sequence[int] = (),
         width: int = 4) -> dict[str, float]:
    """A mesh with tensor, pipeline and data parallelism: the mean over the ranks, but ``allreduce``
    of the ranks that hold the large kernel, which the others wait for.

    Args:
        ranks: number of ranks.
        tensor_shards: ranks of a tensor group.
        stages: number of stages.
        rows: rows per rank.
        cuts: numbers per picture sent from each stage to the next.
        width: bytes per number.
    """
    both = tensor_shards * stages
    within = tensor(tensor_shards, tensor_shards, rows, width)
    between = pipeline(stages, stages, rows, cuts, width)["point_to_point"]
    return {"tensor": sum(within.values()), "point_to_point": between,
            "allreduce": allreduce((KERNEL + REST) / tensor_shards * width, ranks // both)}


def crossover(rows: float) -> float:
    """Number of ranks at which ``hybrid``, with one group of all ranks, sends as much as ``sync``.

    With fewer ranks it sends less. Negative if it always sends more: from 128 rows on the
    activations alone are larger than the kernel.
    """
    return (FEATURES / UNITS * (UNITS - rows)) / rows
