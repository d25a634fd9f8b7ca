"""How each weight of the network ``table`` is cut into shards, and which block it belongs to."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from hpc_deepfake.network.shapes import CHANNELS, UNITS, Shapes
from hpc_deepfake.strategies.mesh.shape import bounds

# in the order of the network; a stage has consecutive blocks. A normalisation includes the pooling
# behind it, so that the smaller tensor is sent to the next stage.
BLOCKS = ("conv1", "bn1", "conv2", "bn2", "dense1", "dense2")
LAYOUTS = ("row", "column")  # how the kernel of dense1 is cut
MOST_SHARDS = CHANNELS["conv1"]


class Parameter(NamedTuple):
    """A weight of a whole network.

    Attributes:
        name: block and role, such as ``conv1/kernel``; of other networks than ``table`` layer and
            place among its weights, such as ``conv1/0``.
        shape: of the whole weight.
        view: a shape with as many numbers, whose ``axis`` is cut.
        axis: of ``view``; None: every rank of a tensor group has the whole weight.
        trainable: False for moving statistics, and for what training doesn't change.
    """

    name: str
    shape: tuple[int, ...]
    view: tuple[int, ...]
    axis: int | None
    trainable: bool = True

    @property
    def block(self) -> str:
        """The block, or the layer, that the weight belongs to."""
        return self.name.partition("/")[0]

    @property
    def size(self) -> int:
        """How many numbers the whole weight has."""
        return math.prod(self.shape)

    def _slice(self, index: int, parts: int) -> tuple[slice, ...]:
        cut = [slice(None)] * len(self.view)
        if self.axis is not None:
            cut[self.axis] = slice(*bounds(index, parts, self.view[self.axis]))
        return tuple(cut)

    def part_shape(self, index: int, parts: int) -> tuple[int, ...]:
        """Shape of a shard: the whole's, shorter along the axis that is cut."""
        if self.axis is None:
            return self.shape
        start, stop = bounds(index, parts, self.view[self.axis])
        length = self.size // self.view[self.axis] * (stop - start)
        if len(self.view) == len(self.shape):
            return (*self.shape[:self.axis], stop - start, *self.shape[self.axis + 1:])
        return (length // self.shape[-1], self.shape[-1])

    def take(self, whole: np.ndarray, index: int, parts: int) -> np.ndarray:
        """A copy of shard ``index`` of ``parts``."""
        part = whole.reshape(self.view)[self._slice(index, parts)]
        return np.array(part, order="C").reshape(self.part_shape(index, parts))

    def put(self, whole: np.ndarray, part: np.ndarray, index: int, parts: int) -> None:
        """Write shard ``index`` of ``parts`` into ``whole``."""
        target = whole.reshape(self.view)[self._slice(index, parts)]
        target[...] = part.reshape(target.shape)


def parameters(layout: str = "row", shapes: Shapes | None = None,
               frozen: Collection[str] = ()) -> list[Parameter]:
    """The network's 16 weights in the order of ``fused.Weights.all``.

    Convolutions and their normalisations are cut by output channel, dense2 by row. dense1 is cut
    by ``layout``: by column, or by row along the channels that a rank has (its input is flattened
    as height, width, channel, so the rows of a channel are 64 apart).

    Args:
        layout: one of ``LAYOUTS``.
        shapes: of the network; None: for the usual size.
        frozen: blocks that aren't trained.
    """
    pixels = (shapes or Shapes()).pixels

    def whole(name: str, *shape: int, axis: int | None = None, view: tuple[int, ...] = ()) \
            -> Parameter:
        return Parameter(name, shape, view or shape, axis)

    weights, statistics = [], []
    for number, inputs in ((1, 3), (2, 32)):
        outputs = CHANNELS[f"conv{number}"]
        weights += [whole(f"conv{number}/kernel", 3, 3, inputs, outputs, axis=3),
                    whole(f"conv{number}/bias", outputs, axis=0),
                    whole(f"bn{number}/gamma", outputs, axis=0),
                    whole(f"bn{number}/beta", outputs, axis=0)]
        statistics += [whole(f"bn{number}/{what}", outputs, axis=0)._replace(trainable=False)
                       for what in ("mean", "variance")]
    rows = pixels * CHANNELS["conv2"]
    if layout == "row":
        weights += [whole("dense1/kernel", rows, UNITS, axis=1,
                          view=(pixels, CHANNELS["conv2"], UNITS)),
                    whole("dense1/bias", UNITS)]
    else:
        weights += [whole("dense1/kernel", rows, UNITS, axis=1),
                    whole("dense1/bias", UNITS, axis=0)]
    weights += [whole("dense2/kernel", UNITS, 2, axis=0), whole("dense2/bias", 2)]
    fixed = [one._replace(trainable=False) for block in BLOCKS if block in frozen
             for one in (*weights, *statistics) if one.block == block]
    return [*(one for one in (*weights, *statistics) if one.block not in frozen), *fixed]


def output_shape(block: str, layout: str, index: int, parts: int,
                 shapes: Shapes | None = None) -> tuple[int, ...]:
    """Shape of the output of a rank's shard of a block for one picture."""
    shape = (shapes or Shapes()).outputs[block]
    if block in CHANNELS or (block == "dense1" and layout == "column"):
        start, stop = bounds(index, parts, shape[-1])
        return (*shape[:-1], stop - start)
    return shape
