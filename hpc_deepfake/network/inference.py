"""A trained network as a function of a batch, for inference alone.

It computes what Keras' ``predict_on_batch`` does, to the rounding of the weights' type, in less
time: batch normalisations are folded into their neighbours (``folding``), one trace serves batches
of any length, and what it returns are tensors that a GPU may still be computing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from hpc_deepfake.network.folding import Folded, fold

_KEPT = "_for_inference"  # attribute of a model

Launch = Callable[[np.ndarray], Any]


def of(model: keras.Model) -> Launch:
    """The function that computes a trained model's outputs, or several of them as a list, for a
    batch, uint8 (n, S, S, channels), with the weights that the model has at the first call of
    ``of``. Their values are there once they are read, as by ``np.asarray``."""
    known: Launch | None = model.__dict__.get(_KEPT)
    if known is None:
        known = model.__dict__[_KEPT] = _launch(model)
    return known


def _launch(model: keras.Model) -> Launch:
    folded = fold(model)
    values = [(variable, tf.constant(value)) for variable, value in folded.values]

    def outputs(pictures: tf.Tensor) -> Any:
        with _computing(folded), keras.StatelessScope(values):
            return model(pictures, training=False)

    traced = tf.function(outputs, autograph=False).get_concrete_function(
        tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8))
    return lambda pictures: traced(tf.constant(pictures))


@contextmanager
def _computing(folded: Folded) -> Iterator[None]:
    """Within it the layers compute as they are folded."""
    activations = [(layer, layer.activation) for layer, _ in folded.biases]
    try:
        for layer, bias in folded.biases:
            object.__setattr__(layer, "activation", _with_bias(layer.activation, bias))
        for layer in folded.skipped:
            object.__setattr__(layer, "call", _passing(layer))
        yield
    finally:
        for layer in folded.skipped:
            layer.__dict__.pop("call", None)
        for layer, activation in activations:
            object.__setattr__(layer, "activation", activation)


def _with_bias(activation: Callable[[tf.Tensor], tf.Tensor],
               bias: np.ndarray) -> Callable[[tf.Tensor], tf.Tensor]:
    return lambda x: activation(tf.nn.bias_add(x, bias))


def _passing(layer: keras.Layer) -> Callable[..., tf.Tensor]:
    return lambda x, *_, **__: tf.cast(x, layer.compute_dtype)
