"""Weights to start a training from (``--init``), taken by the names and shapes of layers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.core.text import printable
from hpc_deepfake.network import weights_file
from hpc_deepfake.network.layers import few, shortest, with_paths
from hpc_deepfake.network.weights_file import Arrays

if TYPE_CHECKING:
    import keras

_ADVICE = "give a run directory, a .keras file, or weights in HDF5 (.weights.h5, .h5) of Keras"


@dataclass(frozen=True)
class Weights:
    """Weights of layers.

    Attributes:
        source: the run directory or file, as it was given.
        layers: the arrays of each layer, by its name; several layers may have one name.
        digest: SHA-256 of the file that they come from.
    """

    source: str
    layers: dict[str, list[Arrays]]
    digest: str


@dataclass(frozen=True)
class Taken:
    """What of some weights a model took, by names of layers; by paths (``inner/conv1``) where
    several layers of the model have one name.

    Attributes:
        source: as of ``Weights``.
        digest: as of ``Weights``.
        taken: layers that have the file's weights now.
        other_shape: layers whose weights have other shapes in the file, with both shapes.
        missing: layers of the model that the file doesn't have.
        unused: layers of the file that the model doesn't have.
    """

    source: str
    digest: str
    taken: list[str] = field(default_factory=list)
    other_shape: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As recorded: JSON."""
        layers = len(self.taken) + len(self.other_shape) + len(self.missing)
        return {"source": self.source, "sha256": self.digest, "taken": len(self.taken),
                "layers": layers, "names": self.taken, "other_shape": self.other_shape,
                "missing": self.missing, "unused": self.unused}

    def __str__(self) -> str:
        layers = len(self.taken) + len(self.other_shape) + len(self.missing)
        rows = (("taken", self.taken),
                ("of other shape", [f"{name} ({shapes})"
                                    for name, shapes in self.other_shape.items()]),
                ("not in the file", self.missing), ("of the file not used", self.unused))
        return "\n".join(
            [f"initial weights: {len(self.taken):,} of {layers:,} layers from "
             f"{printable(self.source)}",
             *(f"  {title:<21}{len(names):>4}  {printable(few(names))}"
               for title, names in rows if names)])


def read(path: Path) -> Weights:
    """The weights of a run's model, or of a file as ``weights_file.read`` takes it.

    Raises:
        InputError: there is no such file, or it is damaged, of another kind, or too large.
    """
    file = path / "model.keras" if path.is_dir() else path
    if not file.is_file():
        what = f"{path} holds no trained model (no model.keras)" if path.is_dir() \
            else f"there is no file {path}"
        raise InputError(f"--init: {what}; {_ADVICE}")
    try:
        layers = weights_file.read(file)
        with open(file, "rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        raise InputError(f"--init: the weights of {file} can't be read: {reason(error)}. "
                         f"Copy it again, or {_ADVICE}") from None
    for name, each in layers.items():
        if not all(np.isfinite(array).all() for arrays in each for array in arrays):
            raise InputError(f"--init: the weights of layer {printable(name)} in {file} are not "
                             f"finite (NaN or infinity): its training diverged; {_ADVICE}")
    if not layers:
        raise InputError(f"--init: {file} holds no weights of layers; {_ADVICE}")
    return Weights(str(path), layers, digest)


def take(model: keras.Model, weights: Weights) -> Taken:
    """Set the weights of the layers of ``model`` that have the same name and shapes in
    ``weights``; of several with one name the first to the first, and so on.

    Raises:
        InputError: there is no such layer.
    """
    found = Taken(weights.source, weights.digest)
    left = {name: list(each) for name, each in weights.layers.items()}
    owners: list[tuple[keras.layers.Layer, str, dict[str, Any]]] = []
    for layer, path in with_paths(model):
        for owner, place in () if hasattr(layer, "layers") else _owners(layer, path):
            own: dict[str, Any] = {}
            owner.save_own_variables(own)
            # without, it has none, or the state of a generator
            if any(np.issubdtype(_kind(value), np.floating) for value in own.values()):
                owners.append((owner, place, own))
    wanted = shortest([place for _, place, _ in owners])
    for title, (owner, _, own) in zip(wanted, owners, strict=True):
        names = sorted(own, key=weights_file.order)
        here = [tuple(own[name].shape) for name in names]
        if not left.get(owner.name):
            found.missing.append(title)
            continue
        arrays = left[owner.name].pop(0)
        there = [array.shape for array in arrays]
        if there != here:
            found.other_shape[title] = _difference(there, here)
            continue
        owner.load_own_variables(dict(zip(names, arrays, strict=True)))
        found.taken.append(title)
    found.unused.extend(sorted(name for name, each in left.items() for _ in each))
    if not found.taken:
        raise InputError(f"--init {printable(weights.source)}: none of its layers "
                         f"({printable(few(list(weights.layers)))}) has the name and shapes of one "
                         f"here ({few(wanted)}); give weights of "
                         "such a network, or choose it with --network")
    return found


def _owners(layer: keras.layers.Layer,
            path: str) -> Iterator[tuple[keras.layers.Layer, str]]:
    """A layer and, of a wrapper, the layers in it, with their paths."""
    yield layer, path
    for inner in layer._flatten_layers(include_self=False, recursive=False):
        yield from _owners(inner, f"{path}/{inner.name}")


def _kind(value: Any) -> np.dtype:
    name = getattr(value.dtype, "name", value.dtype)  # Keras: a text
    return np.dtype(np.float32 if name == "bfloat16" else name)


def _difference(there: list[tuple[int, ...]], here: list[tuple[int, ...]]) -> str:
    """The first shapes that differ."""
    if len(there) != len(here):
        return f"{len(there)} arrays there, {len(here)} here"
    first = next(place for place, shape in enumerate(there) if shape != here[place])
    return f"{there[first]} there, {here[first]} here"
