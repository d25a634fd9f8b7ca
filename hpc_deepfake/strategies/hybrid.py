"""Data parallel convolutions, and the large dense kernel's rows dealt to groups of ranks."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from hpc_deepfake.network import batchnorm
from hpc_deepfake.network.batchnorm import Statistics
from hpc_deepfake.network.fused import Weights, forward
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.strategies.base import Arrays, Batch, Done
from hpc_deepfake.strategies.collectives import Guard, process_set
from hpc_deepfake.strategies.layout import Layout, group_size, groups, peers
from hpc_deepfake.strategies.sequential import PICTURES
from hpc_deepfake.strategies.sharded import Sharded
from hpc_deepfake.strategies.sync import Sync

if TYPE_CHECKING:
    import keras
    from mpi4py.MPI import Comm


class Hybrid(Sync):
    """Within a group each rank holds, updates and keeps the moments of its rows of the kernel; all
    else is on every rank, as in ``Sync``.

    Rank r is in group r // S, at place r % S. Ranks at the same place of their groups hold the
    same rows and reduce their gradient among themselves. The whole kernel is on rank 0 only, in
    its Keras model, current after ``fill_model``; on others it is dropped once it is built.
    """

    name = "hybrid"

    def __init__(self, model: keras.Model, settings: Settings, comm: Comm,
                 layout: Layout | None = None) -> None:
        size = group_size(comm, (layout or Layout()).shard_group)
        number, self._place = divmod(comm.rank, size)
        self._group = comm.Split(number, comm.rank)
        self._peers = comm.Split(self._place, comm.rank)
        self._peer_set = process_set(peers(comm.size, size)[self._place])
        self._guard = Guard(comm)
        super().__init__(model, settings, comm, layout)
        # a group's ranks evaluate the same pictures together
        self.evaluation_share = (number, comm.size // size)
        self.speaks = self._place == 0
        ours = process_set(groups(comm.size, size)[number])
        self._sharded = ours and Sharded(self._widths, self._place, ours, self._own,
                                         settings.compression == "bf16")
        if comm.rank:
            self.model = None
            del model
            gc.collect()

    def step(self, batches: Sequence[Batch], rows: int, step: int, wishes: int = 0) -> Done:
        with self._guard:
            return super().step(batches, rows, step, wishes)

    def _take(self, model: keras.Model) -> Weights:
        whole = Weights(model).dense1[0]
        self._whole = whole if self.comm.rank == 0 else None
        parts = np.array_split(np.arange(whole.shape[0]), self._group.size)
        self._widths = [len(part) for part in parts]
        mine = parts[self._place]
        kernel = tf.Variable(whole[mine[0]:mine[-1] + 1], name="dense1_kernel_rows")
        return Weights(model, kernel)

    def _product(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        if self._sharded is None:  # alone in its group
            return super()._product(x, kernel)
        return self._sharded.product(x, kernel, self._meter, "dense1")

    def _reduce_kernel(self, gradient: tf.Tensor) -> tf.Tensor:
        """The sum over this group's rows is there; over all groups it is taken here."""
        if self._peer_set is None:
            return gradient
        return self._sum(gradient, "dense_kernel", self._peer_set)

    def gradients(self, batch: Batch, rows: int) -> list[np.ndarray]:
        return self._gather(super().gradients(batch, rows), self.weights.trainable)

    def probabilities(self, pictures: np.ndarray) -> np.ndarray:
        mine = np.array_split(pictures, self._group.size)[self._place]
        found = self._predict(self._inputs(Batch(mine, np.zeros(len(mine), np.uint8),
                                                 np.zeros(2, np.int32)), 1)[0])
        return np.concatenate(self._group.allgather(found.numpy()[:len(mine)]))

    @tf.function(autograph=False, input_signature=(PICTURES,))
    def _predict(self, pictures: tf.Tensor) -> tf.Tensor:
        self._meter = self._new_meter()
        moving = self.weights.moving
        normalise = batchnorm.by_moving({"bn1": Statistics(*moving[:2]),
                                         "bn2": Statistics(*moving[2:])})
        logits, _ = forward(self.weights, pictures, tf.zeros(2, tf.int32), 0.0, normalise,
                            self._own, self._product)
        return tf.nn.softmax(logits)[:, 1]

    def whole(self, snapshot: Arrays) -> Arrays:
        return self._gather(snapshot, self.variables) if snapshot else snapshot

    def part(self, whole: Arrays | None) -> Arrays:
        return self._deal(whole, self.variables)

    def state(self) -> Arrays:
        tensors = [*self.variables, *self.slots]
        return self._gather([tensor.numpy() for tensor in tensors], tensors)

    def load(self, state: Arrays | None) -> None:
        tensors = [*self.variables, *self.slots]
        if not self.comm.bcast(state is not None):
            tensors = self.variables
            if self.comm.rank == 0:
                state = [(self._whole if self._is_dealt(tensor) else tensor).numpy()
                         for tensor in tensors]
        for tensor, value in zip(tensors, self._deal(state, tensors), strict=True):
            tensor.assign(value)

    def broadcast(self) -> None:
        self.load(None)

    def fill_model(self) -> None:
        kernel = self.weights.dense1[0]
        whole, = self._gather([kernel.numpy()], [kernel])
        if self.comm.rank == 0:
            self._whole.assign(whole)

    def _is_dealt(self, tensor: tf.Variable) -> bool:
        """Whether it is the kernel or one of its moments: nothing else has such a shape."""
        return tensor.shape == self.weights.dense1[0].shape

    def _gather(self, values: Arrays, tensors: Sequence[tf.Variable]) -> Arrays:
        """On rank 0 the whole of what are parts; values of some tensors. Collective."""
        return [self._gather_rows(value) if self._is_dealt(tensor) else value
                for value, tensor in zip(values, tensors, strict=True)]

    def _gather_rows(self, rows: np.ndarray) -> np.ndarray:
        whole = None
        if self.comm.rank == 0:
            whole = np.empty((sum(self._widths), rows.shape[1]), rows.dtype)
        if self.comm.rank < self._group.size:  # the other groups have copies
            self._group.Gatherv(rows, None if whole is None else [whole, self._counts()])
        return rows if whole is None else whole

    def _deal(self, whole: Arrays | None, tensors: Sequence[tf.Variable]) -> Arrays:
        """This rank's part of rank 0's values of some tensors. Collective."""
        dealt = [self._is_dealt(tensor) for tensor in tensors]
        others = iter(self.comm.bcast(whole and [
            value for value, one in zip(whole, dealt, strict=True) if not one]))
        return [self._deal_rows(whole and whole[place]) if one else next(others)
                for place, one in enumerate(dealt)]

    def _deal_rows(self, whole: np.ndarray | None) -> np.ndarray:
        kernel = self.weights.dense1[0]
        rows = np.empty(kernel.shape, kernel.dtype.as_numpy_dtype)
        if self.comm.rank < self._group.size:
            sent = None if whole is None else [np.ascontiguousarray(whole), self._counts()]
            self._group.Scatterv(sent, rows)
        self._peers.Bcast(rows)
        return rows

    def _counts(self) -> list[int]:
        """Numbers of the kernel on each rank of a group."""
        return [width * self.weights.dense1[0].shape[1] for width in self._widths]
