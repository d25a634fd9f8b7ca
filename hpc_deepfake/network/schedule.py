"""The schedules of the learning rate."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

import tensorflow as tf

from hpc_deepfake.network.settings import Course, Settings


@dataclass
class Schedule:
    """Learning rate of optimizer step t, counted from 0.

    ``rate·scale`` is multiplied, by the kind of schedule, with

    - inverse-time: 1 / (1 + decay·t), the meaning of ``decay`` in Keras 1 and 2 (Keras 3 ignores
      it);
    - cosine: (1 + cos(π·p)) / 2, where p is the share of all rows of ``epochs`` epochs that is
      done before the step (Loshchilov & Hutter 2017, one period), so that it doesn't depend on the
      number of ranks;
    - step: ``factor`` to the power of the finished epochs, divided by ``epochs`` and rounded down;
    - plateau: ``factor`` for each time that the monitored metric stayed without improvement for
      ``epochs`` epochs; the training loop counts them.

    During the first ``warmup`` steps it rises linearly from ``rate``, what one rank would use,
    where it is scaled with the ranks (Goyal et al. 2017), and else from ``rate/warmup``.

    Attributes:
        rate: initial learning rate.
        decay: decay per step.
        scale: factor for the number of ranks; None: the rate is not scaled with them.
        warmup: number of warm-up steps; 0 for none.
        kind: of the schedule.
        epochs: of ``cosine`` and ``step``.
        factor: of ``step``.
    """

    rate: float
    decay: float = 0.0
    scale: float | None = None
    warmup: int = 0
    kind: str = "inverse-time"
    epochs: int = 0
    factor: float = 1.0

    def __post_init__(self) -> None:
        self._course = Course(0, 0, 0, 1, 1)
        # float64 holds all of its counts exactly; without it the graph is that of earlier versions
        self._variable = None if self.kind == "inverse-time" else tf.Variable(
            tf.constant(astuple(self._course), tf.float64), trainable=False)

    def begin(self, course: Course) -> None:
        """Say where the run is; to be called before each round of steps."""
        self._course = course
        if self._variable is not None:
            self._variable.assign(tf.constant(astuple(course), tf.float64))

    def at(self, step: tf.Tensor) -> tf.Tensor:
        """The rate of a step, an int64 scalar; float64."""
        t = tf.cast(step, tf.float64)
        rate = self.rate * (self.scale or 1.0)
        if self._variable is None:
            rate /= 1 + self.decay * t
        else:
            epochs, rows, first, per_epoch, per_step, factor = tf.unstack(self._variable)
            if self.kind == "plateau":
                rate *= factor
            elif self.kind == "step":
                rate *= tf.pow(tf.constant(self.factor, tf.float64), epochs // self.epochs)
            else:
                done = epochs + (rows + (t - first) * per_step) / per_epoch
                rate *= (1 + tf.cos(math.pi * tf.minimum(done / self.epochs, 1))) / 2
        if not self.warmup:
            return rate
        if self.scale is None:
            return rate * tf.minimum((t + 1) / self.warmup, 1)
        start = 1 / self.scale
        return rate * (start + (1 - start) * tf.minimum(t / self.warmup, 1))

    def number(self, step: int) -> float:
        """``at``, without TensorFlow."""
        rate, course = self.rate * (self.scale or 1.0), self._course
        if self.kind == "inverse-time":
            rate /= 1 + self.decay * step
        elif self.kind == "plateau":
            rate *= course.factor
        elif self.kind == "step":
            rate *= self.factor ** (course.epochs // self.epochs)
        else:
            rows = course.rows + (step - course.step) * course.per_step
            done = course.epochs + rows / course.per_epoch
            rate *= (1 + math.cos(math.pi * min(done / self.epochs, 1))) / 2
        if not self.warmup:
            return rate
        if self.scale is None:
            return rate * min((step + 1) / self.warmup, 1)
        start = 1 / self.scale
        return rate * (start + (1 - start) * min(step / self.warmup, 1))


def schedule_of(settings: Settings, shares: int) -> Schedule:
    """The learning rates of the settings on ``shares`` data parallel shares."""
    return Schedule(settings.learning_rate, settings.decay, settings.rate_scale(shares),
                    settings.warmup_steps, settings.rate_schedule, settings.epochs_of_rate,
                    settings.rate_factor)
