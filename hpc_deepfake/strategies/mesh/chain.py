"""Any Keras model as a chain of blocks, between which a single tensor passes: where it can be cut.

A block is one layer, or parallel branches with the layer that joins them. The stages of a pipeline
are Keras models of consecutive blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network import graph
from hpc_deepfake.strategies.mesh.cut import Line

# operations that take as long as these: per number of a normalisation, of a layer without weights,
# and per trained weight and picture of a step, to update it
NORMALISED, MOVED, UPDATE = 150, 30, 10


class Block(NamedTuple):
    """Operations of a Keras graph that one tensor enters and one tensor leaves.

    Attributes:
        nodes: calls of the operations, in the order in which they are computed.
        begins: the tensor that enters.
        ends: the tensor that leaves.
    """

    nodes: tuple[Any, ...]
    begins: keras.KerasTensor
    ends: keras.KerasTensor

    @property
    def name(self) -> str:
        """Of its first layer."""
        return str(self.nodes[0].operation.name)

    @property
    def layers(self) -> list[keras.Layer]:
        """Its layers, each once."""
        operations = {id(node.operation): node.operation for node in self.nodes}
        return [one for one in operations.values() if isinstance(one, keras.Layer)]

    @property
    def cost(self) -> float:
        """Estimated million operations for one picture, forward and backward."""
        return sum(map(_cost, self.nodes)) + UPDATE * 1e-6 * sum(
            math.prod(weight.shape) for layer in self.layers for weight in layer.trainable_weights)

    @property
    def sent(self) -> int:
        """How many numbers it outputs for one picture."""
        return math.prod(self.ends.shape[1:])


def blocks(model: keras.Model) -> list[Block]:
    """The blocks of a built model with one input and one output, as many as there can be.

    A layer that is called several times keeps all that lies between its calls in one block: its
    weights, or the state of its random numbers, are those of one stage.
    """
    whole = _flat(model)
    nodes = graph.nodes(whole)
    last: dict[int, int] = {}  # number of the last node that needs a tensor, or a layer's state
    for number, node in enumerate(nodes):
        for needed in (node.operation, *node.arguments.keras_tensors):
            last[id(needed)] = number
    found: list[Block] = []
    begins, first = whole.inputs[0], 0
    reach = last[id(begins)]  # no end of a block is before this node
    for number, node in enumerate(nodes):
        if getattr(node.operation, "variables", None):
            reach = max(reach, last[id(node.operation)])
        if reach <= number and len(node.outputs) == 1:
            found.append(Block(tuple(nodes[first:number + 1]), begins, node.outputs[0]))
            begins, first = node.outputs[0], number + 1
        reach = max([reach, *(last.get(id(tensor), number) for tensor in node.outputs)])
    return found


def line(blocks: Sequence[Block]) -> Line:
    """The blocks as what a pipeline is cut into."""
    inner = {node.operation.name: block.name for block in blocks for node in block.nodes[1:]
             if node.operation is not block.nodes[0].operation}
    return Line(tuple(block.name for block in blocks), tuple(block.cost for block in blocks),
                tuple(block.sent for block in blocks), MOVED * 1e-6, inner)


def part(blocks: Sequence[Block]) -> keras.Model:
    """A model of consecutive blocks, of the same layers."""
    return keras.Model(blocks[0].begins, blocks[-1].ends)


def _flat(model: keras.Model) -> keras.Model:
    """The graph of the model, with those of models within it in their places where no two layers
    then have one name.

    Raises:
        InputError: it has no graph; on this process alone.
    """
    whole = graph.of(model)
    if whole is None:
        raise InputError(f"--mesh: the network {model.name} has a call of its own, and only a "
                         "Sequential or functional model can be cut into stages: use --strategy "
                         "sync")
    operations = {id(node.operation): node.operation.name for node in graph.calls(whole)}
    if not any(map(graph.inner, whole.operations)) \
            or len(set(operations.values())) < len(operations):
        return whole
    start = keras.Input(batch_shape=whole.inputs[0].shape, dtype=whole.inputs[0].dtype)
    return keras.Model(start, _inlined(whole, start))


def _inlined(whole: Any, x: keras.KerasTensor) -> keras.KerasTensor:
    """What the graph makes of ``x``, with a node for each layer of the models within it."""
    def call(operation: keras.Operation) -> Any:
        inner = graph.inner(operation)

        def inlined(*inputs: keras.KerasTensor, **options: Any) -> Any:
            plain = all(option is None for option in options.values())  # without training=False
            if not plain or inputs[0].dtype != inner.inputs[0].dtype:  # which it casts to
                return operation(*inputs, **options)
            return _inlined(inner, *inputs)

        return operation if inner is None else inlined

    return whole._run_through_graph([x], call)


def _cost(node: Any) -> float:
    """Estimated million operations of a call for one picture, forward and backward.

    Each number of a kernel is multiplied and added once for each position of the output (of the
    input where that is smaller, as in a transposed convolution), forward and twice backward. What
    has no kernel has little arithmetic, but reads and writes its numbers several times.
    """
    inner = graph.inner(node.operation)
    if inner is not None:
        return sum(map(_cost, graph.nodes(inner)))
    inputs, outputs = ([tensor.shape[1:] for tensor in tensors]
                       for tensors in (node.arguments.keras_tensors, node.outputs))
    weights = [weight.shape for weight in getattr(node.operation, "weights", ())]
    kernels = sum(math.prod(shape) for shape in weights if len(shape) > 1)
    positions = min(math.prod(shape[:-1]) for shape in (*inputs, *outputs))
    numbers = max(math.prod(shape) for shape in (*inputs, *outputs))
    each = 0 if kernels else NORMALISED if weights else MOVED
    return 1e-6 * (6 * kernels * positions + each * numbers)
