"""The default network, ``table``, built from stock Keras layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpc_deepfake.core.surroundings import check_keras
from hpc_deepfake.network.shapes import CHANNELS, DROPOUT, PARAMETERS, UNITS, Shapes
from preprocessing.ela import SIZE

if TYPE_CHECKING:
    import keras

__all__ = ["PARAMETERS", "build"]


def build(precision: str = "float32", size: int = SIZE) -> keras.Model:
    """The CNN: uint8 or float (n, size, size, 3) in 0…255 → probabilities (n, 2) of authentic and
    tampered.

    Kernels are Glorot-uniform from Keras' global seed. For 128 × 128 pixels it has 7,392,962
    parameters, of which 192 are moving statistics.
    """
    import keras
    from keras import layers

    check_keras()
    last = {"data_format": "channels_last"}  # whatever a program that uses this one has set
    keras.config.set_dtype_policy(precision)  # once set, floatx does not change it
    model = keras.Sequential([
        keras.Input((size, size, 3), name="picture"),
        layers.Rescaling(1 / 255, name="rescaling"),
        layers.Conv2D(CHANNELS["conv1"], 3, activation="relu", name="conv1", **last),
        layers.BatchNormalization(name="bn1"),
        layers.MaxPooling2D(2, name="pool1", **last),
        layers.Conv2D(CHANNELS["conv2"], 3, activation="relu", name="conv2", **last),
        layers.BatchNormalization(name="bn2"),
        layers.MaxPooling2D(2, name="pool2", **last),
        layers.Flatten(name="flatten", **last),
        layers.Dense(UNITS, activation="relu", name="dense1"),
        layers.Dropout(DROPOUT, name="dropout"),
        layers.Dense(2, activation="softmax", name="dense2"),
    ], name="hpc_deepfake")
    assert model.count_params() == Shapes(size).parameters
    return model
