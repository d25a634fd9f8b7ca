"""What a network costs: weights, operations and memory, counted without training it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

_COPIES = 4  # of each trained weight: itself, its gradient and Adam's two moments


class Cost(NamedTuple):
    """Of a network.

    Attributes:
        parameters: numbers in all weights.
        trainable: of them, those that training changes.
        flop: floating-point operations of the forward pass of one picture.
        weights_bytes: of all weights.
        activation_bytes: of what all layers give for one picture, which training keeps for the
            backward pass.
    """

    parameters: int
    trainable: int
    flop: int
    weights_bytes: int
    activation_bytes: int

    def training_bytes(self, batch: int) -> int:
        """Memory of a training step with Adam and ``batch`` pictures; an estimate, without what
        single operations need for themselves."""
        return self.weights_bytes + self.trainable * 4 * (_COPIES - 1) \
            + batch * self.activation_bytes


def cost(model: keras.Model) -> Cost:
    """Of a model from ``registry.build``, with weights in float32."""
    count = model.count_params()
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return Cost(count, trainable, flop(model), count * 4, activations(model) * 4)


def activations(model: keras.Model) -> int:
    """Numbers that all layers give for one picture. A layer that only gives its input another
    shape counts nothing."""
    return sum(math.prod(tensor.shape[1:])
               for layer in model._flatten_layers(include_self=False)
               if not isinstance(layer, (keras.Model, keras.layers.InputLayer,
                                         keras.layers.Flatten, keras.layers.Reshape))
               for node in layer._inbound_nodes for tensor in node.outputs)


def flop(model: keras.Model) -> int:
    """Operations of the forward pass of one picture: two, a multiplication and an addition, for
    each term of its convolutions and matrix products. All else (biases, activations,
    normalisation, pooling) is some percent more and left out, as is usual.

    They are counted in TensorFlow's graph, so that every layer counts, whatever it is made of.
    """
    picture = tf.TensorSpec((1, *model.input_shape[1:]), model.compute_dtype)
    traced = tf.function(lambda x: model(x, training=False), autograph=False)
    return 2 * _terms(traced.get_concrete_function(picture).graph)


def _terms(graph: Any) -> int:
    """Of the operations of a graph and of the functions that it calls, such as those for XLA."""
    count = 0
    for operation in graph.get_operations():
        if operation.type in ("PartitionedCall", "StatefulPartitionedCall"):
            count += _terms(graph._get_function(operation.get_attr("f").name).graph)
        elif operation.type in _TERMS:
            count += _TERMS[operation.type](operation)
    return count


def _convolution(operation: Any) -> int:
    """Each output is a sum over the kernel's places and input channels."""
    return math.prod(operation.outputs[0].shape) * math.prod(operation.inputs[1].shape[:-1])


def _depthwise(operation: Any) -> int:
    """Each output is a sum over the kernel's places."""
    return math.prod(operation.outputs[0].shape) * math.prod(operation.inputs[1].shape[:2])


def _transposed(operation: Any) -> int:
    """Each input goes to the kernel's places and output channels."""
    return math.prod(operation.inputs[2].shape) * math.prod(operation.inputs[1].shape[:-1])


def _product(operation: Any) -> int:
    """Each output is a sum over the axis that both factors have."""
    name = "transpose_a" if operation.type == "MatMul" else "adj_x"
    first = operation.inputs[0].shape
    return math.prod(operation.outputs[0].shape) * first[-2 if operation.get_attr(name) else -1]


def _einsum(operation: Any) -> int:
    """A term for each combination of all indices."""
    factors = operation.get_attr("equation").decode().split("->")[0].split(",")
    sizes = {index: size for factor, tensor in zip(factors, operation.inputs)
             for index, size in zip(factor, tensor.shape)}
    return math.prod(sizes.values())


_TERMS: dict[str, Callable[[Any], int]] = {
    "Conv2D": _convolution, "Conv3D": _convolution, "DepthwiseConv2dNative": _depthwise,
    "Conv2DBackpropInput": _transposed, "MatMul": _product, "BatchMatMulV2": _product,
    "Einsum": _einsum}
