"""The graph of a Keras model: which layer is called with what the other layers output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras


def of(model: keras.Model) -> Any:
    """The graph of a Sequential or functional model; None: its class has a ``call`` of its own."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    return graph if getattr(graph, "_nodes_by_depth", None) else None


def inner(operation: keras.Operation) -> Any:
    """The graph of an operation that is itself a model with one input; None: it is none."""
    graph = of(operation) if isinstance(operation, keras.Model) else None
    return graph if graph is not None and len(graph.inputs) == 1 else None


def nodes(graph: Any) -> list[Any]:
    """Calls of the graph's operations, in an order in which they can be computed."""
    by_depth = graph._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]
            if not node.is_input]


def calls(graph: Any) -> Iterator[Any]:
    """``nodes``, with those of models within the graph in their places."""
    for node in nodes(graph):
        within = inner(node.operation)
        if within is None:
            yield node
        else:
            yield from calls(within)
