"""The optimizers, with one fused operation per variable, and the schedule of the learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from hpc_deepfake.network.settings import Settings

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-7  # Keras' defaults


@dataclass(frozen=True)
class Schedule:
    """Learning rate of optimizer step t, counted from 0.

    It is ``rate·scale / (1 + decay·t)``, the meaning of ``decay`` in Keras 1 and 2 (Keras 3 ignores
    it). During the first ``warmup`` steps it rises linearly from ``rate``, what one rank would use,
    where it is scaled with the ranks (Goyal et al. 2017), and else from ``rate/warmup``.

    Attributes:
        rate: initial learning rate.
        decay: decay per step.
        scale: factor for the number of ranks; None: the rate is not scaled with them.
        warmup: number of warm-up steps; 0 for none.
    """

    rate: float
    decay: float = 0.0
    scale: float | None = None
    warmup: int = 0

    def at(self, step: tf.Tensor) -> tf.Tensor:
        """The rate of a step, an int64 scalar; float64."""
        t = tf.cast(step, tf.float64)
        rate = self.rate * (self.scale or 1.0) / (1 + self.decay * t)
        if not self.warmup:
            return rate
        if self.scale is None:
            return rate * tf.minimum((t + 1) / self.warmup, 1)
        start = 1 / self.scale
        return rate * (start + (1 - start) * tf.minimum(t / self.warmup, 1))

    def number(self, step: int) -> float:
        """``at``, without TensorFlow."""
        rate = self.rate * (self.scale or 1.0) / (1 + self.decay * step)
        if not self.warmup:
            return rate
        if self.scale is None:
            return rate * min((step + 1) / self.warmup, 1)
        start = 1 / self.scale
        return rate * (start + (1 - start) * min(step / self.warmup, 1))


class Adam:
    """Adam (Kingma & Ba 2015)."""

    def __init__(self, variables: Sequence[tf.Variable], schedule: Schedule) -> None:
        self.variables, self.schedule = list(variables), schedule
        self.first = [tf.Variable(tf.zeros_like(v), trainable=False) for v in variables]
        self.second = [tf.Variable(tf.zeros_like(v), trainable=False) for v in variables]

    @property
    def slots(self) -> list[tf.Variable]:
        """The state in addition to the variables and the step."""
        return [*self.first, *self.second]

    def apply(self, gradients: Sequence[tf.Tensor], step: tf.Tensor,
              factor: tf.Tensor | float = 1.0) -> None:
        """Update the variables with the gradients of step ``step`` (int64 scalar, from 0), at
        ``factor`` (float64 scalar) times the schedule's rate."""
        rate = self.schedule.at(step) * factor
        count = tf.cast(step + 1, tf.float64)
        # tf.cast would take a Python number to float32 first
        constants = [tf.constant(value, tf.float64) for value in (BETA1, BETA2, EPSILON)]
        powers = [tf.pow(beta, count) for beta in constants[:2]]
        for variable, first, second, gradient in zip(
                self.variables, self.first, self.second, gradients, strict=True):
            power1, power2, lr, beta1, beta2, epsilon = (
                tf.cast(value, variable.dtype) for value in (*powers, rate, *constants))
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle, m=first.handle, v=second.handle, grad=gradient,
                beta1_power=power1, beta2_power=power2, lr=lr, beta1=beta1, beta2=beta2,
                epsilon=epsilon)


class SGD:
    """Plain gradient descent, for comparing strategies: it does not hide small differences."""

    slots: Sequence[tf.Variable] = ()

    def __init__(self, variables: Sequence[tf.Variable], schedule: Schedule) -> None:
        self.variables, self.schedule = list(variables), schedule

    def apply(self, gradients: Sequence[tf.Tensor], step: tf.Tensor,
              factor: tf.Tensor | float = 1.0) -> None:
        """As ``Adam.apply``."""
        rate = self.schedule.at(step) * factor
        for variable, gradient in zip(self.variables, gradients, strict=True):
            tf.raw_ops.ResourceApplyGradientDescent(
                var=variable.handle, alpha=tf.cast(rate, variable.dtype), delta=gradient)


Optimizer = Adam | SGD
OPTIMIZERS: dict[str, type[Adam] | type[SGD]] = {"adam": Adam, "sgd": SGD}


def optimizer_of(settings: Settings, variables: Sequence[tf.Variable], shares: int) -> Optimizer:
    """The optimizer of the settings for ``variables``, on ``shares`` data parallel shares."""
    return OPTIMIZERS[settings.optimizer](variables, schedule_of(settings, shares))


def schedule_of(settings: Settings, shares: int) -> Schedule:
    """The learning rates of the settings on ``shares`` data parallel shares."""
    return Schedule(settings.learning_rate, settings.decay, settings.rate_scale(shares),
                    settings.warmup_steps)
