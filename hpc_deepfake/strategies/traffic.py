"""Bytes that a rank sends in a step, by formula: what the strategies move, at any number of ranks.

A ring-allreduce of z bytes over n ranks sends 2·(n − 1)/n·z from each (Patarasuk & Yuan 2009), an
all-to-all (n − 1)/n·z, an all-gather of z bytes per rank (n − 1)·z.
"""

from __future__ import annotations

from collections.abc import Sequence

FEATURES, UNITS = 57_600, 128  # of the large dense layer's kernel
KERNEL = FEATURES * UNITS
POOLED = 63 * 63 * 32  # numbers of a picture between the two convolutions
# the other weights, batch statistics, and three sums: one flat tensor
REST = 19_970 + 192 + 3

# float16 ends at 6e-8 below and 65,504 above; gradients of the large kernel lie well under 1
FP16_SCALE = 1024.0


def allreduce(size: float, ranks: int) -> float:
    return 2 * (ranks - 1) / ranks * size


def all_to_all(size: float, ranks: int) -> float:
    return (ranks - 1) / ranks * size


def allgather(size: float, ranks: int) -> float:
    return (ranks - 1) * size


def sync(ranks: int, width: int = 4, kernel_width: int = 4) -> dict[str, float]:
    """Of data parallel training; widths in bytes per number, of the kernel's gradient and all
    else."""
    return {"allreduce": allreduce(KERNEL * kernel_width + REST * width, ranks)}


def hybrid(ranks: int, group: int, rows: float, width: int = 4, activation_width: int = 4,
           micro: int = 1) -> dict[str, float]:
    """Of data parallel training with the kernel's rows over ``group`` of the ranks.

    Args:
        rows: per rank and micro-batch. micro: micro-batches in a step. activation_width: bytes per
            number of the activations and their gradients, ``width`` of all else.
    """
    activations = 2 * all_to_all(rows * FEATURES * activation_width, group)
    partial_sums = all_to_all(rows * group * UNITS * width, group)
    return {"allreduce": allreduce(KERNEL / group * width, ranks // group)
            + allreduce(REST * width, ranks),
            "alltoall": micro * (activations + partial_sums),
            "allgather": micro * allgather(rows * UNITS * width, group)}


def tensor(ranks: int, shards: int, rows: float, width: int = 4) -> dict[str, float]:
    """Of a mesh with each layer's weights in ``shards``, the large kernel's by rows, and ``rows``
    for each rank, so that ranks of one tensor group work on ``rows`` × ``shards`` together.

    The second convolution needs all channels of the first (gathered, and their gradients added
    up); the dense layers' sums and one gradient are small.
    """
    together = rows * shards * width
    sums = allreduce(together * (POOLED + UNITS + 2), shards)
    gathered = all_to_all(together * (POOLED + UNITS), shards)
    return {"allreduce": sums + allreduce((KERNEL + REST) / shards * width, ranks // shards),
            "allgather": gathered}


def pipeline(ranks: int, stages: int, rows: float, cuts: Sequence[int] = (POOLED,),
             width: int = 4) -> dict[str, float]:
    """Of a mesh with the layers in stages, a mean over the ranks, with ``rows`` for each rank.

    Args:
        cuts: numbers of a picture that go from each stage to the next, and back.
    """
    assert len(cuts) == stages - 1
    return {"point_to_point": 2 * sum(cuts) * rows * width,  # rows·stages of them, by stages ranks
            "allreduce": allreduce((KERNEL + REST) / stages * width, ranks // stages)}


def mesh(ranks: int, tensor_shards: int, stages: int, rows: float, cuts: Sequence[int] = (),
         width: int = 4) -> dict[str, float]:
    """Of a mesh with both, and the rest of the ranks data parallel: a mean over the ranks, but
    ``allreduce`` of those that hold the large kernel, for whom the others wait.

    Args:
        rows: for each rank. cuts: numbers of a picture that go between stages.
    """
    both = tensor_shards * stages
    within = tensor(tensor_shards, tensor_shards, rows, width)
    between = pipeline(stages, stages, rows, cuts, width)["point_to_point"]
    return {"tensor": sum(within.values()), "point_to_point": between,
            "allreduce": allreduce((KERNEL + REST) / tensor_shards * width, ranks // both)}


def crossover(rows: float) -> float:
    """Size of a group over all ranks at which ``hybrid`` sends what ``sync`` does; below it, less.
    Negative if there is none: at 128 rows and more the activations alone outweigh the kernel."""
    return (FEATURES / UNITS * (UNITS - rows)) / rows
