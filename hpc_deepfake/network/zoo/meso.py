"""MesoNet: Afchar, Nozick, Yamagishi & Echizen 2018, "MesoNet: a compact facial video forgery
detection network" (WIFS), doi 10.1109/WIFS.2018.8630761.

The layers are those of its figures 3 and 5 and of the authors' program. Decided here: two outputs
with softmax instead of one with a sigmoid, which adds 17 parameters to the published 27,977
(Meso-4) and 28,615 (MesoInception-4) trained ones at 256 pixels; at other sizes the layers stay as
they are, and only the first dense kernel has another number of rows.
"""

from __future__ import annotations

import keras
from keras import KerasTensor, layers

LAST = {"data_format": "channels_last"}  # whatever a program that uses this one has set


def meso4(shape: tuple[int, int, int]) -> keras.Model:
    """Meso-4: four convolutions with normalisation and pooling, two dense layers."""
    x = start = keras.Input(shape, name="picture")
    x = layers.Rescaling(1 / 255, name="rescaling")(x)
    for number, (channels, width) in enumerate(((8, 3), (8, 5)), 1):
        x = layers.Conv2D(channels, width, padding="same", activation="relu", name=f"conv{number}",
                          **LAST)(x)
        x = _pooled(x, number, 2)
    return keras.Model(start, _head(x), name="meso4")


def mesoinception4(shape: tuple[int, int, int]) -> keras.Model:
    """MesoInception-4: the first two convolutions of Meso-4 are modules of four branches, three of
    them with dilated convolutions."""
    x = start = keras.Input(shape, name="picture")
    x = layers.Rescaling(1 / 255, name="rescaling")(x)
    for number, channels in enumerate(((1, 4, 4, 2), (2, 4, 4, 2)), 1):
        x = _pooled(_inception(x, f"inception{number}", channels), number, 2)
    return keras.Model(start, _head(x), name="mesoinception4")


def _inception(x: KerasTensor, name: str, channels: tuple[int, int, int, int]) -> KerasTensor:
    """A 1 × 1 convolution, and three of them before 3 × 3 ones of dilation 1, 2 and 3."""
    branches = []
    for dilation, count in enumerate(channels):
        branch = layers.Conv2D(count, 1, padding="same", activation="relu",
                               name=f"{name}_{dilation}a", **LAST)(x)
        if dilation:
            branch = layers.Conv2D(count, 3, padding="same", dilation_rate=dilation,
                                   activation="relu", name=f"{name}_{dilation}b", **LAST)(branch)
        branches.append(branch)
    return layers.Concatenate(name=name)(branches)


def _head(x: KerasTensor) -> KerasTensor:
    """What both have in common: the last two convolutions and the dense layers."""
    for number, pool in ((3, 2), (4, 4)):
        x = layers.Conv2D(16, 5, padding="same", activation="relu", name=f"conv{number}", **LAST)(x)
        x = _pooled(x, number, pool)
    x = layers.Flatten(name="flatten", **LAST)(x)
    x = layers.Dropout(0.5, name="dropout1")(x)
    x = layers.Dense(16, name="dense1")(x)
    x = layers.LeakyReLU(0.1, name="leaky")(x)
    x = layers.Dropout(0.5, name="dropout2")(x)
    return layers.Dense(2, activation="softmax", name="dense2")(x)


def _pooled(x: KerasTensor, number: int, pool: int) -> KerasTensor:
    x = layers.BatchNormalization(name=f"bn{number}")(x)
    return layers.MaxPooling2D(pool, padding="same", name=f"pool{number}", **LAST)(x)
