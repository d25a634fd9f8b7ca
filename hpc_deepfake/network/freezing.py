"""Layers whose weights training doesn't change (``--freeze``), with Keras' semantics: batch
normalisation uses its moving statistics, and keeps them."""

from __future__ import annotations

import argparse
import math
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import plural
from hpc_deepfake.network.layers import few, shortest, with_paths

if TYPE_CHECKING:
    import keras

_NAMED = 40  # layers in a message


class Frozen(NamedTuple):
    """What is frozen.

    Attributes:
        layers: the layers that are frozen so, in the model's order; of a model within the model,
            its layers. By name; by path where several layers have that name.
        trained: number of parameters that are trained.
        parameters: number of all that training changes without ``--freeze``.
    """

    layers: list[str]
    trained: int
    parameters: int

    def __str__(self) -> str:
        return (f"frozen: {plural(len(self.layers), 'layer')} ({few(self.layers)}); "
                f"{self.trained:,} of {plural(self.parameters, 'parameter')} are trained")


def canonical(patterns: str) -> str:
    """Argument type: the patterns of ``--freeze`` as they are recorded.

    Raises:
        argparse.ArgumentTypeError: one of several is empty.
    """
    parts = [part.strip() for part in patterns.split(",")]
    if len(parts) > 1 and not all(parts):
        raise argparse.ArgumentTypeError(f"'{patterns}' has an empty pattern; give shell patterns "
                                         "of layer names, separated by commas, like conv*,bn1")
    return ",".join(dict.fromkeys(parts))


def freeze(model: keras.Model, patterns: str) -> Frozen | None:
    """Freeze the layers of a model whose names match; one that is a model itself with all its
    layers.

    Args:
        model: is changed.
        patterns: shell patterns of names of layers, or of their paths through the models that they
            are in (``inner/conv1``), separated by commas; empty: freeze nothing.

    Returns:
        What is frozen; None without patterns.

    Raises:
        InputError: a pattern matches no layer with weights, or nothing is left to train.
    """
    if not patterns:
        return None
    before = _parameters(model)
    layers = [(layer, path) for layer, path in with_paths(model) if layer.weights]
    trained = [(layer, path) for layer, path in layers
               if layer.trainable_weights and not hasattr(layer, "layers")]
    for pattern in patterns.split(","):
        matching = [layer for layer, path in layers
                    if fnmatchcase(layer.name, pattern) or fnmatchcase(path, pattern)]
        if not matching:
            names = shortest([path for _, path in layers])
            raise InputError(f"--freeze {pattern}: no layer with weights has such a name; the "
                             f"network has {few(names, _NAMED)}")
        for layer in matching:
            layer.trainable = False
    names = shortest([path for _, path in trained])
    if not model.trainable_weights:
        raise InputError(f"--freeze {patterns}: it freezes all {len(trained):,} layers that could "
                         f"be trained; leave some out, such as {names[-1]}")
    return Frozen([name for name, (layer, _) in zip(names, trained, strict=True)
                   if not layer.trainable_weights], _parameters(model), before)


def _parameters(model: keras.Model) -> int:
    return sum(math.prod(variable.shape) for variable in model.trainable_weights)
