"""Affine layers of a trained network folded into their neighbours' weights: inference with fewer
passes over the activations.

A batch normalisation that uses its moving statistics computes ``scale * x + offset`` in each
channel. Behind a convolution or dense layer without activation both are one with other weights
(Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", section 3.2). So they are in front of one, as in the network
``table``: means, dropout and reshaping in between commute with it, and maxima where the scale is
positive. Padding doesn't, since it pads with 0 instead of the offset. ``Rescaling`` is folded
likewise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

from hpc_deepfake.network import graph

_layers = keras.layers
_LINEAR = {_layers.Conv2D, _layers.DepthwiseConv2D, _layers.SeparableConv2D, _layers.Dense}
_MAXIMA = {_layers.MaxPooling2D, _layers.GlobalMaxPooling2D}
_PASSING = {_layers.AveragePooling2D, _layers.GlobalAveragePooling2D, _layers.Dropout,
            _layers.SpatialDropout2D, *_MAXIMA}


class Folded(NamedTuple):
    """What a network computes with for inference.

    Attributes:
        values: other values of some of its variables, numpy arrays in their types.
        biases: of layers that have none: what is added before the activation, numpy arrays.
        skipped: layers that are folded into others: they pass on what they get.
    """

    values: list[tuple[keras.Variable, np.ndarray]]
    biases: list[tuple[keras.Layer, np.ndarray]]
    skipped: list[keras.Layer]


def fold(model: keras.Model) -> Folded:
    """What ``model`` computes with for inference, which is not changed. Layers that are used
    several times, are no stock layers of Keras, or compute in another type than that of their
    weights stay as they are, and so does a model that isn't a graph of layers."""
    whole = graph.of(model)
    return _Folding(model, whole).fold() if whole is not None else Folded([], [], [])


