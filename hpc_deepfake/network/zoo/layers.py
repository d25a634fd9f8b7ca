"""What the networks of this folder have in common, and the layer that Keras doesn't have.

A ``.keras`` file with that layer loads in Keras' safe mode once this module is imported, as
``network.model.load`` does: the layer is registered as ``hpc_deepfake>ConstrainedConv2D``.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import KerasTensor, ops

Shape = tuple[int, int, int]
LAST = {"data_format": "channels_last"}  # whatever a program that uses this one has set


@keras.saving.register_keras_serializable(package="hpc_deepfake")
class ConstrainedConv2D(keras.layers.Layer):
    """Convolution whose filters predict a pixel from its neighbours and return the error: in each
    filter and channel the centre is -1, and the other weights sum to 1 (Bayar & Stamm 2016).

    The constraint is part of the forward pass: it uses, of all filters that meet it, the one
    nearest to the weights (their mean is shifted). Bayar & Stamm divide the weights by their sum
    after each step instead, which fails where the sum is near 0, and which any program that
    changes weights would have to know.

    Args:
        filters: number of filters.
        kernel_size: odd, width and height of each.
        kwargs: those of ``keras.layers.Layer``.
    """

    def __init__(self, filters: int, kernel_size: int = 5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if kernel_size < 3 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and at least 3, not {kernel_size}")
        self.filters, self.kernel_size = filters, kernel_size

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """For float (n, height, width, channels)."""
        width = self.kernel_size
        neighbours = np.ones((width, width, 1, 1))
        neighbours[width // 2, width // 2] = 0
        self.neighbours = neighbours
        # in mixed precision too: a sum of 1 to three digits would leave much of the picture
        self.kernel = self.add_weight(
            shape=(width, width, input_shape[-1], self.filters), initializer="glorot_uniform",
            name="kernel", autocast=False)
        super().build(input_shape)

    def constrained(self) -> KerasTensor:
        """The filters, (height, width, channels, filters) in the type of the weights."""
        neighbours = ops.cast(self.neighbours, self.kernel.dtype)
        missing = 1 - ops.sum(self.kernel * neighbours, (0, 1), keepdims=True)
        return (self.kernel + missing / (self.kernel_size**2 - 1)) * neighbours + (neighbours - 1)

    def call(self, inputs: KerasTensor) -> KerasTensor:
        """Errors (n, height - kernel_size + 1, width - kernel_size + 1, filters), computed in the
        type of the weights: they are small differences of large values."""
        kernel = self.constrained()
        errors = ops.conv(ops.cast(inputs, kernel.dtype), kernel, padding="valid", **LAST)
        return ops.cast(errors, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """As ``call``."""
        batch, *sides, _ = input_shape
        return (batch, *(side and side - self.kernel_size + 1 for side in sides), self.filters)

    def get_config(self) -> dict[str, Any]:
        """As Keras stores it."""
        return {**super().get_config(), "filters": self.filters, "kernel_size": self.kernel_size}
