"""A product with a matrix whose rows are sharded over ranks that have different inputs.

After Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks": the ranks
exchange activations instead of the matrix, its gradient and the optimizer's state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import horovod.tensorflow as hvd
import tensorflow as tf

from hpc_deepfake.strategies.meter import Meter

# from a gradient to the gradients of x and of the rows
Gradient = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


class Sharded:
    """x·W for x of shape (n, features), where n differs between ranks, and W's rows are sharded.

    Each rank receives its columns of every rank's x, multiplies them with its rows of W, and sends
    each rank the partial sums for that rank's rows. They are added up in the order of the ranks,
    so they are the same bits in every run.
    """

    def __init__(self, widths: Sequence[int], place: int, ranks: hvd.ProcessSet,
                 sums: tf.DType, brief: bool) -> None:
        """
        Args:
            widths: number of rows of W on each rank.
            place: index of this rank.
            ranks: Horovod's set of the ranks.
            sums: type of the partial sums and of their gradient.
            brief: send activations and their gradients as bfloat16.
        """
        self._widths, self._place, self._ranks = list(widths), place, ranks
        self._sums, self._brief = sums, brief

    def product(self, x: tf.Tensor, rows: tf.Tensor, meter: Meter, name: str) -> tf.Tensor:
        """The product; its gradient is that of the sum of all ranks' losses. Collective.

        Args:
            x: (n, features).
            rows: this rank's rows of W (width, outputs).
            meter: notes what is sent and waited for.
            name: prefix of the names of the collective operations.

        Returns:
            (n, outputs)
        """
        size, width, outputs = len(self._widths), self._widths[self._place], rows.shape[1]
        kind = x.dtype

        @tf.custom_gradient
        def product(x: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
            count = tf.shape(x)[0]
            columns, received = self._all_to_all(
                self._for_owners(x), count * self._widths, meter, f"{name}_forward")
            counts = received // width  # number of rows of each rank
            columns = tf.reshape(columns, (-1, width))
            partial = tf.reshape(tf.cast(tf.matmul(columns, rows), self._sums), [-1])
            partial, _ = self._all_to_all(partial, counts * outputs, meter, f"{name}_sums")
            y = tf.reduce_sum(tf.reshape(partial, (size, count, outputs)), 0)

            def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                every = tf.cast(self._allgather(tf.cast(upstream, self._sums), meter,
                                                f"{name}_gradient"), kind)
                for_x = tf.reshape(tf.matmul(every, rows, transpose_b=True), [-1])
                with tf.control_dependencies([for_x]):  # so that it is sent meanwhile
                    for_rows = tf.matmul(columns, every, transpose_a=True)
                for_x, _ = self._all_to_all(for_x, counts * width, meter, f"{name}_backward",
                                            meanwhile=for_rows)
                return self._from_owners(for_x, count), for_rows

            return tf.cast(y, kind), gradient

        return product(x, rows)

    def _for_owners(self, x: tf.Tensor) -> tf.Tensor:
        """The columns for each rank, one rank after the other, flat."""
        return tf.concat([tf.reshape(block, [-1]) for block in tf.split(x, self._widths, 1)], 0)

    def _from_owners(self, flat: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """The inverse of ``_for_owners`` for ``count`` rows."""
        blocks = tf.split(flat, count * self._widths, num=len(self._widths))
        return tf.concat([tf.reshape(block, (count, width))
                          for block, width in zip(blocks, self._widths, strict=True)], 1)

    def _all_to_all(self, flat: tf.Tensor, splits: tf.Tensor, meter: Meter, name: str,
                    meanwhile: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Exchange numbers with all ranks.

        Args:
            flat: the numbers for each rank, one rank after the other.
            splits: how many for each rank.
            meter: notes what is sent and waited for.
            name: of the operation.
            meanwhile: computed while the messages travel: waiting counts from when it is done.

        Returns:
            What the ranks sent to this one, in their order, flat; and how many numbers each sent.
        """
        kind = flat.dtype
        brief = self._brief and not name.endswith("_sums")
        sent = tf.cast(flat, tf.bfloat16) if brief else flat
        if sent.dtype == tf.bfloat16:  # Horovod does not support it
            sent = tf.bitcast(sent, tf.uint16)
        values, received = hvd.alltoall(sent, splits, name, True, self._ranks)
        meter.sends("alltoall", (tf.size(sent) - splits[self._place]) * sent.dtype.size)
        values, = meter.waits([sent if meanwhile is None else meanwhile], [values])
        if sent.dtype == tf.uint16:
            values = tf.cast(tf.bitcast(values, tf.bfloat16), kind)
        return values, received

    def _allgather(self, value: tf.Tensor, meter: Meter, name: str) -> tf.Tensor:
        """The ranks' values, one rank after the other along the first axis."""
        values = hvd.allgather(value, name, True, self._ranks)
        meter.sends("allgather",
                    (len(self._widths) - 1) * tf.size(value) * value.dtype.size)
        values, = meter.waits([value], [values])
        return values
