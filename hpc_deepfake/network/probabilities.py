"""Whether what a Keras model gives are probabilities: by its last activation, else by trial."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from hpc_deepfake.network import graph

_TRIALS = 3  # with other weights
_ZERO = 0.3  # spread of what is added to weights that are all 0


def gives(model: keras.Model, pictures: np.ndarray, given: np.ndarray) -> bool:
    """Whether the two outputs of each row are probabilities, whatever the weights.

    A softmax at the end says so. Without one, such as at the end of an average of several, the
    outputs must be so with the present weights and with others: a layer whose kernel begins at zero
    gives the same for all pictures, by chance 0.5 and 0.5.

    Args:
        model: of one input and one output, (n, 2).
        pictures: uint8 (n, size, size, 3).
        given: the model's output for them.
    """
    if _ends_in_softmax(model):
        return True
    if not _are_probabilities(given):
        return False
    random = np.random.default_rng(0)
    for _ in range(_TRIALS):
        with _other_weights(model, random):
            others = np.asarray(model(pictures, training=False), np.float64)
        if np.isfinite(others).all() and not _are_probabilities(others):
            return False
    return True


def _are_probabilities(given: np.ndarray) -> bool:
    return bool((given >= 0).all() and np.allclose(given.sum(1), 1, atol=1e-2))


def ends_in_sigmoid(model: keras.Model) -> bool:
    """Whether the graph's last operation is a sigmoid, or has one."""
    operation = _last(model)
    if type(operation).__name__ == "Sigmoid":
        return type(operation).__module__.startswith("keras.")
    return getattr(operation, "activation", None) is keras.activations.sigmoid


def _last(model: keras.Model) -> Any:
    """The graph's last operation; None: unknown."""
    operation: Any = model
    while isinstance(operation, keras.Model):
        within = graph.of(operation)
        if within is None or len(within.outputs) != 1:
            return None
        operation = within.outputs[0]._keras_history.operation
    return operation


def _ends_in_softmax(model: keras.Model) -> bool:
    """Whether the graph's last operation is a softmax over the two outputs, or has one."""
    operation = _last(model)
    if type(operation).__name__ == "Softmax" and type(operation).__module__.startswith("keras."):
        return operation.axis in (-1, 1)
    return getattr(operation, "activation", None) is keras.activations.softmax


@contextmanager
def _other_weights(model: keras.Model, random: np.random.Generator) -> Iterator[None]:
    """Other trained weights, of about the same size, within the block."""
    before = [weight.numpy() for weight in model.trainable_weights]
    try:
        for weight, values in zip(model.trainable_weights, before, strict=True):
            rows = max(1, int(np.prod(values.shape[:-1])))
            spread = float(np.sqrt(np.mean(np.square(values)))) or _ZERO / np.sqrt(rows)
            weight.assign(values + random.normal(0, spread, values.shape).astype(values.dtype))
        yield
    finally:
        for weight, values in zip(model.trainable_weights, before, strict=True):
            weight.assign(values)
