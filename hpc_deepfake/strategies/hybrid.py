"""Data parallel training, with the rows of the largest dense kernel sharded over ranks."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import plural
from hpc_deepfake.network.base import Network, of, refuse_constraints
from hpc_deepfake.network.fused import Weights
from hpc_deepfake.network.general import General
from hpc_deepfake.network.scoring import Scores
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.strategies import clipping, traffic
from hpc_deepfake.strategies.base import Arrays, Batch, Judged
from hpc_deepfake.strategies.collectives import process_set
from hpc_deepfake.strategies.layout import Layout, group_size, groups, peers
from hpc_deepfake.strategies.sequential import PICTURES
from hpc_deepfake.strategies.sharded import Sharded
from hpc_deepfake.strategies.sync import Sync

if TYPE_CHECKING:
    import keras
    from mpi4py.MPI import Comm


class Hybrid(Sync):
    """Each rank of a group holds and updates a shard of the kernel: some of its rows. Everything
    else is on every rank, as in ``Sync``.

    With groups of S ranks, rank r is in group r // S, at place r % S. Ranks at the same place of
    their groups hold the same rows and reduce their gradient among themselves. Only rank 0 keeps
    the whole kernel, as in the beginning: of ``table`` in its Keras model, of another network until
    all ranks have their rows.
    """

    name = "hybrid"
    comm: Comm

    def __init__(self, model: keras.Model, settings: Settings, comm: Comm,
                 layout: Layout | None = None) -> None:
        """Collective.

        Raises:
            InputError: the network has no dense kernel that it pays to shard; on all ranks.
        """
        size = group_size(comm, (layout or Layout()).shard_group)
        number, self._place = divmod(comm.rank, size)
        self._group = comm.Split(number, comm.rank)
        self._peers = comm.Split(self._place, comm.rank)
        self._peer_set = process_set(peers(comm.size, size)[self._place])
        super().__init__(model, settings, comm, layout)
        trained = len(self.weights.trainable)
        place = next(place for place, variable in enumerate(self.weights.trainable)
                     if variable is self.weights.large)
        # the kernel's rows, and the optimizer's state of them
        self._dealt = {id(self.weights.large), *map(id, self.slots[place::trained])}
        # the ranks of a group evaluate the same pictures together
        self.evaluation_share = (number, comm.size // size)
        self.speaks = self._place == 0
        self._group_set = process_set(groups(comm.size, size)[number])
        self._sharded = self._group_set and Sharded(
            self._widths, self._place, self._group_set, self._own,
            settings.compression == "bf16")
        if comm.rank:
            self.model = None
            if isinstance(self.weights, Weights):
                del self.weights.model  # and with it the whole kernel
            del model
            gc.collect()

    def _take(self, model: keras.Model) -> Network:
        network = of(model, self.settings)
        refuse_constraints(network, self.name)
        whole = _kernel(network)
        parts = np.array_split(np.arange(whole.shape[0]), self._group.size)
        self._widths = [len(part) for part in parts]
        if isinstance(network, General):
            _check_pays(network, self.comm.size, self._group.size, self.settings)
        self._whole: tf.Variable | None = whole if self.comm.rank == 0 else None
        own = parts[self._place]
        rows = tf.Variable(whole[own[0]:own[-1] + 1], name="dense1_kernel_rows")
        if not isinstance(network, General):
            return Weights(model, rows)
        network.shard(rows)
        return network

    def _product(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        if self._sharded is None:  # alone in its group
            return super()._product(x, kernel)
        return self._sharded.product(x, kernel, self._meter, "dense1")

    def _reduce_kernel(self, gradient: tf.Tensor, name: str) -> tf.Tensor:
        """Sum of the kernel's over the groups: it is a sum over this group's batch already."""
        if name != "dense_kernel":
            return super()._reduce_kernel(gradient, name)
        if self._peer_set is None:
            return gradient
        return self._sum(gradient, name, self._peer_set)

    def _squares(self, gradients: list[tf.Tensor]) -> tf.Tensor:
        """The kernel's are those of all shards; the other gradients are the same on all ranks."""
        shard, others = ([gradient for gradient, variable in zip(
            gradients, self.weights.trainable, strict=True)
            if (variable is self.weights.large) == dealt] for dealt in (True, False))
        kernel = clipping.squares(shard)
        if self._group_set is not None:
            kernel = self._sum(kernel, "squares", self._group_set)
        return kernel + clipping.squares(others)

    def _whole_squares(self, squares: tf.Tensor) -> tf.Tensor:
        if self._group_set is None:
            return squares
        dealt = tf.constant([variable is self.weights.large for variable in self.weights.trainable])
        return tf.where(dealt, self._sum(squares, "norms", self._group_set), squares)

    def gradients(self, batch: Batch, rows: int) -> list[np.ndarray]:
        return self._gather(super().gradients(batch, rows), self.weights.trainable)

    def judged(self, pictures: np.ndarray, where: bool = False) -> Callable[[], Judged]:
        places = np.array_split(np.arange(len(pictures)), self._group.size)
        first = sum(map(len, places[:self._place]))
        own = pictures[first:first + len(places[self._place])]
        batch = Batch(own, np.zeros(len(own), np.uint8), np.zeros(2, np.int32))
        outputs = self._predict(self._inputs(batch)[0])
        return lambda: Judged(Scores.of(np.concatenate(
            self._group.allgather(outputs.numpy()[:len(own)]))).probabilities)

    @tf.function(autograph=False, input_signature=(PICTURES,))
    def _predict(self, pictures: tf.Tensor) -> tf.Tensor:
        self._shape(pictures)
        self._meter = self._new_meter()
        return self.weights.predict(pictures, self._product)

    def whole(self) -> Arrays:
        return self._collect(self.variables)

    def restore(self, whole: Arrays) -> None:
        for variable, value in zip(self.variables, self._deal(whole or None, self.variables),
                                   strict=True):
            variable.assign(value)

    def state(self) -> Arrays:
        return self._collect([*self.variables, *self.slots])

    def _collect(self, tensors: Sequence[tf.Variable]) -> Arrays:
        """On rank 0, the whole values of ``tensors``; collective. Ranks of its group copy their
        shards only, the others nothing."""
        wanted = [tensor for tensor in tensors if not self.comm.rank or (
            self.comm.rank < self._group.size and self._is_dealt(tensor))]
        values = self._gather([tensor.numpy() for tensor in wanted], wanted)
        return values if self.comm.rank == 0 else []

    def load(self, state: Arrays | None) -> None:
        tensors = [*self.variables, *self.slots]
        if not self.comm.bcast(state is not None):
            tensors = list(self.variables)
            if self.comm.rank == 0:
                assert self._whole is not None
                state = [(self._whole if self._is_dealt(tensor) else tensor).numpy()
                         for tensor in tensors]
        for tensor, value in zip(tensors, self._deal(state, tensors), strict=True):
            tensor.assign(value)
        if isinstance(self.weights, General):
            self._whole = None

    def broadcast(self) -> None:
        self.load(None)

    def _is_dealt(self, tensor: tf.Variable) -> bool:
        """Whether it is the kernel's or one of its moments."""
        return id(tensor) in self._dealt

    def _gather(self, values: Arrays, tensors: Sequence[tf.Variable]) -> Arrays:
        """On rank 0, the ``values`` of ``tensors`` with the kernel's whole; collective."""
        return [self._gather_rows(value) if self._is_dealt(tensor) else value
                for value, tensor in zip(values, tensors, strict=True)]

    def _gather_rows(self, rows: np.ndarray) -> np.ndarray:
        """On rank 0, the whole kernel from the rows of its group's ranks; elsewhere ``rows``."""
        whole = None
        if self.comm.rank == 0:
            whole = np.empty((sum(self._widths), rows.shape[1]), rows.dtype)
        if self.comm.rank < self._group.size:  # the other groups have copies
            self._group.Gatherv(rows, None if whole is None else [whole, self._counts()])
        return rows if whole is None else whole

    def _deal(self, whole: Arrays | None, tensors: Sequence[tf.Variable]) -> Arrays:
        """This rank's part of the whole values of ``tensors``, which rank 0 passes; collective."""
        dealt = [self._is_dealt(tensor) for tensor in tensors]
        others = iter(self.comm.bcast(whole and [
            value for value, is_dealt in zip(whole, dealt, strict=True) if not is_dealt]))
        return [self._deal_rows(whole[place] if whole else None) if is_dealt else next(others)
                for place, is_dealt in enumerate(dealt)]

    def _deal_rows(self, whole: np.ndarray | None) -> np.ndarray:
        """This rank's rows of the whole kernel, which rank 0 passes."""
        kernel = self._rows()
        rows = np.empty(kernel.shape, kernel.dtype.as_numpy_dtype)
        if self.comm.rank < self._group.size:
            sent = None if whole is None else [np.ascontiguousarray(whole), self._counts()]
            self._group.Scatterv(sent, rows)
        self._peers.Bcast(rows)
        return rows

    def _counts(self) -> list[int]:
        """How many numbers of the kernel each rank of a group holds."""
        return [width * self._rows().shape[1] for width in self._widths]

    def _rows(self) -> tf.Variable:
        assert self.weights.large is not None
        return self.weights.large


