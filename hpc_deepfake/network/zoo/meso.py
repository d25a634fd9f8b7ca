"""MesoNet: Afchar, Nozick, Yamagishi & Echizen 2018, "MesoNet: a compact facial video forgery
detection network" (WIFS), arXiv 1809.00888.

The layers are those of its figures 4 and 5. Decided here: two outputs with softmax in place of one
with a sigmoid, which adds 17 parameters to the published 27,977 (Meso-4) and 28,615
(MesoInception-4) trained ones at 256 × 256. At other sizes the layers are the same, and only the
kernel of the first dense layer has another number of rows.
"""

from __future__ import annotations

import keras
from keras import KerasTensor, layers

from hpc_deepfake.network.zoo.layers import LAST, Shape


def meso4(shape: Shape) -> keras.Model:
    """Meso-4: four convolutions, each with normalisation and pooling, and two dense layers."""
    return keras.Sequential([
        keras.Input(shape, name="picture"),
        layers.Rescaling(1 / 255, name="rescaling"),
        *_convolution(1, 8, 3, 2), *_convolution(2, 8, 5, 2), *_head()], name="meso4")


def mesoinception4(shape: Shape) -> keras.Model:
    """MesoInception-4: Meso-4 whose first two convolutions are modules of four branches, two of
    them with dilated convolutions."""
    x = start = keras.Input(shape, name="picture")
    x = layers.Rescaling(1 / 255, name="rescaling")(x)
    for number, channels in enumerate(((1, 4, 4, 2), (2, 4, 4, 2)), 1):
        x = _branches(x, f"inception{number}", channels)
        for layer in _pooled(number, 2):
            x = layer(x)
    for layer in _head():
        x = layer(x)
    return keras.Model(start, x, name="mesoinception4")


def _branches(x: KerasTensor, name: str, channels: tuple[int, int, int, int]) -> KerasTensor:
    """A 1 × 1 convolution, beside three of them followed by 3 × 3 ones of dilation 1, 2 and 3."""
    found = []
    for dilation, count in enumerate(channels):
        options = {"padding": "same", "activation": "relu", **LAST}
        y = layers.Conv2D(count, 1, name=f"{name}_{dilation}_point", **options)(x)
        if dilation:
            y = layers.Conv2D(count, 3, dilation_rate=dilation, name=f"{name}_{dilation}",
                              **options)(y)
        found.append(y)
    return layers.Concatenate(name=name)(found)


def _head() -> list[keras.Layer]:
    """What both have in common: the last two convolutions and the dense layers."""
    return [*_convolution(3, 16, 5, 2), *_convolution(4, 16, 5, 4),
            layers.Flatten(name="flatten", **LAST),
            layers.Dropout(0.5, name="dropout1"),
            layers.Dense(16, name="dense1"),
            layers.LeakyReLU(0.1, name="leaky"),
            layers.Dropout(0.5, name="dropout2"),
            layers.Dense(2, activation="softmax", name="dense2")]


def _convolution(number: int, channels: int, width: int, pool: int) -> list[keras.Layer]:
    return [layers.Conv2D(channels, width, padding="same", activation="relu",
                          name=f"conv{number}", **LAST), *_pooled(number, pool)]


def _pooled(number: int, pool: int) -> list[keras.Layer]:
    return [layers.BatchNormalization(name=f"bn{number}"),
            layers.MaxPooling2D(pool, padding="same", name=f"pool{number}", **LAST)]
