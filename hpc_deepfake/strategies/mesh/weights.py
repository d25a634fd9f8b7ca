"""This rank's shards of the weights, and the whole ones, which pass through rank 0 only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hpc_deepfake.core.mpi import wait
from hpc_deepfake.strategies.mesh.pipeline import as_bytes
from hpc_deepfake.strategies.mesh.shape import Place, Shape
from hpc_deepfake.strategies.mesh.shards import Parameter

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

Arrays = list[np.ndarray]


class Exchange:
    """Gathers whole arrays on rank 0 and deals them out, one at a time.

    A rank has the parts of those parameters whose block lies in its stage, in the order of the
    list of all. Only rank 0 ever holds an array as a whole.
    """

    def __init__(self, comm: Comm, shape: Shape, stage_of: Callable[[str], int]) -> None:
        """``stage_of`` a block's name. Collective."""
        self._comm, self._shape, self._stage_of = comm.Dup(), shape, stage_of
        self._place = shape.place(comm.rank)

    def own(self, parameters: Sequence[Parameter]) -> list[Parameter]:
        """Those that this rank has parts of."""
        return [one for one in parameters if self._stage_of(one.block) == self._place.stage]

    def gather(self, parameters: Sequence[Parameter], parts: Arrays) -> Arrays:
        """The whole arrays on rank 0, nothing elsewhere; collective."""
        mine, whole = iter(parts), []
        for number, one in enumerate(parameters):
            own = next(mine) if self._stage_of(one.block) == self._place.stage else None
            whole_one = np.empty(one.shape, parts[0].dtype) if self._comm.rank == 0 else None
            for place in self._holders(one, self._shape.tensor if one.axis is not None else 1):
                source = self._shape.rank(place)
                if self._comm.rank == 0:
                    part = own if source == 0 else self._receive(
                        one, place.tensor, parts[0].dtype, source, number)
                    one.put(whole_one, part, place.tensor, self._shape.tensor)
                elif self._comm.rank == source:
                    self._send(own, 0, number)
            whole += [] if whole_one is None else [whole_one]
        return whole

    def deal(self, parameters: Sequence[Parameter], whole: Arrays | None,
             dtype: np.dtype) -> Arrays:
        """This rank's parts of whole arrays, which rank 0 gives; collective."""
        parts = []
        for number, one in enumerate(parameters):
            for place in self._holders(one, self._shape.tensor, self._shape.data):
                target = self._shape.rank(place)
                if self._comm.rank == 0:
                    part = one.take(whole[number], place.tensor, self._shape.tensor)
                    if target != 0:
                        self._send(part.astype(dtype, copy=False), target, number)
                        continue
                    parts.append(part.astype(dtype, copy=False))
                elif self._comm.rank == target:
                    parts.append(self._receive(one, place.tensor, dtype, 0, number))
        return parts

    def _holders(self, one: Parameter, tensor: int, data: int = 1) -> list[Place]:
        stage = self._stage_of(one.block)
        return [Place(d, stage, t) for d in range(data) for t in range(tensor)]

    def _receive(self, one: Parameter, index: int, dtype: np.dtype, source: int,
                 number: int) -> np.ndarray:
        part = np.empty(one.part_shape(index, self._shape.tensor), dtype)
        wait(self._comm.Irecv(as_bytes(part), source, number))
        return part

    def _send(self, part: np.ndarray, target: int, number: int) -> None:
        wait(self._comm.Isend(as_bytes(np.ascontiguousarray(part)), target, number))
