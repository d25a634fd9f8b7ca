"""Weights to start a training from (``--init``), taken by the names and shapes of layers.

Files are read without building the model that is in them: nothing of their content is run. Only
the HDF5 library reads them, and no data set that refers to another file.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.core.text import printable
from hpc_deepfake.network.layers import few, innermost
from hpc_deepfake.network.model import MOST_BYTES

if TYPE_CHECKING:
    import keras

Arrays = list[np.ndarray]
_WEIGHTS = "model.weights.h5"  # in a .keras file, and the end of such a file's name
_HDF5, _ZIP = b"\x89HDF\r\n\x1a\n", b"PK"
_ADVICE = "give a run directory, a .keras file, or weights in HDF5 (.weights.h5, .h5) of Keras"
_MOST_OBJECTS = 100_000  # groups and data sets in a file


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
    """What of some weights a model took, by names of layers.

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
    """The weights of a run's model, of a ``.keras`` file (Keras 3), or of an HDF5 file of Keras 3
    (``.weights.h5``) or 2 (``.h5``, of weights alone or of a whole model).

    Raises:
        InputError: there is no such file, or it is damaged, of another kind, or too large.
    """
    file = path / "model.keras" if path.is_dir() else path
    if not file.is_file():
        what = f"{path} holds no trained model (no model.keras)" if path.is_dir() \
            else f"there is no file {path}"
        raise InputError(f"--init: {what}; {_ADVICE}")
    try:
        content = file.read_bytes() if file.stat().st_size <= MOST_BYTES else b""
        if not content:
            raise ValueError("it is empty" if not file.stat().st_size else
                             f"it has {file.stat().st_size / 1e9:,.1f} GB")
        layers = _layers(content)
    except InputError:
        raise
    except Exception as error:  # zip and HDF5 raise many kinds
        raise InputError(f"--init: the weights of {file} can't be read: {reason(error)}. "
                         f"Copy it again, or {_ADVICE}") from None
    for name, each in layers.items():
        if not all(np.isfinite(array).all() for arrays in each for array in arrays):
            raise InputError(f"--init: the weights of layer {printable(name)} in {file} are not "
                             f"finite (NaN or infinity): its training diverged; {_ADVICE}")
    if not layers:
        raise InputError(f"--init: {file} holds no weights of layers; {_ADVICE}")
    return Weights(str(path), layers, hashlib.sha256(content).hexdigest())


def take(model: keras.Model, weights: Weights) -> Taken:
    """Set the weights of the layers of ``model`` that have the same name and shapes in
    ``weights``; of several with one name the first to the first, and so on.

    Raises:
        InputError: there is no such layer.
    """
    found = Taken(weights.source, weights.digest)
    left = {name: list(each) for name, each in weights.layers.items()}
    for layer in innermost(model):
        for owner in _owners(layer):
            own: dict[str, Any] = {}
            owner.save_own_variables(own)
            names = sorted(own, key=_order)
            here = [tuple(own[name].shape) for name in names]
            if not any(np.issubdtype(_kind(value), np.floating) for value in own.values()):
                continue  # it has none, or the state of a generator
            if not left.get(owner.name):
                found.missing.append(owner.name)
                continue
            arrays = left[owner.name].pop(0)
            there = [array.shape for array in arrays]
            if there != here:
                found.other_shape[owner.name] = _difference(there, here)
                continue
            owner.load_own_variables(dict(zip(names, arrays, strict=True)))
            found.taken.append(owner.name)
    found.unused.extend(name for name, each in left.items() for _ in each)
    if not found.taken:
        raise InputError(f"--init {printable(weights.source)}: none of its layers "
                         f"({printable(few(list(weights.layers)))}) has the name and shapes of one "
                         f"here ({few([*found.missing, *found.other_shape])}); give weights of "
                         "such a network, or choose it with --network")
    return found


