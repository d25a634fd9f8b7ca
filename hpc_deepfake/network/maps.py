"""Networks that say where: a layer named ``map`` gives each pixel's probability of being changed.

Such a network has the same output as any other, (n, 2); the map is a layer inside it, so that all
that uses a trained model works with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras
    from keras import KerasTensor

LAYER = "map"
LOG_ODDS = "map_logits"  # the layer whose sigmoid is the map
RELATIVE = "relative"  # the layer that normalises each picture for itself
EXACT = (LAYER, LOG_ODDS, RELATIVE, "verdict")  # computed in the type of the weights
HEAD = ("pixels", "areas", "highest_area", "share", "top_of_map")  # its other layers
LEAST = 1e-6  # of a probability whose log-odds are taken
LEVELS = 256  # that maps are rounded to
TOP = 80  # the verdict looks at one pixel of so many, the highest
AREAS = 16  # and at so many areas across


def has(model: Any) -> bool:
    """Whether a Keras model says where: it has a layer ``map`` of an output (n, S, S, 1) for
    pictures (n, S, S, …)."""
    layer = next((layer for layer in getattr(model, "layers", ()) if layer.name == LAYER), None)
    shape = getattr(getattr(layer, "output", None), "shape", None)
    return shape is not None and tuple(shape) == (None, *model.input_shape[1:3], 1)


def both(model: keras.Model) -> keras.Model:
    """The model with two outputs, probabilities (n, 2) and map (n, S, S, 1); it shares the layers.
    """
    import keras

    return keras.Model(model.input, [model.output, model.get_layer(LAYER).output], name=model.name)


def quantised(probabilities: np.ndarray) -> np.ndarray:
    """Maps in levels of 1/255, uint8 (n, S, S), from probabilities (n, S, S) or (n, S, S, 1)."""
    values = np.asarray(probabilities, np.float32)
    values = values[..., 0] if values.ndim == 4 else values
    return np.rint(values * (LEVELS - 1)).astype(np.uint8)


def with_verdict(picture: KerasTensor, log_odds: KerasTensor, name: str,
                 found: KerasTensor | None = None) -> keras.Model:
    """A network that says where, and whether: it judges a picture by its map, by the mean of the
    highest pixels, the highest mean of an area, and the share of what is changed.

    Args:
        picture: the input, (n, S, S, channels).
        log_odds: that each pixel was changed, (n, S, S, 1).
        name: of the model.
        found: the probabilities, where they are there already; None: the sigmoid of ``log_odds``.
    """
    import keras
    from keras import layers, ops

    side = log_odds.shape[1]
    given = layers.Activation("sigmoid", name=LAYER)(log_odds) if found is None \
        else layers.Identity(name=LAYER)(found)
    flat = layers.Reshape((side * side,), name="pixels")(log_odds)
    highest = ops.mean(ops.top_k(flat, max(1, side * side // TOP))[0], axis=1, keepdims=True)
    area = max(1, side // AREAS)
    areas = layers.AveragePooling2D(area, padding="same", name="areas")(log_odds)
    judged = layers.Concatenate(name="top_of_map")([
        highest, layers.GlobalMaxPooling2D(name="highest_area")(areas),
        layers.GlobalAveragePooling2D(name="share")(given)])
    # it begins undecided, and lets the masks alone shape the map at first
    verdict = layers.Dense(2, activation="softmax", kernel_initializer="zeros",
                           name="verdict")(judged)
    return keras.Model(picture, verdict, name=name)
