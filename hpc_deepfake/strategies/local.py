"""Local SGD: ranks train by themselves and average their weights now and then."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from hpc_deepfake.network.batchnorm import update_moving
from hpc_deepfake.strategies.base import Batch, Done, R, T
from hpc_deepfake.strategies.sequential import COUNT, INPUTS, WISHES
from hpc_deepfake.strategies.sync import Sync


class LocalSGD(Sync):
    """Local SGD with periodic averaging (Stich 2019; Lin et al. 2020).

    Each rank takes ``sync_every`` optimizer steps on its own shares, waiting for nobody, then all
    average weights, moments and moving statistics, weighted by the rows that each has seen. So
    ranks differ within these steps only, an average is one state of the run (a checkpoint is taken
    nowhere else), and the same ranks give the same bits again, which elastic averaging (Zhang,
    Choromanska & LeCun 2015), whose ranks meet a centre at times of their own, can't. With plain
    gradient descent and an average after each step it is ``sync``.
    """

    name = "local-sgd"

    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, **named)
        # since the last average: this rank's rows, losses, right answers, wishes
        self._sums = tf.Variable(tf.zeros(4, tf.float64), trainable=False)
        self._steps = self._left = 0

    def deal(self, items: Sequence[T], load: Callable[[T], R],
             first: int) -> Iterator[tuple[int, R | None]]:
        self._left = len(items)
        return super().deal(items, load, first)

    def step(self, batches: Sequence[Batch], rows: int, step: int, wishes: int = 0) -> Done:
        mine = sum(len(batch.labels) for batch in batches)
        if mine:
            number = tf.constant(step, tf.int64)
            *earlier, last = [self._inputs(batch, mine) for batch in batches]
            for inputs in earlier:
                self._hold(*inputs)
            self._local(*last, number)
        self._steps, self._left = self._steps + 1, self._left - 1
        if self._steps < self.layout.sync_every and self._left:
            return Done()
        steps, self._steps = self._steps, 0
        sums, metered = self._average(tf.constant(wishes))
        rows, loss, right, wishes = sums.numpy().tolist()
        return Done(steps, round(rows), loss, right, round(wishes), self._read(metered))

    @tf.function(autograph=False, input_signature=(*INPUTS, COUNT))
    def _local(self, *inputs: tf.Tensor) -> None:
        *inputs, step = inputs
        rows = tf.cast(inputs[3], tf.float64)
        parts = self._total(self._parts(*inputs), tf.constant(0))
        self.optimizer.apply(parts.gradients, step)
        update_moving(self.weights.moving, parts.batch, step + 1)
        loss, right, none = (tf.cast(one, tf.float64) for one in parts.sums)
        self._sums.assign_add(tf.stack([rows, loss, right, none]))

    @tf.function(autograph=False, input_signature=(WISHES,))
    def _average(self, wishes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """All ranks' weights become the mean over the rows; their sums, and what was waited for
        and sent."""
        self._meter = self._new_meter()
        began = self._sums.read_value()
        mine = began + tf.cast(tf.stack([0, 0, 0, wishes]), tf.float64)
        total = self._allreduce(mine, "sums")
        weight = tf.cast(began[0] / total[0], self._own)
        means = [value * weight for value in (*self.variables, *self.slots)]
        large = np.prod(self.weights.dense1[0].shape)
        small = [one for one in means if one.shape.num_elements() < large]
        rest = self._allreduce(tf.concat([tf.reshape(one, [-1]) for one in small], 0), "rest")
        pieces = iter(tf.split(rest, [one.shape.num_elements() for one in small]))
        done = []
        for number, (variable, mean) in enumerate(
                zip((*self.variables, *self.slots), means, strict=True)):
            if mean.shape.num_elements() == large:
                done.append(variable.assign(self._allreduce(mean, f"kernel{number}")))
            else:
                done.append(variable.assign(tf.reshape(next(pieces), mean.shape)))
        with tf.control_dependencies(done):
            self._sums.assign(tf.zeros_like(self._sums))
        self._meter.waits([began], done)
        return total, self._meter.total()
