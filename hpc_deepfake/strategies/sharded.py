"""A product with a matrix whose rows lie on several ranks, each of which has rows of its own.

Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks": activations move
instead of the matrix, its gradient and the optimizer's state.
"""

from __future__ import annotations

from collections.abc import Sequence

import horovod.tensorflow as hvd
import tensorflow as tf

from hpc_deepfake.strategies.meter import Meter


class Sharded:
    """x·W for x of shape (n, features), with n of each rank's own, and W's rows dealt to the ranks.

    Every rank gets its columns of all ranks' x, multiplies them with its rows of W, and sends each
    rank the partial sums of that rank's rows. Added up in the order of the ranks, they have the
    same bits in every run.
    """

    def __init__(self, widths: Sequence[int], place: int, ranks: hvd.ProcessSet,
                 sums: tf.DType, brief: bool) -> None:
        """
        Args:
            widths: rows of W on each rank. place: of this rank. sums: type of the partial sums and
                of what comes back for them. brief: send activations and their gradients as
                bfloat16.
        """
        self._widths, self._place, self._ranks = list(widths), place, ranks
        self._sums, self._brief = sums, brief

    def product(self, x: tf.Tensor, rows: tf.Tensor, meter: Meter, name: str) -> tf.Tensor:
        """(n, outputs) for x (n, features) and this rank's ``rows`` of W (width, outputs). Its
        gradient is that of the sum over the ranks of what they make of it. Collective."""
        size, width, outputs = len(self._widths), self._widths[self._place], rows.shape[1]
        kind = x.dtype

        @tf.custom_gradient
        def product(x: tf.Tensor, rows: tf.Tensor) -> tuple:
            count = tf.shape(x)[0]
            columns, received = self._all_to_all(
                self._for_owners(x), count * self._widths, meter, f"{name}_forward")
            counts = received // width  # of rows, of each rank
            columns = tf.reshape(columns, (-1, width))
            partial = tf.reshape(tf.cast(tf.matmul(columns, rows), self._sums), [-1])
            partial, _ = self._all_to_all(partial, counts * outputs, meter, f"{name}_sums")
            y = tf.reduce_sum(tf.reshape(partial, (size, count, outputs)), 0)

            def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                every = tf.cast(self._allgather(tf.cast(upstream, self._sums), meter,
                                                f"{name}_gradient"), kind)
                for_x = tf.reshape(tf.matmul(every, rows, transpose_b=True), [-1])
                with tf.control_dependencies([for_x]):  # which travels meanwhile
                    for_rows = tf.matmul(columns, every, transpose_a=True)
                for_x, _ = self._all_to_all(for_x, counts * width, meter, f"{name}_backward",
                                            meanwhile=for_rows)
                return self._from_owners(for_x, count), for_rows

            return tf.cast(y, kind), gradient

        return product(x, rows)

    def _for_owners(self, x: tf.Tensor) -> tf.Tensor:
        """Each rank's columns, one rank after the other, flat."""
        return tf.concat([tf.reshape(block, [-1]) for block in tf.split(x, self._widths, 1)], 0)

    def _from_owners(self, flat: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """``count`` rows out of what ``_for_owners`` makes of them."""
        blocks = tf.split(flat, count * self._widths, num=len(self._widths))
        return tf.concat([tf.reshape(block, (count, width))
                          for block, width in zip(blocks, self._widths, strict=True)], 1)

    def _all_to_all(self, flat: tf.Tensor, splits: tf.Tensor, meter: Meter, name: str,
                    meanwhile: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """What the ranks have for this one, in their order, and how much each; flat. Waiting counts
        from when ``meanwhile`` is there."""
        kind = flat.dtype
        brief = self._brief and not name.endswith("_sums")
        sent = tf.cast(flat, tf.bfloat16) if brief else flat
        if sent.dtype == tf.bfloat16:  # Horovod doesn't know it
            sent = tf.bitcast(sent, tf.uint16)
        got, received = hvd.alltoall(sent, splits, name, True, self._ranks)
        meter.sends("alltoall", (tf.size(sent) - splits[self._place]) * sent.dtype.size)
        got, = meter.waits([sent if meanwhile is None else meanwhile], [got])
        if sent.dtype == tf.uint16:
            got = tf.cast(tf.bitcast(got, tf.bfloat16), kind)
        return got, received

    def _allgather(self, value: tf.Tensor, meter: Meter, name: str) -> tf.Tensor:
        got = hvd.allgather(value, name, True, self._ranks)
        meter.sends("allgather",
                    (len(self._widths) - 1) * tf.size(value) * value.dtype.size)
        got, = meter.waits([value], [got])
        return got
