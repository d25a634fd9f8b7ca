"""Copies of a model: its layers, built again from their description."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras


class Description(NamedTuple):
    """What a model is built of.

    Attributes:
        config: Keras' description of it.
        trainable: whether each layer is, those within layers included, which ``config`` forgets.
    """

    config: dict[str, Any]
    trainable: list[bool]


def describe(model: keras.Model) -> Description:
    """The description of a model."""
    return Description(keras.saving.serialize_keras_object(model),
                       [layer.trainable for layer in _layers(model)])


def build(description: Description) -> keras.Model:
    """A model with weights of its own, which have the order of those of the model described."""
    config, trainable = description
    model = keras.saving.deserialize_keras_object(config, safe_mode=True)
    # a layer's value is passed on to the layers within it, which come after it
    for layer, value in zip(_layers(model), trainable, strict=True):
        layer.trainable = value
    return model


def _layers(model: keras.Model) -> list[keras.Layer]:
    return list(model._flatten_layers(include_self=False))
