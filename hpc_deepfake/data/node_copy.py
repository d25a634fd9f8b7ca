"""All pictures of a feature in memory, in one copy for all ranks of a node."""

from __future__ import annotations

import mmap
import os
import platform
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpc_deepfake.core import memory, mpi
from hpc_deepfake.data.inputs import Source
from preprocessing.store import Header

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

SHARED = Path("/dev/shm")  # a file system in memory
_BLOCK = 8 << 20  # bytes copied at once


def hold(header: Header, feature: str, comm: Comm) -> tuple[np.ndarray | None, str]:
    """All pictures, uint8 (N, S, S, 3), read-only where ranks share them. Collective.

    The ranks of a node fill a file in ``/dev/shm``, each a part of it, and map it. It has lost its
    name by then, so it vanishes with the last of them, however that ends. MPI's shared windows
    would end a process at some later access if memory is short, and have to be freed by all ranks;
    writing to a file fails with a reason.

    Returns:
        The pictures; or None on all ranks, and on which node there was too little memory.

    Raises:
        InputError: the data file can't be read.
    """
    from mpi4py import MPI

    node = comm.Split_type(MPI.COMM_TYPE_SHARED, comm.rank)
    source, pictures, problem = Source(header, feature), None, None
    try:
        pictures = (_shared if node.size > 1 else _private)(source, node)
    except (OSError, ValueError, MemoryError) as error:
        problem = f"{platform.node()}: {error}"
    node.Free()
    problems = [text for text in comm.allgather(problem) if text]
    if pictures is None or problems:
        return None, problems[0]
    return pictures.reshape(header.shapes[feature]), ""


def _private(source: Source, _: Comm) -> np.ndarray:
    """The pictures in this rank's memory; ValueError if there is too little."""
    _require(source.size, memory.available(), "memory")
    pictures = np.empty(source.size, np.uint8)
    source.read(0, pictures)
    return pictures


def _shared(source: Source, node: Comm) -> np.ndarray:
    """The pictures in memory of all ranks of a node; collective among them.

    Raises:
        OSError, ValueError: there is too little memory, on all ranks of the node.
    """
    descriptor, name, problem = -1, "", None
    if node.rank == 0:
        try:
            room = os.statvfs(SHARED)
            _require(source.size, room.f_bavail * room.f_frsize, str(SHARED))
            _require(source.size, memory.available(), "memory")
            descriptor, name = tempfile.mkstemp(prefix="hpc-deepfake-", dir=SHARED)
        except (OSError, ValueError) as error:
            problem = str(error)
    name, problem = node.bcast((name, problem))
    if problem:
        raise ValueError(problem)
    try:
        if node.rank:
            descriptor = os.open(name, os.O_RDWR)
    except OSError as error:  # a container of its own
        problem = str(error)
    mpi.wait(node.Ibarrier())
    if node.rank == 0:
        os.unlink(name)
    try:
        if not problem:
            _fill(descriptor, source, node.rank, node.size)
    except OSError as error:  # no space left
        problem = str(error)
    problem = next(filter(None, node.allgather(problem)), None)
    try:
        if problem:
            raise ValueError(problem)
        mapped = mmap.mmap(descriptor, source.size, prot=mmap.PROT_READ)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return np.frombuffer(mapped, np.uint8)


def _fill(descriptor: int, source: Source, part: int, parts: int) -> None:
    """Copy one of equal parts of the pictures into the shared file."""
    start, stop = (source.size * number // parts for number in (part, part + 1))
    buffer = np.empty(_BLOCK, np.uint8)
    for position in range(start, stop, _BLOCK):
        block = buffer[:min(_BLOCK, stop - position)]
        source.read(position, block)
        left = block.data
        while len(left):
            count = os.pwrite(descriptor, left, position)
            left, position = left[count:], position + count


def _require(needed: int, free: int, where: str) -> None:
    """Raise ValueError unless the pictures fit."""
    if free < needed + needed // 10:
        raise ValueError(f"{where} has {free / 1e6:,.0f} MB free, and the pictures take "
                         f"{needed / 1e6:,.0f} MB")