def _kernel(network: Network) -> tf.Variable:
    """The kernel to shard.

    Raises:
        InputError: there is none; on all ranks.
    """
    kernel = network.large
    if isinstance(network, General) and network.dense is not None:
        kernel = network.trainable[network.dense]
    if kernel is None:
        raise InputError("--strategy hybrid shards the kernel of a dense layer behind Flatten or a "
                         "pooling that is trained and used once, and the network has none: use "
                         "--strategy sync", everywhere=True)
    return kernel


def _check_pays(network: General, ranks: int, group: int, settings: Settings) -> None:
    """Raise InputError, on all ranks, unless sharding the kernel sends no more than reducing its
    gradient."""
    layer, place = network.dense_layer, network.dense
    assert layer is not None and place is not None
    if layer.kernel_regularizer is not None:
        raise InputError(f"--strategy hybrid: the largest dense layer, {layer.name}, has a "
                         "regulariser of its kernel, which its ranks have only parts of: use "
                         "--strategy sync", everywhere=True)
    sizes = traffic.Sizes.of([variable.shape for variable in network.trainable],
                             [variable.shape for variable in network.moving], place)
    width = network.trainable[place].dtype.size
    brief = "bfloat16" in settings.precision or settings.compression == "bf16"

    def sent(rows: float) -> float:
        return sum(traffic.hybrid(ranks, group, rows, width, 2 if brief else width,
                                  settings.accumulate, sizes).values())

    reduced, own = sum(traffic.sync(ranks, width, width, sizes).values()), sent(settings.batch_size)
    if own <= reduced:
        return
    most = int((reduced - sent(0)) / (sent(1) - sent(0)))  # it grows by as much with each row
    pays = f"it would send less with at most {plural(most, 'row')} per rank" if most else \
        "with these ranks it never sends less"
    rows = plural(settings.batch_size, "row") + " per rank" + (
        f" and micro-batch, of which a step has {settings.accumulate},"
        if settings.accumulate > 1 else "")
    raise InputError(
        f"--strategy hybrid: the largest dense kernel of the network, {layer.name} "
        f"({sizes.features:,} × {sizes.units:,}), is too small to shard: with {rows} in groups of "
        f"{group} each rank would send {own / 1e6:,.2f} MB in a step, with --strategy sync "
        f"{reduced / 1e6:,.2f} MB; {pays}. Use --strategy sync", everywhere=True)
