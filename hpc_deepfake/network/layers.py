"""The layers of a Keras model at any depth, by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def every(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers of a model and of the models within it, each once and after the one that it is
    in. Layers within a wrapper, such as ``Bidirectional``, belong to the wrapper."""
    seen: set[int] = set()

    def within(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
        for inner in layer.layers:
            if id(inner) not in seen:
                seen.add(id(inner))
                yield inner
                if hasattr(inner, "layers"):
                    yield from within(inner)

    return within(model)


def innermost(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Those that are no models themselves."""
    return (layer for layer in every(model) if not hasattr(layer, "layers"))


def few(names: Sequence[str], most: int = 6) -> str:
    """Names for a message, such as ``conv1, bn1, … and 98 more``."""
    if len(names) <= most:
        return ", ".join(names)
    shown = most // 2 + 1
    return f"{', '.join(names[:shown])}, … and {len(names) - shown:,} more"
