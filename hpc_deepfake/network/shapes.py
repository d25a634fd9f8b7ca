"""Shapes within the table network, from the size of its input."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from preprocessing.ela import SIZE

UNITS = 128  # of the first dense layer
DROPOUT = 0.5  # rate behind it
CHANNELS = {"conv1": 32, "bn1": 32, "conv2": 64, "bn2": 64}
MOVING = 2 * (CHANNELS["bn1"] + CHANNELS["bn2"])  # moving statistics
# numbers in all weights that are trained but the large kernel
SMALL = (9 * 3 + 1 + 2) * CHANNELS["conv1"] + (9 * CHANNELS["conv1"] + 1 + 2) * CHANNELS["conv2"] \
    + UNITS + (UNITS + 1) * 2


@dataclass(frozen=True)
class Shapes:
    """The network for pictures of ``size`` × ``size``.

    Attributes:
        size: width and height of the input.
    """

    size: int = SIZE

    @cached_property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """Of each block for one picture; a convolution is valid 3 × 3, and a normalisation includes
        the 2 × 2 pooling behind it."""
        shapes: dict[str, tuple[int, ...]] = {}
        size = self.size
        for block, channels in CHANNELS.items():
            size = size - 2 if block.startswith("conv") else size // 2
            shapes[block] = (size, size, channels)
        return {**shapes, "dense1": (UNITS,), "dense2": (2,)}

    @property
    def pixels(self) -> int:
        """Of each channel of dense1's input."""
        return self.outputs["bn2"][0] * self.outputs["bn2"][1]

    @property
    def features(self) -> int:
        """Of dense1's input."""
        return self.pixels * CHANNELS["bn2"]

    @property
    def kernel(self) -> int:
        """Numbers in dense1's kernel, the large one."""
        return self.features * UNITS

    @property
    def parameters(self) -> int:
        """Of the network: 7,392,962 for 128 × 128."""
        return self.kernel + SMALL + MOVING


# of the usual size
_USUAL = Shapes()
OUTPUTS, PIXELS, FEATURES = _USUAL.outputs, _USUAL.pixels, _USUAL.features
KERNEL, PARAMETERS = _USUAL.kernel, _USUAL.parameters