def _owners(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """A layer and, of a wrapper, the layers in it."""
    return [layer, *(inner for inner in layer._flatten_layers(include_self=False))]


def _kind(value: Any) -> np.dtype:
    name = getattr(value.dtype, "name", value.dtype)  # Keras: a text
    return np.dtype(np.float32 if name == "bfloat16" else name)


def _difference(there: list[tuple[int, ...]], here: list[tuple[int, ...]]) -> str:
    """The first shapes that differ."""
    if len(there) != len(here):
        return f"{len(there)} arrays there, {len(here)} here"
    first = next(place for place, shape in enumerate(there) if shape != here[place])
    return f"{there[first]} there, {here[first]} here"


def _layers(content: bytes) -> dict[str, list[Arrays]]:
    """The layers of a file's content.

    Raises:
        ValueError: it is no such file, or damaged.
    """
    if content.startswith(_ZIP):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if _WEIGHTS not in archive.namelist():
                raise ValueError(f"it is a zip file without {_WEIGHTS}")
            if archive.getinfo(_WEIGHTS).file_size > MOST_BYTES:
                raise ValueError("unpacked it is too large")
            content = archive.read(_WEIGHTS)
    if not content.startswith(_HDF5):
        raise ValueError("it is no file of Keras")
    with h5py.File(io.BytesIO(content)) as file:
        _check(file)
        found: dict[str, list[Arrays]] = {}
        of_keras_2 = file if "layer_names" in file.attrs else file.get("model_weights")
        for name, arrays in _keras_3(file) if of_keras_2 is None else _keras_2(of_keras_2):
            if any(array.dtype.kind == "f" for array in arrays):
                found.setdefault(name, []).append(arrays)
        return found


def _check(file: h5py.File) -> None:
    """Raise ValueError if a file refers to others, or is too large."""
    objects = size = 0

    def visit(name: str, found: h5py.Group | h5py.Dataset) -> None:
        nonlocal objects, size
        objects += 1
        if isinstance(found, h5py.Dataset):
            if found.is_virtual or found.external:
                raise ValueError(f"{name} lies in another file")
            size += found.size * found.dtype.itemsize if found.dtype.kind in "fiu" else 0
        if size > MOST_BYTES or objects > _MOST_OBJECTS:
            raise ValueError("it is too large")

    file.visititems(visit)


def _keras_3(file: h5py.File) -> Iterator[tuple[str, Arrays]]:
    """The layers of ``.weights.h5``: a group ``vars`` for each, with its name; without a name, as
    Keras up to 3.2 wrote it, the one of the group around it."""
    groups: list[h5py.Group] = []
    file.visititems(lambda name, found: groups.append(found)
                    if isinstance(found, h5py.Group) and name.endswith("/vars")
                    and not name.startswith("optimizer") else None)
    for group in groups:
        name = group.attrs.get("name", str(group.name).split("/")[-2])
        yield _text(name), [_array(group, key) for key in sorted(group, key=_order)]


def _order(key: str) -> tuple[bool, int, str]:
    """Of a layer's arrays, which Keras 3 calls 0, 1, … 10."""
    return not key.isdecimal(), len(key), key


def _keras_2(file: h5py.Group) -> Iterator[tuple[str, Arrays]]:
    """The layers of ``.h5``: attributes list them and their arrays. A model within the model is one
    of them; its layers are told by the names of their arrays."""
    for name in _names(file, "layer_names"):
        group = file[name]
        parts: dict[str, Arrays] = {}
        for path in _names(group, "weight_names"):
            parts.setdefault(path.rpartition("/")[0], []).append(_array(group, path))
        for path, arrays in parts.items():
            yield (name if len(parts) == 1 else path.rpartition("/")[2]), arrays


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """The texts of an attribute, which is in numbered pieces where it is long."""
    whole = [group.attrs[attribute]] if attribute in group.attrs else []
    while f"{attribute}{len(whole)}" in group.attrs:
        whole.append(group.attrs[f"{attribute}{len(whole)}"])
    return [_text(text) for piece in whole for text in np.ravel(piece)]


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _array(group: h5py.Group, name: str) -> np.ndarray:
    if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
        raise ValueError(f"{name} lies in another file")
    dataset = group[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiu":
        raise ValueError(f"{name} is no array of numbers")
    array = dataset[()]
    if _text(dataset.attrs.get("dtype", "")) == "bfloat16":  # its bits
        return (np.asarray(array, np.uint32) << 16).view(np.float32)
    return np.asarray(array)
