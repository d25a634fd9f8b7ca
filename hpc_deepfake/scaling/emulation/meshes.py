"""The messages of a step of a mesh, really sent, with waiting in place of computing.

Stages exchange activations and gradients by the strategy's own ``Pipeline``, in the order of 1F1B.
Within a stage the tensor-parallel ranks gather and sum what ``layers`` and ``regions`` do, by the
calls of MPI that Horovod makes; at the end of a step the ranks that hold the same weights reduce
their gradients as ``Stage`` does. A rank's blocks are computed one after the other, and each
exchange within them is waited for.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hpc_deepfake.core.mpi import wait
from hpc_deepfake.network.shapes import CHANNELS, UNITS, Shapes
from hpc_deepfake.scaling.emulation.exchanges import Steps
from hpc_deepfake.scaling.emulation.plan import Task, blocks, updating
from hpc_deepfake.strategies.mesh.cut import cut
from hpc_deepfake.strategies.mesh.mover import PAUSE
from hpc_deepfake.strategies.mesh.pipeline import Direction, Pipeline
from hpc_deepfake.strategies.mesh.schedule import SCHEDULES
from hpc_deepfake.strategies.mesh.shape import sizes
from hpc_deepfake.strategies.mesh.shards import output_shape, parameters

if TYPE_CHECKING:
    from mpi4py.MPI import Comm, Intracomm

LARGE = 1 << 20  # numbers from which a gradient is reduced by itself, as in ``stage``
_SUMS = 9  # numbers that all ranks add up at the end of a step, as ``Mesh.step``
_PIECE = 1 << 15  # bytes that a link carries between two calls of the mover


class MeshSteps(Steps):
    """Steps of a mesh."""

    def __init__(self, comm: Intracomm, task: Task) -> None:
        """Collective; allocates what is sent and received."""
        super().__init__(comm, task)
        self._shapes = Shapes()
        shape = task.mesh
        assert shape is not None
        self._shape, self._place = shape, shape.place(comm.rank)
        data, stage, tensor = self._place
        self._tensor = comm.Split(data * shape.pipeline + stage)
        self._data = comm.Split(stage * shape.tensor + tensor)
        self._between, self._all = comm.Dup(), comm.Dup()
        # many ranks on few processors can't all look for messages as often as ``Mover`` does
        pause = max(PAUSE, 8 * _PIECE * task.slow / task.link)
        before, after = (shape.rank(self._place._replace(stage=stage + offset))
                         if 0 <= stage + offset < shape.pipeline else None for offset in (-1, 1))
        self._pipeline = Pipeline(self._between, before, after, pause=pause)
        self._order = SCHEDULES["1f1b"](shape.pipeline, task.micro, stage)
        stages = cut(shape.pipeline)
        self._stage = stages[stage]
        together = task.batch * shape.tensor * shape.pipeline
        self._rows = together // task.micro
        share = self._rows / task.batch / shape.tensor
        self._costs = {block: (share * forward, share * backward)
                       for block, (forward, backward) in blocks(task.compute).items()}
        self._update = updating(task.compute, self._stage, shape.tensor)
        self._received = self._output(stages[stage - 1][-1] if stage else None)
        self._passed = self._output(self._stage[-1])
        held = [math.prod(weight.part_shape(tensor, shape.tensor)) for weight in parameters()
                if weight.block in self._stage]  # weights and batch statistics
        self._reduced = [numbers for numbers in held if numbers >= LARGE]
        self._reduced.insert(0, sum(held) - sum(self._reduced))
        most = max(*self._reduced, self._rows * math.prod(self._shapes.outputs["bn1"]))
        self._values, self._sum = np.ones(most, np.float32), np.ones(most, np.float32)

    def step(self, number: int) -> None:
        pipeline = self._pipeline
        pipeline.run(self._order, {"forward": Direction(self._forward, self._before),
                                   "backward": Direction(self._backward, self._behind)})
        self.waited += pipeline.waited
        own, total = np.zeros(_SUMS), np.zeros(_SUMS)
        request = self._all.Iallreduce(own, total)
        self._wait(*(self._start(partial(self._add, self._data, numbers), self._data)
                     for numbers in self._reduced if self._data.size > 1))
        self._busy(self._update)
        self.waited += wait(request)

    def _forward(self, micro: int, received: np.ndarray | None) -> np.ndarray | None:
        """A forward pass; what the next stage gets."""
        for block in self._stage:
            if block == "conv2":
                self._gather(self._rows * math.prod(self._shapes.outputs["bn1"]),
                             CHANNELS["conv1"])
            self._busy(self._costs[block][0])
            if block in ("dense1", "dense2"):
                self._exchange(self._rows * self._shapes.outputs[block][0])
        last = self._place.stage == self._shape.pipeline - 1
        return None if last else self._message(self._passed)

    def _backward(self, micro: int, received: np.ndarray | None) -> np.ndarray | None:
        """A backward pass; what the previous stage gets."""
        for block in reversed(self._stage):
            self._busy(self._costs[block][1])
            if block == "dense2":
                self._gather(self._rows * UNITS, UNITS)
            if block == "conv2":
                self._exchange(self._rows * math.prod(self._shapes.outputs["bn1"]))
        return None if self._place.stage == 0 else self._message(self._received)

    def _before(self, micro: int) -> np.ndarray:
        """A buffer for what the previous stage sends."""
        return np.empty(self._received, np.float32)

    def _behind(self, micro: int) -> np.ndarray:
        """A buffer for what the next stage sends back."""
        return np.empty(self._passed, np.float32)

    def _message(self, shape: tuple[int, ...]) -> np.ndarray:
        return self._values[:math.prod(shape)].reshape(shape)

    def _output(self, block: str | None) -> tuple[int, ...]:
        """Shape of what a rank's part of a block outputs for a micro-batch; of the pictures there
        is no message."""
        if block is None:
            return (0,)
        return (self._rows, *output_shape(block, "row", self._place.tensor, self._shape.tensor))

    def _exchange(self, numbers: int) -> None:
        """Sum over the ranks of the layer, and wait for it."""
        if self._tensor.size > 1:
            self._wait(self._start(partial(self._add, self._tensor, numbers), self._tensor))

    def _gather(self, numbers: int, length: int) -> None:
        """Concatenate the shards of so many numbers, cut along an axis of a ``length``, and wait
        for it."""
        if self._tensor.size == 1:
            return
        counts = [numbers // length * size for size in sizes(self._tensor.size, length)]

        def gather() -> None:
            self._tensor.Allgatherv(self._values[:counts[self._tensor.rank]],
                                    [self._sum[:numbers], counts])

        self._wait(self._start(gather, self._tensor))

    def _add(self, comm: Comm, numbers: int) -> None:
        comm.Allreduce(self._values[:numbers], self._sum[:numbers])

    def close(self) -> None:
        super().close()
        for comm in (self._tensor, self._data, self._between, self._all):
            comm.Free()
