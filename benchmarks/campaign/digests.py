"""Digests of what must not change, and whether files are whole."""

from __future__ import annotations

import hashlib
import json
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py


class Broken(Exception):
    """Something that was finished is not whole any more."""


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Broken(f"{path.name}: {error.strerror}") from None


def read_json(path: Path) -> dict[str, Any]:
    return parsed(read(path).decode(), path)


def parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise Broken(f"{path.name}: {error}") from None
    return value


def weights(path: Path) -> str:
    """Digest of the weights in a ``.keras`` file, without its dates."""
    content = read(path)
    if not zipfile.is_zipfile(path):
        return sha(content)
    digest = hashlib.sha256()

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            digest.update(name.encode() + item[()].tobytes())

    with zipfile.ZipFile(BytesIO(content)) as archive, \
            h5py.File(BytesIO(archive.read("model.weights.h5"))) as file:
        file.visititems(add)
    return digest.hexdigest()


def sha(value: Any) -> str:
    content = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()
