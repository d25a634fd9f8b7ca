"""The structure of a data file, read without the HDF5 library, which damaged files make crash.

The format is that of superblock 0, object headers 1 and contiguous data sets, which HDF5 writes
unless it is told otherwise (HDF5 File Format Specification, version 3.0).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_NOWHERE = 2**64 - 1  # address of a data set without space in the file
_BUDGET = 1 << 26  # bytes, far more than any file has: a damaged one may lead in circles
_DEPTH = 32  # of a group's tree
# types of messages
_SPACE, _TYPE, _EXTERNAL, _LAYOUT, _ATTRIBUTE, _CONTINUED, _TABLE = 1, 3, 7, 8, 12, 16, 17
_HARD = (0, 1)  # kinds of entries of a group: others are links, which may lead to other files


class Dataset(NamedTuple):
    """A data set.

    Attributes:
        offset: its first byte in the file; None if it is stored in another way than in one piece.
        shape: of the array.
        kind: of its elements.
    """

    offset: int | None
    shape: tuple[int, ...]
    kind: np.dtype


@dataclass(frozen=True)
class Structure:
    """The attributes and data sets at the top of a file, by name."""

    attributes: dict[str, bytes]
    datasets: dict[str, Dataset]


class OtherFormat(ValueError):
    """HDF5 in a newer format, in which checksums protect its structure."""


def read(path: Path) -> Structure:
    """The structure of a file.

    Raises:
        OSError: it can't be read.
        OtherFormat: the HDF5 library must read it.
        ValueError: it is not HDF5, or damaged.
    """
    with open(path, "rb") as file:
        return _File(file.fileno()).structure()


class _File:
    """A file whose parts are read with every address and size checked."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._left = descriptor, _BUDGET

    def structure(self) -> Structure:
        start = self._bytes(0, 12)
        if start[:8] != _SIGNATURE:
            raise ValueError("it doesn't begin like HDF5")
        if start[8] > 1:
            raise OtherFormat(f"superblock {start[8]}")
        offsets, lengths = self._bytes(13, 2)
        if (offsets, lengths) != (8, 8):
            raise ValueError("its addresses don't have 8 bytes")
        base, = self._unpack("<Q", 24 + 4 * start[8])
        if base:
            raise ValueError("it has bytes in front")
        attributes, datasets = {}, {}
        for kind, data in self._messages(self._unpack("<Q", 64 + 4 * start[8])[0]):
            if kind == _ATTRIBUTE:
                name, value = _attribute(data)
                attributes[name] = value
            elif kind == _TABLE:
                tree, heap = _unpack("<QQ", data)
                for name, address in self._entries(tree, self._heap(heap)):
                    dataset = self._dataset(address)
                    if dataset is not None:
                        datasets[name] = dataset
        return Structure(attributes, datasets)

    def _bytes(self, at: int, size: int) -> bytes:
        self._left -= size + 64
        if self._left < 0:
            raise ValueError("its parts are too many, or lead in circles")
        data = os.pread(self._descriptor, size, at) if at < 1 << 62 else b""
        if len(data) != size:
            raise ValueError(f"{size} bytes at byte {at} are missing")
        return data

    def _unpack(self, form: str, at: int) -> tuple[int, ...]:
        return struct.unpack(form, self._bytes(at, struct.calcsize(form)))

    def _messages(self, address: int) -> Iterator[tuple[int, bytes]]:
        """Type and content of each message of an object header."""
        version, left, size = self._unpack("<BxHxxxxI", address)
        if version != 1:
            raise ValueError(f"no object header at byte {address}")
        blocks = [(address + 16, size)]
        for at, size in blocks:  # grows
            block = self._bytes(at, size)
            while left and len(block) >= 8:
                left -= 1
                kind, length = _unpack("<HH", block)
                data, block = block[8:8 + length], block[8 + length:]
                if len(data) != length:
                    raise ValueError(f"a message at byte {at} is cut off")
                if kind == _CONTINUED:
                    blocks.append(_unpack("<QQ", data))  # type: ignore[arg-type] # two numbers
                else:
                    yield kind, data

    def _heap(self, address: int) -> bytes:
        """The names of a group's entries."""
        if self._bytes(address, 4) != b"HEAP":
            raise ValueError(f"no names at byte {address}")
        size, start = self._unpack("<Q8xQ", address + 8)
        return self._bytes(start, size)

    def _entries(self, address: int, names: bytes, depth: int = 0) -> Iterator[tuple[str, int]]:
        """Name and address of each object of a group, from its tree."""
        signature = self._bytes(address, 4)
        if signature == b"TREE" and depth < _DEPTH:
            count, = self._unpack("<H", address + 6)
            children = self._unpack(f"<{2 * count + 1}Q", address + 24)[1::2]
            for child in children:
                yield from self._entries(child, names, depth + 1)
        elif signature == b"SNOD":
            count, = self._unpack("<H", address + 6)
            for number in range(count):
                start, header, kind = self._unpack("<QQI", address + 8 + 40 * number)
                if kind in _HARD:
                    name = names[start:].partition(b"\0")[0]
                    yield name.decode("utf-8", "backslashreplace"), header
        else:
            raise ValueError(f"no group at byte {address}")

    def _dataset(self, address: int) -> Dataset | None:
        """The data set of an object header; None for other objects."""
        messages = dict(self._messages(address))
        if not messages.keys() >= {_SPACE, _TYPE, _LAYOUT}:
            return None
        offset = None if _EXTERNAL in messages else _offset(messages[_LAYOUT])
        return Dataset(offset, _shape(messages[_SPACE]), _kind(messages[_TYPE]))