class _Folding:
    def __init__(self, model: keras.Model, whole: Any) -> None:
        self._whole = whole
        self._uses: Counter[int] = Counter()  # of layers, by the graphs and by other layers
        for node in graph.calls(whole):
            self._uses.update(map(id, _all(node.operation)))
        self._owners = Counter(id(variable) for layer in _all(model) if len(_all(layer)) == 1
                               for variable in layer.variables)
        self._weights: dict[int, tuple[keras.Variable, np.ndarray]] = {}
        self._biases: dict[int, tuple[keras.Layer, np.ndarray]] = {}
        self._skipped: list[keras.Layer] = []

    def fold(self) -> Folded:
        for part in _graphs(self._whole):
            self._fold_within(part)
        return Folded([(variable, value.astype(variable.dtype, copy=False))
                       for variable, value in self._weights.values()],
                      [(layer, value.astype(layer.compute_dtype))
                       for layer, value in self._biases.values()], self._skipped)

    def _fold_within(self, part: Any) -> None:
        used: dict[int, list[Any]] = {}  # calls by the tensor that they get
        for node in graph.nodes(part):
            for tensor in node.arguments.keras_tensors:
                used.setdefault(id(tensor), []).append(node)
        outputs = {id(tensor) for tensor in part.outputs}

        def only_use(tensor: Any) -> Any:
            """The one call that gets a tensor; None: there are others, or it is an output."""
            calls = used.get(id(tensor), [])
            return calls[0] if len(calls) == 1 and id(tensor) not in outputs else None

        made = {id(tensor): node for node in graph.nodes(part) for tensor in node.output_tensors}
        for node in graph.nodes(part):
            affine = self._affine(node)
            if affine is None:
                continue
            scale, offset = affine
            source = node.arguments.keras_tensors[0]
            before = made.get(id(source))
            if before is not None and only_use(source) is node \
                    and self._takes_after(before.operation, scale):
                self._fold_after(before.operation, scale, offset)
                self._skipped.append(node.operation)
            elif self._fold_before(only_use, node, scale, offset):
                self._skipped.append(node.operation)

    def _affine(self, node: Any) -> tuple[np.ndarray, np.ndarray] | None:
        """Scale and offset of the call of an affine layer, float64 of its channels or ()."""
        layer, given = node.operation, node.arguments.keras_tensors
        if not self._is_own(layer) or len(given) != 1:
            return None
        if type(layer) is _layers.Rescaling:
            scale, offset = np.asarray(layer.scale, float), np.asarray(layer.offset, float)
            return (scale, offset) if scale.ndim == offset.ndim == 0 else None
        if type(layer) is not _layers.BatchNormalization \
                or layer.axis not in (-1, len(given[0].shape) - 1):
            return None
        gamma, beta, mean, variance = (
            0.0 if variable is None else np.asarray(variable.value, np.float64)
            for variable in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance))
        scale = (1.0 if layer.gamma is None else gamma) / np.sqrt(variance + layer.epsilon)
        return scale, beta - mean * scale

    def _is_own(self, layer: Any) -> bool:
        """Whether a layer and its weights are used once, in their own type."""
        return isinstance(layer, keras.Layer) and self._uses[id(layer)] == 1 \
            and layer.compute_dtype == layer.variable_dtype \
            and all(self._owners[id(variable)] == 1 for variable in layer.variables) \
            and getattr(layer, "data_format", "channels_last") == "channels_last" \
            and getattr(layer, "quantization_mode", None) is None \
            and not getattr(layer, "lora_enabled", False)

    def _takes_after(self, layer: Any, scale: np.ndarray) -> bool:
        return scale.ndim == 1 and type(layer) in _LINEAR and self._is_own(layer) \
            and layer.activation is keras.activations.linear

    def _fold_after(self, layer: Any, scale: np.ndarray, offset: np.ndarray) -> None:
        """Fold what comes after a linear layer into its weights."""
        kernel = layer.pointwise_kernel if isinstance(layer, _layers.SeparableConv2D) \
            else layer.kernel
        value = self._value(kernel)
        if isinstance(layer, _layers.DepthwiseConv2D):
            scales = scale.reshape(value.shape[2:])
        else:
            scales = scale
        self._set(kernel, value * scales.astype(value.dtype))
        self._set_bias(layer, self._bias(layer, len(scale)) * scale + offset)

    def _fold_before(self, only_use: Callable[[Any], Any], node: Any, scale: np.ndarray,
                     offset: np.ndarray) -> bool:
        """Fold an affine layer into the next convolution or dense layer; False: there is none that
        takes it."""
        while True:
            (given,) = node.output_tensors
            node = only_use(given)
            if node is None or len(node.output_tensors) != 1:
                return False
            layer = node.operation
            if type(layer) is _layers.Flatten and len(given.shape) == 4 \
                    and layer.data_format == "channels_last" and None not in given.shape[1:]:
                scale, offset = (np.broadcast_to(value, given.shape[1:]).ravel()
                                 for value in (scale, offset))
            elif type(layer) not in _PASSING \
                    or getattr(layer, "data_format", "channels_last") != "channels_last" \
                    or (type(layer) in _MAXIMA and (scale < 0).any()):
                break
        if not self._is_own(layer):
            return False
        if type(layer) is _layers.Conv2D:
            if layer.groups != 1 or (layer.padding != "valid" and offset.any()):
                return False
        elif type(layer) is not _layers.Dense or len(given.shape) != 2:
            return False
        value = self._value(layer.kernel)
        scale, offset = (np.broadcast_to(each, value.shape[-2]) for each in (scale, offset))
        if offset.any():
            self._set_bias(layer, self._bias(layer, value.shape[-1]) + np.einsum(
                "i,pio->o", offset, value.reshape(-1, *value.shape[-2:])))
        self._set(layer.kernel, value * scale.astype(value.dtype)[:, None])
        return True

    def _value(self, variable: keras.Variable) -> np.ndarray:
        """What is computed with so far."""
        known = self._weights.get(id(variable))
        return np.asarray(variable.value) if known is None else known[1]

    def _set(self, variable: keras.Variable, value: np.ndarray) -> None:
        self._weights[id(variable)] = variable, value

    def _bias(self, layer: Any, channels: int) -> np.ndarray:
        if layer.bias is not None:
            return self._value(layer.bias)
        known = self._biases.get(id(layer))
        return np.zeros(channels) if known is None else known[1]

    def _set_bias(self, layer: Any, value: np.ndarray) -> None:
        if layer.bias is None:
            self._biases[id(layer)] = layer, value
        else:
            self._set(layer.bias, value)


def _all(operation: Any) -> list[Any]:
    """An operation, and the layers within it at any depth."""
    return [*operation._flatten_layers()] if isinstance(operation, keras.Layer) else [operation]


def _graphs(whole: Any) -> Iterator[Any]:
    """A graph, and those of the models within it, each once."""
    yield whole
    inner = {id(within): within for node in graph.nodes(whole)
             if (within := graph.inner(node.operation)) is not None}
    for within in inner.values():
        yield from _graphs(within)
