"""Gathering whole weights on rank 0 from the ranks' shards, and dealing them out again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

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
        self._place = shape.place(comm.rank)

    def own(self, parameters: Sequence[Parameter]) -> list[Parameter]:
        """The parameters that this rank has parts of."""
        return [parameter for parameter in parameters
                if self._stage_of(parameter.block) == self._place.stage]

    def gather(self, parameters: Sequence[Parameter], parts: Arrays) -> Arrays:
        """The whole arrays on rank 0, none elsewhere; collective."""
        own, arrays = iter(parts), []
        for number, parameter in enumerate(parameters):
            own_part = next(own) if self._stage_of(parameter.block) == self._place.stage else None
            holders = [(place, self._shape.rank(place)) for place in self._holders(
                parameter, self._shape.tensor if parameter.axis is not None else 1)]
            if self._comm.rank == 0:
                whole = np.empty(parameter.shape, parts[0].dtype)
                for place, source in holders:
                    part = own_part
                    if source != 0 or part is None:
                        part = self._receive(parameter, place.tensor, whole.dtype, source, number)
                    parameter.put(whole, part, place.tensor, self._shape.tensor)
                arrays.append(whole)
            elif own_part is not None and self._comm.rank in [source for _, source in holders]:
                self._send(own_part, 0, number)
        return arrays

    def deal(self, parameters: Sequence[Parameter], whole: Arrays | None,
             dtype: np.dtype[Any]) -> Arrays:
        """This rank's parts of whole arrays, which rank 0 passes; collective."""
        arrays, parts = whole or [], []
        for number, parameter in enumerate(parameters):
            for place in self._holders(parameter, self._shape.tensor, self._shape.data):
                target = self._shape.rank(place)
                if self._comm.rank == 0:
                    part = parameter.take(arrays[number], place.tensor, self._shape.tensor)
                    part = part.astype(dtype, copy=False)
                    if target == 0:
                        parts.append(part)
                    else:
                        self._send(part, target, number)
                elif self._comm.rank == target:
                    parts.append(self._receive(parameter, place.tensor, dtype, 0, number))
        return parts

    def _holders(self, parameter: Parameter, tensor: int, data: int = 1) -> list[Place]:
        """Places of the first ``tensor`` shards of a parameter in the first ``data`` shares."""
        stage = self._stage_of(parameter.block)
        return [Place(d, stage, t) for d in range(data) for t in range(tensor)]

    def _receive(self, parameter: Parameter, index: int, dtype: np.dtype[Any], source: int,
                 number: int) -> np.ndarray:
        part = np.empty(parameter.part_shape(index, self._shape.tensor), dtype)
        wait(self._comm.Irecv(as_bytes(part), source, number))
        return part

    def _send(self, part: np.ndarray, target: int, number: int) -> None:
        wait(self._comm.Isend(as_bytes(np.ascontiguousarray(part)), target, number))
