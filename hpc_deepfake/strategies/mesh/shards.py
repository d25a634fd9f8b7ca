"""How each weight of the network is cut into shards, and where its block lies."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from hpc_deepfake.strategies.mesh.shape import bounds

# in the order in which a picture passes them; a stage is a stretch of them. A normalisation takes
# the pooling along, so that the small tensor is what travels on.
BLOCKS = ("conv1", "bn1", "conv2", "bn2", "dense1", "dense2")
LAYOUTS = ("row", "column")  # of dense1
CHANNELS = {"conv1": 32, "bn1": 32, "conv2": 64, "bn2": 64}
UNITS = 128
PIXELS = 30 * 30  # of a channel that dense1 sees
MOST_SHARDS = CHANNELS["conv1"]

# what a block gives for one picture
OUTPUTS = {"conv1": (126, 126, 32), "bn1": (63, 63, 32), "conv2": (61, 61, 64),
           "bn2": (30, 30, 64), "dense1": (UNITS,), "dense2": (2,)}


class Parameter(NamedTuple):
    """A weight of the whole network.

    Attributes:
        name: block and role. view: a shape with as many numbers, of which ``axis`` is cut; None:
            every rank of a tensor group has all of it.
    """

    name: str
    shape: tuple[int, ...]
    view: tuple[int, ...]
    axis: int | None
    trainable: bool = True

    @property
    def block(self) -> str:
        return self.name.partition("/")[0]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def _slice(self, index: int, parts: int) -> tuple[slice, ...]:
        cut = [slice(None)] * len(self.view)
        if self.axis is not None:
            cut[self.axis] = slice(*bounds(index, parts, self.view[self.axis]))
        return tuple(cut)

    def part_shape(self, index: int, parts: int) -> tuple[int, ...]:
        """Of a shard: that of the whole, shorter along the axis that is cut."""
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
        """Write a shard to its place."""
        target = whole.reshape(self.view)[self._slice(index, parts)]
        target[...] = part.reshape(target.shape)


def parameters(layout: str = "row") -> list[Parameter]:
    """The network's 16 weights in the order of ``network.Weights.all``.

    Convolutions are cut by output channel, and normalisations with them; dense1 by ``layout``:
    row, on the channels that a rank has (flattened as height, width, channel, so a channel's rows
    lie 64 apart), or column; dense2 by row.
    """

    def whole(name: str, *shape: int, axis: int | None = None, view: tuple[int, ...] = (),
              trainable: bool = True) -> Parameter:
        return Parameter(name, shape, view or shape, axis, trainable)

    found, moving = [], []
    for number, inputs in ((1, 3), (2, 32)):
        outputs = CHANNELS[f"conv{number}"]
        found += [whole(f"conv{number}/kernel", 3, 3, inputs, outputs, axis=3),
                  whole(f"conv{number}/bias", outputs, axis=0),
                  whole(f"bn{number}/gamma", outputs, axis=0),
                  whole(f"bn{number}/beta", outputs, axis=0)]
        moving += [whole(f"bn{number}/{what}", outputs, axis=0, trainable=False)
                   for what in ("mean", "variance")]
    rows = PIXELS * CHANNELS["conv2"]
    if layout == "row":
        found += [whole("dense1/kernel", rows, UNITS, axis=1,
                        view=(PIXELS, CHANNELS["conv2"], UNITS)),
                  whole("dense1/bias", UNITS)]
    else:
        found += [whole("dense1/kernel", rows, UNITS, axis=1), whole("dense1/bias", UNITS, axis=0)]
    return [*found, whole("dense2/kernel", UNITS, 2, axis=0), whole("dense2/bias", 2), *moving]


def output_shape(block: str, layout: str, index: int, parts: int) -> tuple[int, ...]:
    """What a rank's shard of a block gives for one picture."""
    shape = OUTPUTS[block]
    if block in CHANNELS or (block == "dense1" and layout == "column"):
        start, stop = bounds(index, parts, shape[-1])
        return (*shape[:-1], stop - start)
    return shape
