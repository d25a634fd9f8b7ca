"""The four operations between whole tensors and their shards on the ranks of a tensor group.

They are named as in Megatron-LM (Shoeybi et al. 2019). Each defines its own backward pass, since
the gradients that Horovod registers for its collectives average or multiply:

    ============  ==============================  ==============================
    region        forward                         backward
    ============  ==============================  ==============================
    copy_to       identity                        sum over the ranks
    reduce_from   sum over the ranks              identity
    scatter_to    this rank's shard               all shards, concatenated
    gather_from   all shards, concatenated        this rank's shard
    ============  ==============================  ==============================

Shards are along the last axis and may differ in size. All ranks of a group must call the same
operations, under names that are not in use at the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import horovod.tensorflow as hvd
import tensorflow as tf
from horovod.tensorflow.mpi_ops import _allreduce, allgather

from hpc_deepfake.strategies import collectives
from hpc_deepfake.strategies.mesh.shape import bounds, sizes

# the output of an operation, and its backward pass
Region = tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]


class Group:
    """Ranks that share a layer; a single rank has all of it.

    Attributes:
        index: of this rank in the group.
        size: number of ranks.
        moved: by name of a collective operation, bytes that this rank sends in it: for each row
            of a batch, and independent of the rows (see ``sent``).
    """

    def __init__(self, ranks: Sequence[int] = (0,), index: int = 0, prefix: str = "") -> None:
        """
        Args:
            ranks: in ascending order; more than one must have been given to ``collectives.start``.
            index: of this rank among them.
            prefix: of the names of collective operations.
        """
        self.index, self.size, self._prefix = index, len(ranks), prefix
        self.moved: dict[str, tuple[float, float]] = {}
        self._set: hvd.ProcessSet | None = collectives.process_set(ranks) if self.size > 1 else None

    def allreduce(self, value: tf.Tensor, name: str) -> tf.Tensor:
        """Sum over the group."""
        if self._set is None:
            return value
        if value.dtype == tf.bfloat16:  # Horovod does not support it
            return tf.cast(self.allreduce(tf.cast(value, tf.float32), name), value.dtype)
        self._note(name, value, 2)
        return _allreduce(value, self._prefix + name, hvd.Sum, ignore_name_scope=True,
                          process_set=self._set)

    def gather(self, shard: tf.Tensor, whole: int, name: str) -> tf.Tensor:
        """The shards concatenated along the last axis, whose length is then ``whole``."""
        if self._set is None:
            return shard
        if shard.dtype == tf.bfloat16:
            bits = self.gather(tf.bitcast(shard, tf.uint16), whole, name)
            return tf.bitcast(bits, tf.bfloat16)
        outer = tf.shape(shard)[:-1]
        lengths = sizes(self.size, whole)
        self._note(name, shard, self.size)  # approximately: sizes of shards differ
        flat = allgather(tf.reshape(shard, [-1]), self._prefix + name, ignore_name_scope=True,
                         process_set=self._set)
        rows = tf.size(shard) // shard.shape[-1]
        pieces = tf.split(flat, [rows * length for length in lengths], num=self.size)
        gathered = tf.concat([tf.reshape(piece, tf.concat([outer, [length]], 0))
                              for piece, length in zip(pieces, lengths, strict=True)], -1)
        return tf.ensure_shape(gathered, (*shard.shape[:-1], whole))

    def shard(self, whole: tf.Tensor) -> tf.Tensor:
        """This rank's part of the last axis."""
        start, stop = bounds(self.index, self.size, whole.shape[-1])
        return whole[..., start:stop]

    def sent(self, rows: int) -> float:
        """Bytes that this rank sends for a batch of ``rows`` in all collective operations so far.

        Each is assumed to be a ring: 2 (n - 1)/n of the bytes of a sum, and n - 1 shards when
        gathering."""
        return sum(each * rows + fixed for each, fixed in self.moved.values())

    def _note(self, name: str, value: tf.Tensor, times: int) -> None:
        """Note the bytes of an operation on ``value``, which is sent ``times`` around the ring."""
        size = value.dtype.size * times * (self.size - 1) / self.size
        for length in value.shape[1:] if value.shape[0] is None else value.shape:
            size *= length
        self.moved[name] = (size, 0.0) if value.shape[0] is None else (0.0, size)


def copy_to(x: tf.Tensor, group: Group, name: str) -> tf.Tensor:
    """Use x in layers that each rank has a shard of: the gradients of the ranks add up."""
    @tf.custom_gradient
    def region(x: tf.Tensor) -> Region:
        return tf.identity(x), lambda upstream: group.allreduce(upstream, f"{name}_copy")

    return region(x) if group.size > 1 else x


def reduce_from(x: tf.Tensor, group: Group, name: str) -> tf.Tensor:
    """Sum the outputs of layers that each rank has a shard of."""
    @tf.custom_gradient
    def region(x: tf.Tensor) -> Region:
        return group.allreduce(x, f"{name}_reduce"), tf.identity

    return region(x) if group.size > 1 else x


def scatter_to(x: tf.Tensor, group: Group, name: str) -> tf.Tensor:
    """This rank's shard of x, which is the same on all ranks."""
    whole = x.shape[-1]

    @tf.custom_gradient
    def region(x: tf.Tensor) -> Region:
        return group.shard(x), lambda upstream: group.gather(upstream, whole, f"{name}_scatter")

    return region(x) if group.size > 1 else x


def gather_from(x: tf.Tensor, group: Group, whole: int, name: str) -> tf.Tensor:
    """The whole tensor of this rank's shard, of length ``whole`` along the last axis.

    What follows must be the same on all ranks, or begin with ``copy_to``: the gradient that comes
    back is assumed to be the same on all ranks."""
    @tf.custom_gradient
    def region(x: tf.Tensor) -> Region:
        return group.gather(x, whole, f"{name}_gather"), group.shard

    return region(x) if group.size > 1 else x
