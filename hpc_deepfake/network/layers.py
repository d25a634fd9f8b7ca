"""The layers of a Keras model at any depth, by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def every(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers of a model and of the models within it, each once and after the one that it is
    in. Layers within a wrapper, such as ``Bidirectional``, belong to the wrapper."""
    return (layer for layer, _ in with_paths(model))


def with_paths(model: keras.Model) -> Iterator[tuple[keras.layers.Layer, str]]:
    """Those of ``every``, each with the names of the models that it is in and its own, such as
    ``inner/conv1``; Keras allows no ``/`` in a name."""
    seen: set[int] = set()

    def within(layer: keras.layers.Layer, path: str) -> Iterator[tuple[keras.layers.Layer, str]]:
        for inner in layer.layers:
            if id(inner) not in seen:
                seen.add(id(inner))
                yield inner, path + inner.name
                if hasattr(inner, "layers"):
                    yield from within(inner, f"{path}{inner.name}/")

    return within(model, "")


def innermost(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Those that are no models themselves."""
    return (layer for layer in every(model) if not hasattr(layer, "layers"))


def shortest(paths: Sequence[str]) -> list[str]:
    """What to call layers with these paths: by the name where no other one has it, otherwise by
    the path."""
    names = [path.rpartition("/")[2] for path in paths]
    several = Counter(names)
    return [name if several[name] == 1 else path
            for name, path in zip(names, paths, strict=True)]


def few(names: Sequence[str], most: int = 6) -> str:
    """Names for a message, such as ``conv1, bn1, … and 98 more``."""
    if len(names) <= most:
        return ", ".join(names)
    shown = most // 2 + 1
    return f"{', '.join(names[:shown])}, … and {len(names) - shown:,} more"
