"""Batch normalisation (Ioffe & Szegedy 2015) for training: fused, or synchronised over the ranks.

Both normalise float (n, h, w, c) over all but the last axis and return the batch's statistics. The
caller reduces these together with the gradients and updates the moving statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

MOMENTUM = 0.99  # of the moving statistics, and epsilon, as in Keras
EPSILON = 1e-3

# sums a float64 tensor over the ranks, under a name that is the same on all ranks
AllReduce = Callable[[tf.Tensor, str], tf.Tensor]


class Statistics(NamedTuple):
    """Mean and uncorrected variance over a batch, (c) each."""

    mean: tf.Tensor
    variance: tf.Tensor


class Normalise(Protocol):
    """Batch normalisation of a pass."""

    def __call__(self, x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, name: str,
                 epsilon: float = EPSILON) -> tuple[tf.Tensor, Statistics]:
        """Normalised x and the statistics, for the layer ``name``."""


def fused(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor,
          epsilon: float = EPSILON) -> tuple[tf.Tensor, Statistics]:
    """With TensorFlow's fused operation, each rank over its own rows; x float32 or bfloat16.

    Keras 3 computes this layer in separate elementwise operations, four times as slow on a CPU.
    """
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=(), variance=(), epsilon=epsilon, is_training=True)
    count = rows_of(x, variance.dtype) * (x.shape[1] * x.shape[2])
    # the operation returns the Bessel-corrected variance; Keras uses the uncorrected one
    return y, Statistics(tf.stop_gradient(mean), tf.stop_gradient(variance * (1 - 1 / count)))


def synchronised(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, present: tf.Tensor | float,
                 allreduce: AllReduce, name: str,
                 epsilon: float = EPSILON) -> tuple[tf.Tensor, Statistics]:
    """Over the rows of all ranks; if ``present`` is 0, this rank's rows are ignored.

    There is one reduction forward (count, mean and squares) and one backward (the two sums of the
    gradient), in float64. The gradients of gamma and beta are this rank's share of the sum over the
    ranks, like those of all other weights.
    """
    channels = x.shape[-1]

    @tf.custom_gradient
    def normalise(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tuple[Any, ...]:
        rows = rows_of(x, tf.float64) * (x.shape[1] * x.shape[2])
        local = _sum(x) / rows
        squares = _sum(tf.square(x - tf.cast(local, x.dtype)))
        share = tf.concat([[rows], rows * local, squares + rows * tf.square(local)], 0)
        total = allreduce(share * tf.cast(present, tf.float64), f"{name}_forward")
        count, mean, variance = tf.split(total, [1, channels, channels])
        count = tf.maximum(count, 1)  # 0 if the micro-batch is empty on all ranks
        mean = mean / count
        variance = variance / count - tf.square(mean)
        scale = tf.cast(tf.math.rsqrt(variance + epsilon), x.dtype)
        normal = (x - tf.cast(mean, x.dtype)) * scale

        def gradient(upstream: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, ...]:
            for_beta, for_gamma = _sum(upstream), _sum(upstream * normal)
            sums = allreduce(tf.concat([for_beta, for_gamma], 0), f"{name}_backward")
            of_beta, of_gamma = tf.split(tf.cast(sums / count, x.dtype), 2)
            for_x = upstream - of_beta - normal * of_gamma
            return (gamma * scale * for_x * tf.cast(present, x.dtype),
                    tf.cast(for_gamma, gamma.dtype), tf.cast(for_beta, beta.dtype))

        statistics = [tf.cast(value, gamma.dtype) for value in (mean, variance)]
        return (normal * gamma + beta, *statistics), gradient

    y, mean, variance = normalise(x, gamma, beta)
    return y, Statistics(tf.stop_gradient(mean), tf.stop_gradient(variance))


def normaliser(own: tf.DType, sync: bool, present: tf.Tensor, allreduce: AllReduce) -> Normalise:
    """The batch normalisation of a training pass.

    Args:
        own: type of the weights.
        sync: normalise over the micro-batch of all ranks (``--sync-bn``).
        present: as for ``synchronised``.
        allreduce: as for ``synchronised``.
    """
    def normalise(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, name: str,
                  epsilon: float = EPSILON) -> tuple[tf.Tensor, Statistics]:
        if sync:
            y, statistics = synchronised(tf.cast(x, own), gamma, beta, present, allreduce, name,
                                         epsilon)
            return tf.cast(y, x.dtype), statistics
        if own == tf.float64:  # the fused operation does not support it
            return synchronised(x, gamma, beta, 1, lambda value, _: value, name, epsilon)
        return fused(x, gamma, beta, epsilon)

    return normalise


def by_moving(moving: Mapping[str, Statistics]) -> Normalise:
    """Normalisation by the moving statistics of each layer, by name, as in validation."""
    def normalise(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, name: str,
                  epsilon: float = EPSILON) -> tuple[tf.Tensor, Statistics]:
        statistics = moving[name]
        return tf.nn.batch_normalization(x, *statistics, beta, gamma, epsilon), statistics

    return normalise


def some_frozen(normalise: Normalise, frozen: Mapping[str, Statistics]) -> Normalise:
    """``normalise``, but by the moving statistics in the layers that are frozen."""
    if not frozen:
        return normalise
    by_theirs = by_moving(frozen)

    def either(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, name: str,
               epsilon: float = EPSILON) -> tuple[tf.Tensor, Statistics]:
        if name not in frozen:
            return normalise(x, gamma, beta, name, epsilon)
        y, statistics = by_theirs(tf.cast(x, gamma.dtype), gamma, beta, name, epsilon)
        return tf.cast(y, x.dtype), statistics

    return either


def rows_of(x: tf.Tensor, kind: tf.DType) -> tf.Tensor:
    """The length of the first axis, as a scalar of ``kind``. It is counted by the device: a cast of
    the shape, which is on the host, would wait for a GPU."""
    return tf.reduce_sum(tf.ones(tf.shape(x)[:1], kind))


def _sum(x: tf.Tensor) -> tf.Tensor:
    """Over all but the last axis; float64. A sequential float32 sum of 10⁶ terms would be accurate
    to four digits only, so only the pixels of one row are summed in the type of ``x``."""
    return tf.reduce_sum(tf.cast(tf.reduce_sum(x, 2), tf.float64), [0, 1])


def update_moving(moving: Sequence[tf.Variable], batch: Sequence[tf.Tensor], step: tf.Tensor,
                  momenta: Sequence[float] | None = None) -> None:
    """Move the moving statistics towards those of a batch, without bias from their initial values,
    which Keras' fixed 0.99 needs thousands of steps to forget: more than a run on many ranks has.

    Args:
        moving: the statistics.
        batch: those of the batch.
        step: its number, from 1.
        momenta: largest momentum of each, for a deep network; None: 0.99, for a shallow one.

    The momentum of a shallow network is ``min(0.99, 1 - 1/step)``: a plain mean at first. In a deep
    one the statistics of each layer follow the weights of all layers before it, and a mean since
    the first step lags behind; there it is ``min(M, step / (step + 9))``, a mean of about the last
    tenth of the steps.
    """
    t = tf.cast(step, tf.float64)
    mean = 1 - 1 / t if momenta is None else t / (t + 9)
    for variable, value, most in zip(moving, batch, momenta or [MOMENTUM] * len(moving),
                                     strict=True):
        momentum = tf.minimum(tf.constant(most, tf.float64), mean)
        variable.assign_add((value - variable) * tf.cast(1 - momentum, variable.dtype))
