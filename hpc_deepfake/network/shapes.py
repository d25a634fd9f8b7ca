"""Shapes within the network, from the size of its input."""

from __future__ import annotations

from preprocessing.ela import SIZE

UNITS = 128  # of the first dense layer
CHANNELS = {"conv1": 32, "bn1": 32, "conv2": 64, "bn2": 64}


def _outputs(size: int) -> dict[str, tuple[int, ...]]:
    """Of each block for one picture of ``size`` × ``size``; a convolution is valid 3 × 3, and a
    normalisation includes the 2 × 2 pooling behind it."""
    shapes: dict[str, tuple[int, ...]] = {}
    for block, channels in CHANNELS.items():
        size = size - 2 if block.startswith("conv") else size // 2
        shapes[block] = (size, size, channels)
    return {**shapes, "dense1": (UNITS,), "dense2": (2,)}


OUTPUTS = _outputs(SIZE)
PIXELS = OUTPUTS["bn2"][0] * OUTPUTS["bn2"][1]  # of each channel of dense1's input
FEATURES = PIXELS * CHANNELS["bn2"]
KERNEL = FEATURES * UNITS  # numbers in dense1's kernel, the large one
MOVING = 2 * (CHANNELS["bn1"] + CHANNELS["bn2"])  # moving statistics
# numbers in all other weights that are trained
SMALL = (9 * 3 + 1 + 2) * CHANNELS["conv1"] + (9 * CHANNELS["conv1"] + 1 + 2) * CHANNELS["conv2"] \
    + UNITS + (UNITS + 1) * 2
PARAMETERS = KERNEL + SMALL + MOVING  # 7,392,962 for 128 × 128
