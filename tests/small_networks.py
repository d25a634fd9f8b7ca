"""Small networks for tests: 16 × 16 pixels, with everything that strategies must get right."""

from __future__ import annotations

import keras
from keras import layers

from hpc_deepfake.network import maps


def branched(shape: tuple[int, int, int] = (16, 16, 3)) -> keras.Model:
    """A residual network with branches, a shared convolution, and batch normalisation that is
    shared too, without scale, and behind a dense layer; spatial dropout, dropout, a regulariser."""
    picture = keras.Input(shape, name="picture")
    x = layers.Rescaling(1 / 255)(picture)
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="stem")(x)
    x = layers.BatchNormalization(name="stem_bn", momentum=0.9, epsilon=1e-5)(x)
    shared = layers.Conv2D(8, 3, padding="same", name="shared", use_bias=False)
    shared_bn = layers.BatchNormalization(name="shared_bn", scale=False)
    for _ in range(2):
        y = layers.ReLU()(shared_bn(shared(x)))
        x = layers.Add()([x, y])
    x = layers.SpatialDropout2D(0.25, name="spatial")(x)
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)])
    x = layers.Dense(12, activation="relu", name="hidden",
                     kernel_regularizer=keras.regularizers.L2(0.01))(x)
    x = layers.BatchNormalization(name="hidden_bn")(x)
    x = layers.Dropout(0.5, name="dropout")(x)
    return keras.Model(picture, layers.Dense(2, activation="softmax", name="answer")(x),
                       name="branched")


def located(shape: tuple[int, int, int] = (16, 16, 6)) -> keras.Model:
    """A network that says where a picture was changed, of two features that are stacked."""
    picture = keras.Input(shape, name="picture")
    x = layers.Rescaling(1 / 255)(picture)
    x = fine = layers.BatchNormalization(name="fine_bn")(
        layers.Conv2D(8, 3, padding="same", activation="relu", name="fine")(x))
    x = layers.MaxPooling2D(2)(x)
    x = layers.BatchNormalization(name="coarse_bn")(
        layers.Conv2D(8, 3, padding="same", activation="relu", name="coarse")(x))
    x = layers.Dropout(0.25, name="dropout")(x)
    x = layers.Concatenate()([fine, layers.UpSampling2D(2)(x)])
    return maps.with_verdict(picture, layers.Conv2D(1, 1, name=maps.LOG_ODDS)(x), "located")


def stacked(shape: tuple[int, int, int] = (16, 16, 3)) -> keras.Model:
    """A Sequential model with what the ranks must get right that hold parts of it: regularisers in
    several stages, statistics, random layers, a model with branches within it, and a dense kernel
    that it pays to shard."""
    inner = keras.Input((6, 6, 4))
    branch = layers.Conv2D(4, 3, padding="same", name="branch",
                           kernel_regularizer=keras.regularizers.L2(0.02))(inner)
    return keras.Sequential([
        keras.Input(shape, name="picture"),
        layers.Rescaling(1 / 255, name="rescaling"),
        layers.Conv2D(4, 5, activation="relu", name="conv",
                      kernel_regularizer=keras.regularizers.L2(0.05)),
        layers.BatchNormalization(momentum=0.8, name="bn"),
        layers.SpatialDropout2D(0.2, name="spatial"),
        layers.MaxPooling2D(2, name="pool"),
        keras.Model(inner, layers.Add(name="join")([inner, branch]), name="inner"),
        layers.Flatten(name="flatten"),
        layers.Dense(64, activation="relu", name="hidden"),
        layers.Dropout(0.4, name="dropout"),
        layers.Dense(2, name="answer"), layers.Softmax(name="softmax")])
