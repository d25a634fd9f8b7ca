"""The optimizers, with one fused operation per variable where TensorFlow has one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from hpc_deepfake.network.schedule import Schedule, schedule_of
from hpc_deepfake.network.settings import Settings

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-7  # Keras' defaults

# Whether a variable's weights decay; of a flat piece of several variables, 1 for each number that
# does and 0 for the others
Decays = bool | np.ndarray
# From the sums of squares of what this rank holds of each variable, float64 (2, variables), to
# those of the whole variables
Whole = Callable[[tf.Tensor], tf.Tensor]


class Extras(NamedTuple):
    """What the options add to an optimizer.

    Attributes:
        momentum: of ``SGD``.
        nesterov: Nesterov's form of it.
        weight_decay: per step, times the learning rate.
        decays: for each variable, what of it decays; empty: as ``decaying``.
        ema: decay of the averaged weights; 0: none are kept.
        whole: for ``LAMB`` on ranks that hold shards.
    """

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    decays: Sequence[Decays] = ()
    ema: float = 0.0
    whole: Whole | None = None


class Optimizer:
    """Updates variables, and keeps state of the same shapes.

    With ``ema`` D, the averages a of the weights w after each step are a·d + w·(1 - d) (Polyak &
    Juditsky 1992, with the weights of an exponential moving average), with d = 0 in the first step
    and min(D, (1 + t) / (10 + t)) after t more, TensorFlow's remedy for the start.

    Attributes:
        variables: to update.
        schedule: of the learning rate.
        slots: the state in addition to the variables and the step: copies of zeros at first, one
            for each variable, one set of copies after the other; the averages are the last.
    """

    copies = 0  # of the variables in the state

    def __init__(self, variables: Sequence[tf.Variable], schedule: Schedule,
                 extras: Extras | None = None) -> None:
        self.variables, self.schedule = list(variables), schedule
        self._extras = extras or Extras()
        self._decays = list(self._extras.decays) or [decaying(variable) for variable in variables]
        self._state = [[tf.Variable(tf.zeros_like(variable), trainable=False)
                        for variable in variables] for _ in range(self._count())]
        self.slots: list[tf.Variable] = [slot for copy in self._state for slot in copy]

    def _count(self) -> int:
        return self.copies + bool(self._extras.ema)

    def apply(self, gradients: Sequence[tf.Tensor], step: tf.Tensor,
              factor: tf.Tensor | float = 1.0) -> None:
        """Update the variables with the gradients of step ``step`` (int64 scalar, from 0), at
        ``factor`` (float64 scalar) times the schedule's rate."""
        with tf.name_scope("optimizer"):
            rate = self.schedule.at(step) * factor
            self._update(gradients, step, rate)
            if self._extras.ema:
                self._average(step)

    def _update(self, gradients: Sequence[tf.Tensor], step: tf.Tensor, rate: tf.Tensor) -> None:
        raise NotImplementedError

    def _decay(self, rate: tf.Tensor) -> None:
        """Decoupled weight decay (Loshchilov & Hutter 2019): w -= rate · decay · w, before the
        update, whose gradients belong to the weights before it."""
        if not self._extras.weight_decay:
            return
        for variable, decays in zip(self.variables, self._decays, strict=True):
            by = tf.cast(rate * self._extras.weight_decay, variable.dtype)
            if decays is True:
                tf.raw_ops.ResourceApplyGradientDescent(
                    var=variable.handle, alpha=by, delta=variable.read_value())
            elif decays is not False:
                variable.assign_sub(by * tf.constant(decays, variable.dtype) * variable)

    def _average(self, step: tf.Tensor) -> None:
        t = tf.cast(step, tf.float64)
        keep = tf.minimum(tf.constant(self._extras.ema, tf.float64), t / (t + 9))
        for variable, average in zip(self.variables, self._state[-1], strict=True):
            tf.raw_ops.ResourceApplyGradientDescent(
                var=average.handle, alpha=tf.cast(1 - keep, variable.dtype),
                delta=average - variable)

    def swap(self) -> None:
        """Exchange the variables and their averages, for evaluation, and back again."""
        for variable, average in zip(self.variables, self._state[-1], strict=True):
            value = tf.identity(variable)
            variable.assign(average)
            average.assign(value)


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015); with ``weight_decay``, AdamW (Loshchilov & Hutter 2019)."""

    copies = 2

    def _update(self, gradients: Sequence[tf.Tensor], step: tf.Tensor, rate: tf.Tensor) -> None:
        count = tf.cast(step + 1, tf.float64)
        # tf.cast would take a Python number to float32 first
        constants = [tf.constant(value, tf.float64) for value in (BETA1, BETA2, EPSILON)]
        powers = [tf.pow(beta, count) for beta in constants[:2]]
        self._decay(rate)
        for variable, first, second, gradient in zip(
                self.variables, *self._state[:2], gradients, strict=True):
            power1, power2, lr, beta1, beta2, epsilon = (
                tf.cast(value, variable.dtype) for value in (*powers, rate, *constants))
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle, m=first.handle, v=second.handle, grad=gradient,
                beta1_power=power1, beta2_power=power2, lr=lr, beta1=beta1, beta2=beta2,
                epsilon=epsilon)


class SGD(Optimizer):
    """Gradient descent: plain, for comparing strategies, since it does not hide small differences,
    or with momentum (Polyak 1964; Nesterov 1983 in the form of Sutskever et al. 2013)."""

    def _count(self) -> int:
        return super()._count() + bool(self._extras.momentum)

    def _update(self, gradients: Sequence[tf.Tensor], step: tf.Tensor, rate: tf.Tensor) -> None:
        self._decay(rate)
        if self._extras.momentum:
            self._with_momentum(gradients, rate)
            return
        for variable, gradient in zip(self.variables, gradients, strict=True):
            tf.raw_ops.ResourceApplyGradientDescent(
                var=variable.handle, alpha=tf.cast(rate, variable.dtype), delta=gradient)

    def _with_momentum(self, gradients: Sequence[tf.Tensor], rate: tf.Tensor) -> None:
        momentum = tf.constant(self._extras.momentum, tf.float64)
        for variable, velocity, gradient in zip(
                self.variables, self._state[0], gradients, strict=True):
            tf.raw_ops.ResourceApplyKerasMomentum(
                var=variable.handle, accum=velocity.handle, lr=tf.cast(rate, variable.dtype),
                grad=gradient, momentum=tf.cast(momentum, variable.dtype),
                use_nesterov=self._extras.nesterov)


class LAMB(Optimizer):
    """LAMB (You et al. 2020, algorithm 2): Adam's step, with the weight decay in it, scaled in each
    variable to the norm of the variable. The learning rate is then a relative change of each.

    A variable or step of norm 0 isn't scaled. TensorFlow has no fused operation for it.
    """

    copies = 2

    def _update(self, gradients: Sequence[tf.Tensor], step: tf.Tensor, rate: tf.Tensor) -> None:
        count = tf.cast(step + 1, tf.float64)
        beta1, beta2, epsilon = (tf.constant(value, tf.float64)
                                 for value in (BETA1, BETA2, EPSILON))
        updates = []
        for variable, first, second, gradient, decays in zip(
                self.variables, *self._state[:2], gradients, self._decays, strict=True):
            one, two, unbiased1, unbiased2, small, decay = (
                tf.cast(value, variable.dtype) for value in (
                    1 - beta1, 1 - beta2, 1 - tf.pow(beta1, count), 1 - tf.pow(beta2, count),
                    epsilon, tf.constant(self._extras.weight_decay, tf.float64)))
            mean = first.assign_add((gradient - first) * one, read_value=True)
            square = second.assign_add((tf.square(gradient) - second) * two, read_value=True)
            update = mean / unbiased1 / (tf.sqrt(square / unbiased2) + small)
            if self._extras.weight_decay and decays is not False:
                update += decay * variable
            updates.append(update)
        for variable, update, ratio in zip(self.variables, updates,
                                           tf.unstack(self._ratios(updates)), strict=True):
            variable.assign_sub(tf.cast(rate * ratio, variable.dtype) * update)

    def _ratios(self, updates: Sequence[tf.Tensor]) -> tf.Tensor:
        """Norm of each variable, divided by that of its update; float64 (variables)."""
        squares = tf.stack([tf.stack([2 * tf.cast(tf.nn.l2_loss(value), tf.float64)
                                      for value in values])
                            for values in (self.variables, updates)])
        if self._extras.whole is not None:
            squares = self._extras.whole(squares)
        own, update = tf.unstack(tf.sqrt(squares))
        return tf.where((own > 0) & (update > 0), own / tf.where(update > 0, update, 1), 1)


OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": Adam, "adamw": Adam, "sgd": SGD, "lamb": LAMB}


def optimizer_of(settings: Settings, variables: Sequence[tf.Variable], shares: int,
                 decays: Sequence[Decays] | None = None, whole: Whole | None = None) -> Optimizer:
    """The optimizer of the settings.

    Args:
        settings: the run's.
        variables: to update: the weights, shards or flat pieces of them.
        shares: number of data parallel shares.
        decays: for each variable, what of it decays with ``--weight-decay``; None: as ``decaying``.
        whole: sums squares over the ranks that hold shards of the same variables.
    """
    return OPTIMIZERS[settings.optimizer](variables, schedule_of(settings, shares), Extras(
        settings.momentum, settings.nesterov, settings.decay_of_weights, decays or (),
        settings.ema, whole))


def decaying(variable: tf.Variable) -> bool:
    """Whether weight decay is for this variable: for kernels, not for biases and the scales and
    offsets of normalisations, which have one axis."""
    return len(variable.shape) > 1


def decay_mask(variables: Sequence[tf.Variable]) -> np.ndarray:
    """``decaying`` for each number of ``variables``, laid out flat one after the other."""
    return np.concatenate([np.zeros(0), *(np.full(variable.shape.num_elements(), decaying(variable))
                                          for variable in variables)])
