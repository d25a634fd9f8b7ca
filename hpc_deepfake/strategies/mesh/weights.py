"""Gathering whole weights on rank 0 from the ranks' shards, and dealing them out again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc_deepfake.core.mpi import wait
from hpc_deepfake.strategies.mesh.pipeline import as_bytes
from hpc_deepfake.strategies.mesh.shape import Place, Shape
from hpc_deepfake.strategies.mesh.shards import Parameter

if TYPE_CHECKING:
    import tensorflow as tf
    from mpi4py.MPI import Comm

Arrays = list[np.ndarray]
_LARGEST = 1 << 30  # bytes of a message


class Exchange:
    """Gathers whole arrays on rank 0 and deals them out, one at a time.

    A rank has parts of those parameters whose block belongs to its stage, in the order of the list
    of all parameters. Only rank 0 ever holds a whole array.
    """

    def __init__(self, comm: Comm, shape: Shape, stage_of: Callable[[str], int]) -> None:
        """Collective.

        Args:
            comm: all ranks.
            shape: of the mesh.
            stage_of: the stage of a block, by its name.
        """
        self._comm, self._shape, self._stage_of = comm.Dup(), shape, stage_of
        self._place = place = shape.place(comm.rank)
        self._data = comm.Split(place.stage * shape.tensor + place.tensor, place.data)

    def own(self, parameters: Sequence[Parameter]) -> list[Parameter]:
        """The parameters that this rank has parts of."""
        return [parameter for parameter in parameters
                if self._stage_of(parameter.block) == self._place.stage]

    def gather(self, parameters: Sequence[Parameter],
               parts: Sequence[np.ndarray | tf.Variable], dtype: np.dtype[Any]) -> Arrays:
        """The whole arrays on rank 0, of type ``dtype``, none elsewhere; collective. Other ranks
        copy only what they send."""
        own, arrays = iter(parts), []
        for number, parameter in enumerate(parameters):
            own_part = next(own) if self._stage_of(parameter.block) == self._place.stage else None
            holders = [(place, self._shape.rank(place)) for place in self._holders(
                parameter, self._shape.tensor if parameter.axis is not None else 1)]
            if self._comm.rank == 0:
                whole = np.empty(parameter.shape, dtype)
                for place, source in holders:
                    if source != 0 or own_part is None:
                        part = self._receive(parameter, place.tensor, whole.dtype, source, number)
                    else:
                        part = np.asarray(own_part)
                    parameter.put(whole, part, place.tensor, self._shape.tensor)
                arrays.append(whole)
            elif own_part is not None and self._comm.rank in [source for _, source in holders]:
                self._send(np.asarray(own_part), 0, number)
        return arrays

    def deal(self, parameters: Sequence[Parameter], whole: Arrays | None,
             dtype: np.dtype[Any]) -> Arrays:
        """This rank's parts of whole arrays, which rank 0 passes; collective.

        Rank 0 sends each shard once, to the first data share, whose ranks broadcast them to the
        others of their data group: what leaves rank 0 doesn't grow with the number of shares.
        """
        arrays, parts = whole or [], []
        for number, parameter in enumerate(parameters):
            mine = self._stage_of(parameter.block) == self._place.stage
            part = self._empty(parameter, self._place.tensor, dtype) if mine else None
            if self._comm.rank == 0:
                for place in self._holders(parameter, self._shape.tensor):
                    shard = parameter.take(arrays[number], place.tensor, self._shape.tensor)
                    shard = shard.astype(dtype, copy=False)
                    if self._shape.rank(place) == 0:
                        part = shard
                    else:
                        self._send(shard, self._shape.rank(place), number)
            elif part is not None and self._place.data == 0:
                self._fill(part, 0, number)
            if part is not None:
                for piece in _pieces(part):
                    wait(self._data.Ibcast(piece, 0))
                parts.append(part)
        return parts

    def _holders(self, parameter: Parameter, tensor: int) -> list[Place]:
        """Places of the first ``tensor`` shards of a parameter in the first data share."""
        stage = self._stage_of(parameter.block)
        return [Place(0, stage, t) for t in range(tensor)]

    def _receive(self, parameter: Parameter, index: int, dtype: np.dtype[Any], source: int,
                 number: int) -> np.ndarray:
        part = self._empty(parameter, index, dtype)
        self._fill(part, source, number)
        return part

    def _empty(self, parameter: Parameter, index: int, dtype: np.dtype[Any]) -> np.ndarray:
        return np.empty(parameter.part_shape(index, self._shape.tensor), dtype)

    def _fill(self, part: np.ndarray, source: int, number: int) -> None:
        for piece in _pieces(part):
            wait(self._comm.Irecv(piece, source, number))

    def _send(self, part: np.ndarray, target: int, number: int) -> None:
        for piece in _pieces(np.ascontiguousarray(part)):
            wait(self._comm.Isend(piece, target, number))


def _pieces(values: np.ndarray) -> Iterator[Any]:
    """Buffers for MPI, which counts at most 2³¹ - 1 elements."""
    flat = as_bytes(values)
    return (flat[start:start + _LARGEST] for start in range(0, len(flat), _LARGEST))
