"""Local SGD: ranks train independently and average their weights every few steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import tensorflow as tf

from hpc_deepfake.network.batchnorm import update_moving
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.strategies.base import DIVERGED, Batch, Done, R, T
from hpc_deepfake.strategies.layout import Layout
from hpc_deepfake.strategies.sequential import INPUTS
from hpc_deepfake.strategies.sync import Sync

if TYPE_CHECKING:
    import keras
    from mpi4py.MPI import Comm


_LARGE = 1 << 18  # numbers in a weight that is averaged by itself


class LocalSGD(Sync):
    """Local SGD with periodic averaging (Stich 2019; Lin et al. 2020).

    Each rank takes ``sync_every`` optimizer steps on its own shares without waiting. Then all ranks
    average weights, moments and moving statistics, weighted by the rows that each has processed.
    So the ranks differ only within these steps, and after an average the run has one state, which
    is when a checkpoint can be taken. With the same number of ranks a run is reproducible bit for
    bit; elastic averaging (Zhang, Choromanska & LeCun 2015), where each rank meets a central copy
    at its own times, is not. With plain gradient descent and an average after each step, this
    equals ``sync``.
    """

    name = "local-sgd"

    def __init__(self, model: keras.Model, settings: Settings, comm: Comm | None = None,
                 layout: Layout | None = None) -> None:
        super().__init__(model, settings, comm, layout)
        # of this rank since the last average: rows, losses, correct classifications, requests
        self._since = tf.Variable(tf.zeros(4, tf.float64), trainable=False)
        self._first_diverged = tf.Variable(-1, trainable=False, dtype=tf.int64)
        self._steps = self._left = 0

    def deal(self, items: Sequence[T], load: Callable[[T], R],
             first: int) -> Iterator[tuple[int, R | None]]:
        self._left = len(items)
        return super().deal(items, load, first)

    def launch(self, batches: Sequence[Batch], rows: int, step: int, wishes: int = 0) -> Done:
        return self.step(batches, rows, step, wishes)

    def landed(self) -> None:
        """Nothing: what is known of local steps is reported with their average, which is waited
        for, since a checkpoint is taken right after it."""

    def step(self, batches: Sequence[Batch], rows: int, step: int, wishes: int = 0) -> Done:
        own_rows = sum(len(batch.labels) for batch in batches)
        if own_rows:
            self._facts.tell(rows=own_rows, step=step)
            *earlier, last = batches
            for batch in earlier:
                self._hold(*self._inputs(batch))
            self._local(*self._inputs(last))
            self._facts.counted()
        self._steps, self._left = self._steps + 1, self._left - 1
        if self._steps < self.layout.sync_every and self._left:
            return Done()
        steps, self._steps = self._steps, 0
        self._facts.tell(wishes=wishes)
        sums = self._average()
        rows, loss, right, wishes = sums.numpy().tolist()
        if wishes >= DIVERGED and self._first_diverged >= 0:
            self.diverged_at = int(self._first_diverged)
        return Done(steps, round(rows), loss, right, round(wishes), self._read_meter())

    @tf.function(autograph=False, input_signature=INPUTS)
    def _local(self, *batch: tf.Tensor) -> None:
        now = self._facts.now()
        step = tf.cast(now.step, tf.int64)
        parts = self._total(self._parts(*batch), tf.zeros((), tf.float64))
        self.optimizer.apply(self._clip(parts.gradients), step)
        self.weights.constrain()
        update_moving(self.weights.moving, parts.batch, step + 1, self.weights.momenta)
        loss, right, wishes = (tf.cast(value, tf.float64) for value in parts.sums)
        first = self._first_diverged
        first.assign(tf.where((first < 0) & (wishes >= DIVERGED), step, first))
        self._since.assign_add(tf.stack([now.rows, loss, right, wishes]))
        self._facts.count()

    @tf.function(autograph=False, input_signature=())
    def _average(self) -> tf.Tensor:
        """Set all ranks' weights and moments to their mean, weighted by rows.

        Returns:
            The sums over the ranks: rows, losses, correct classifications, requests.
        """
        self._meter = self._new_meter()
        began, zero = self._since.read_value(), tf.zeros((), tf.float64)
        local = began + tf.stack([zero, zero, zero, self._facts.now().wishes])
        total = self._allreduce(local, "sums")
        weight = tf.cast(began[0] / total[0], self._own)
        averaged = [*self.weights.trainable, *self.weights.moving, *self.slots]
        means = [value * weight for value in averaged]
        alone = {place for place, mean in enumerate(means) if mean.shape.num_elements() >= _LARGE}
        small = [mean for place, mean in enumerate(means) if place not in alone]
        rest = self._allreduce(tf.concat([tf.reshape(mean, [-1]) for mean in small], 0), "rest")
        pieces = iter(tf.split(rest, [mean.shape.num_elements() for mean in small]))
        done = []
        for place, (variable, mean) in enumerate(zip(averaged, means, strict=True)):
            if place in alone:
                done.append(variable.assign(self._allreduce(mean, f"weights{place}")))
            else:
                done.append(variable.assign(tf.reshape(next(pieces), mean.shape)))
        self.weights.constrain()  # a mean may leave what is not convex
        with tf.control_dependencies(done):
            self._since.assign(tf.zeros_like(self._since))
        self._meter.waits([began], done)
        self._metered.tell(self._meter.total())
        return total
