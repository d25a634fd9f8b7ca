"""The four places where a tensor goes from all ranks of a tensor group to shards, or back.

Named as in Megatron-LM (Shoeybi et al. 2019). Each has its backward pass defined here, since the
gradients that Horovod registers for its collectives average or multiply:

    ============  ==============================  ==============================
    region        forward                         backward
    ============  ==============================  ==============================
    copy_to       nothing                         sum over the ranks
    reduce_from   sum over the ranks              nothing
    scatter_to    this rank's shard               shards of all, side by side
    gather_from   shards of all, side by side     this rank's shard
    ============  ==============================  ==============================

Shards are of the last axis and may differ in size. All ranks of a group must call the same regions
with names that differ from those of others under way.
"""

from __future__ import annotations

from collections.abc import Sequence

import horovod.tensorflow as hvd
import tensorflow as tf
from horovod.tensorflow.mpi_ops import _allreduce, allgather

from hpc_deepfake.strategies import collectives
from hpc_deepfake.strategies.mesh.shape import bounds, sizes


class Group:
    """Ranks that share a layer, or a lone one.

    Attributes:
        index, size: this rank's, of how many. moved: by collective, bytes that this rank sends in
            it, for each row of a batch and besides (``sent``).
    """

    def __init__(self, ranks: Sequence[int] = (0,), index: int = 0, prefix: str = "") -> None:
        """``ranks`` in ascending order, known to ``collectives.start`` if more than one;
        ``prefix`` of the collectives' names."""
        self.index, self.size, self._prefix = index, len(ranks), prefix
        self.moved: dict[str, tuple[float, float]] = {}
        self._set: hvd.ProcessSet | None = collectives.process_set(ranks) if self.size > 1 else None

    def allreduce(self, value: tf.Tensor, name: str) -> tf.Tensor:
        """Sum over the group."""
        if self._set is None:
            return value
        if value.dtype == tf.bfloat16:  # Horovod doesn't know it
            return tf.cast(self.allreduce(tf.cast(value, tf.float32), name), value.dtype)
        self._note(name, value, 2)
        return _allreduce(value, self._prefix + name, hvd.Sum, ignore_name_scope=True,
                          process_set=self._set)

    def gather(self, shard: tf.Tensor, whole: int, name: str) -> tf.Tensor:
        """Shards side by side along the last axis, which has ``whole`` in all."""
        if self._set is None:
            return shard
        if shard.dtype == tf.bfloat16:
            bits = self.gather(tf.bitcast(shard, tf.uint16), whole, name)
            return tf.bitcast(bits, tf.bfloat16)
        outer = tf.shape(shard)[:-1]
        lengths = sizes(self.size, whole)
        self._note(name, shard, self.size)  # about: shards differ
        flat = allgather(tf.reshape(shard, [-1]), self._prefix + name, ignore_name_scope=True,
                         process_set=self._set)
        pieces = tf.split(flat, [tf.reduce_prod(outer) * length for length in lengths],
                          num=self.size)
        found = tf.concat([tf.reshape(piece, tf.concat([outer, [length]], 0))
                           for piece, length in zip(pieces, lengths, strict=True)], -1)
        return tf.ensure_shape(found, (*shard.shape[:-1], whole))

    def shard(self, whole: tf.Tensor) -> tf.Tensor:
        """This rank's part of the last axis."""
        start, stop = bounds(self.index, self.size, whole.shape[-1])
        return whole[..., start:stop]

    def sent(self, rows: int) -> float:
        """Bytes that this rank sends for a batch of so many rows in all collectives met so far,
        if each is a ring: 2 (n - 1)/n of a sum's bytes, n - 1 shards of a gathering's."""
        return sum(each * rows + fixed for each, fixed in self.moved.values())

    def _note(self, name: str, value: tf.Tensor, times: int) -> None:
        length = value.dtype.size * times * (self.size - 1) / self.size
        for known in value.shape[1:] if value.shape[0] is None else value.shape:
            length *= known
        self.moved[name] = (length, 0.0) if value.shape[0] is None else (0.0, length)


def copy_to(x: tf.Tensor, group: Group, name: str) -> tf.Tensor:
    """Before layers that each rank has a shard of: all use x, so its gradients add up."""
    @tf.custom_gradient
    def region(x: tf.Tensor) -> tuple:
        return tf.identity(x), lambda upstream: group.allreduce(upstream, f"{name}_copy")

    return region(x) if group.size > 1 else x


def reduce_from(x: tf.Tensor, group: Group, name: str) -> tf.Tensor:
    """After layers that each give a summand."""
    @tf.custom_gradient
    def region(x: tf.Tensor) -> tuple:
        return group.allreduce(x, f"{name}_reduce"), tf.identity

    return region(x) if group.size > 1 else x


def scatter_to(x: tf.Tensor, group: Group, name: str) -> tf.Tensor:
    """From x, which all ranks have, to this rank's shard."""
    whole = x.shape[-1]

    @tf.custom_gradient
    def region(x: tf.Tensor) -> tuple:
        return group.shard(x), lambda upstream: group.gather(upstream, whole, f"{name}_scatter")

    return region(x) if group.size > 1 else x


def gather_from(x: tf.Tensor, group: Group, whole: int, name: str) -> tf.Tensor:
    """From this rank's shard to all of it, ``whole`` along the last axis. What follows must be the
    same on all ranks, or begin with ``copy_to``: the gradient that comes back is taken for
    everybody's."""
    @tf.custom_gradient
    def region(x: tf.Tensor) -> tuple:
        return group.gather(x, whole, f"{name}_gather"), group.shard

    return region(x) if group.size > 1 else x