def _unpack(form: str, data: bytes) -> tuple[int, ...]:
    if len(data) < struct.calcsize(form):
        raise ValueError("a message is cut off")
    return struct.unpack_from(form, data)


def _shape(data: bytes) -> tuple[int, ...]:
    version, rank = _unpack("<BB", data)
    if version not in (1, 2) or rank > 32:
        raise ValueError(f"impossible data space: version {version}, {rank} dimensions")
    return _unpack(f"<{rank}Q", data[8 if version == 1 else 4:])


def _kind(data: bytes) -> np.dtype:
    """Whole numbers and texts of fixed length; as bytes whatever else, which no data file has."""
    kind, flags, size = _unpack("<BBxxI", data)
    if not 0 < size < 1 << 20:
        raise ValueError(f"elements of {size} bytes")
    if kind & 15 == 0 and size in (1, 2, 4, 8):
        return np.dtype(f"{'>' if flags & 1 else '<'}{'i' if flags & 8 else 'u'}{size}")
    return np.dtype(f"S{size}" if kind & 15 == 3 else f"V{size}")


def _offset(data: bytes) -> int | None:
    version, kind = _unpack("<BB", data)
    if version not in (3, 4) or kind != 1:
        return None
    address, = _unpack("<Q", data[2:])
    return None if address == _NOWHERE else address


def _attribute(data: bytes) -> tuple[str, bytes]:
    """Name of an attribute and the bytes of its value, a text of fixed length."""
    version, name_size, kind_size, space_size = _unpack("<BxHHH", data)
    if version not in (1, 2, 3):
        raise ValueError(f"impossible attribute: version {version}")
    at, step = (9, 1) if version == 3 else (8, 8 if version == 1 else 1)  # step: parts are padded
    parts = []
    for size in (name_size, kind_size, space_size):
        parts.append(data[at:at + size])
        at += -(-size // step) * step
    size = _kind(parts[1]).itemsize * int(np.prod(_shape(parts[2]), dtype=object))
    if len(data) < at + size:
        raise ValueError("an attribute is cut off")
    return parts[0].rstrip(b"\0").decode("utf-8", "backslashreplace"), data[at:at + size]
