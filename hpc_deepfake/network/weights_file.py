"""The weights of layers in a file of Keras, read without building the model that is in it.

No code of the file is run. The HDF5 library crashes on some damaged files, and reads others for
ever, so a process of its own calls it: this module, run as a program.
"""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Arrays = list[np.ndarray]
MOST_BYTES = 1 << 31  # of a file, and of its arrays
_WEIGHTS = "model.weights.h5"  # in a .keras file
_HDF5, _ZIP = b"\x89HDF\r\n\x1a\n", b"PK"
_MOST_OBJECTS = 100_000  # groups and data sets in a file
_SECONDS, _BYTES_PER_SECOND = 10, 10 << 20  # of processor time: a usual file takes a hundredth


def read(path: Path) -> dict[str, list[Arrays]]:
    """The arrays of each layer with weights, by its name, in the order of ``layer.weights``;
    several layers may have one name. Arrays are float, or integers where the layer counts.

    Args:
        path: a ``.keras`` file (Keras 3), or an HDF5 file of Keras 3 (``.weights.h5``) or 2
            (``.h5``, weights alone or a whole model).

    Raises:
        OSError: the file can't be read.
        ValueError: it is of another kind, damaged, or too large.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"it has {size / 1e9:,.1f} GB")
    with open(path, "rb") as file:
        start = file.read(len(_HDF5))
    if start != _HDF5 and not start.startswith(_ZIP):
        raise ValueError("it is no file of Keras")
    done = subprocess.run([sys.executable, "-m", __name__, path], stdin=subprocess.DEVNULL,
                          capture_output=True, check=False)
    if done.returncode:
        text = done.stderr.decode("utf-8", "replace").strip() if done.returncode == 1 else ""
        raise ValueError(text.splitlines()[-1].removeprefix("ValueError: ") if text
                         else "it is damaged")
    found: dict[str, list[Arrays]] = {}
    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as stored:
        for name, numbers in json.loads(stored["layers"].tobytes()):
            found.setdefault(name, []).append([stored[str(number)] for number in numbers])
    return found


def main(path: Path) -> None:
    """Write the layers of a file to standard output, as ``read`` takes them."""
    seconds = _SECONDS + path.stat().st_size // _BYTES_PER_SECOND
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (6 * MOST_BYTES, 6 * MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    index: list[tuple[str, list[int]]] = []
    arrays: dict[str, np.ndarray] = {}
    for name, own in _layers(path.read_bytes()):
        if any(array.dtype.kind == "f" for array in own):
            index.append((name, [*range(len(arrays), len(arrays) + len(own))]))
            arrays |= {str(len(arrays) + place): array for place, array in enumerate(own)}
    written = io.BytesIO()
    contents = {"layers": np.frombuffer(json.dumps(index).encode(), np.uint8), **arrays}
    np.savez(written, allow_pickle=False, **contents)
    sys.stdout.buffer.write(written.getvalue())


def _layers(content: bytes) -> Iterator[tuple[str, Arrays]]:
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
            content = archive.read(_WEIGHTS)  # whose checksum it compares
    with h5py.File(io.BytesIO(content)) as file:
        _check(file)
        of_keras_2 = file if _names(file, "layer_names") else file.get("model_weights")
        yield from _keras_3(file) if of_keras_2 is None else _keras_2(of_keras_2)


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
        yield _text(name), [_array(group, key) for key in sorted(group, key=order)]


def order(key: str) -> tuple[bool, int, str]:
    """Sorts the names of a layer's arrays, which Keras 3 calls 0, 1, … 10."""
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
    pieces = [group.attrs[attribute]] if attribute in group.attrs else []
    while f"{attribute}{len(pieces)}" in group.attrs:
        pieces.append(group.attrs[f"{attribute}{len(pieces)}"])
    return [_text(text) for piece in pieces for text in np.ravel(piece)]


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _array(group: h5py.Group, name: str) -> np.ndarray:
    if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
        raise ValueError(f"{name} lies in another file")
    dataset = group[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiu":
        raise ValueError(f"{name} is no array of numbers")
    array = np.asarray(dataset[()])
    if _text(dataset.attrs.get("dtype", "")) == "bfloat16":  # its bits
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except Exception as error:  # zip and HDF5 raise many kinds
        raise SystemExit(f"ValueError: {error}".splitlines()[0]) from None
