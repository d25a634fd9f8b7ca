"""Constrained convolution: Bayar & Stamm 2016, "A deep learning approach to universal image
manipulation detection using a new convolutional layer" (IH&MMSec), doi 10.1145/2909827.2930786."""

from __future__ import annotations

import keras
from keras import layers

from hpc_deepfake.network.zoo.layers import LAST, ConstrainedConv2D, Shape


def bayar(shape: Shape) -> keras.Model:
    """The network of Bayar & Stamm 2018, "Constrained convolutional neural networks: a new
    approach towards general purpose image manipulation detection" (IEEE TIFS), doi
    10.1109/TIFS.2018.2825953, whose first layer is that of 2016.

    Decided here: the filters read all three channels, not the green one alone, with the constraint
    in each; pictures are not scaled (a normalisation follows); poolings reach over the edge, so
    that any size from 64 pixels on works, which makes 8 × 8 of the last 7 × 7 at 256 × 256.
    """
    tanh = {"activation": "tanh"}
    blocks: list[keras.Layer] = []
    for number, (channels, width, stride) in enumerate(
            ((96, 7, 2), (64, 5, 1), (64, 5, 1), (128, 1, 1)), 2):
        pool = layers.MaxPooling2D if number < 5 else layers.AveragePooling2D
        blocks += [layers.Conv2D(channels, width, stride, padding="same", name=f"conv{number}",
                                 **LAST),
                   layers.BatchNormalization(name=f"bn{number}"),
                   layers.Activation("tanh", name=f"tanh{number}"),
                   pool(3, 2, padding="same", name=f"pool{number}", **LAST)]
    return keras.Sequential([
        keras.Input(shape, name="picture"),
        ConstrainedConv2D(3, 5, name="constrained"),
        *blocks,
        layers.Flatten(name="flatten", **LAST),
        layers.Dense(200, name="dense1", **tanh),
        layers.Dense(200, name="dense2", **tanh),
        layers.Dense(2, activation="softmax", name="dense3")], name="bayar")
