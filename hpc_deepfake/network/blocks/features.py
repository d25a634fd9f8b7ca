"""A training pass of both blocks, and its gradient: the operations, called in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from hpc_deepfake.network.batchnorm import EPSILON, Statistics
from hpc_deepfake.network.blocks.library import loaded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpc_deepfake.network.base import Pass


def features(pictures: tf.Tensor, size: int, weights: Sequence[Sequence[tf.Variable]],
             how: Pass) -> tuple[tf.Tensor, list[Statistics]]:
    """A training pass of both blocks.

    Args:
        pictures: uint8 (n, size, size, 3).
        size: their width and height, pixels.
        weights: kernel and bias, gamma and beta of the first block, and of the second one; float32.
        how: with the types float32 or bfloat16 of what is computed.

    Returns:
        (n, s, s, 64) with s = ((size - 2) // 2 - 2) // 2, in ``how.compute``, and the statistics of
        both normalisations, float32.
    """
    @tf.custom_gradient
    def both(pictures: tf.Tensor, *values: tf.Tensor) -> tuple[Any, Any]:
        with tf.name_scope("block1"):
            first = _First(pictures, values[:4], how, (size - 2) ** 2)
        with tf.name_scope("block2"):
            kind = _Second if how.compute == tf.float32 else _SecondApart
            second = kind(first, values[4:], how, ((size - 2) // 2 - 2) ** 2)
            y = second.normal.of(second.pooled)

        def gradient(dy: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor | None, ...]:
            # named as TensorFlow names gradients
            with tf.name_scope("gradient_tape/block2"):
                of_second, dy = second.gradient(dy)
            with tf.name_scope("gradient_tape/block1"):
                of_first, _ = first.gradient(dy)
            return (None, *of_first, *of_second)

        return (y, *first.normal.statistics, *second.normal.statistics), gradient

    y, *statistics = both(pictures, *(tf.convert_to_tensor(value) for part in weights
                                      for value in part))
    side = ((size - 2) // 2 - 2) // 2
    y.set_shape((None, side, side, weights[-1][0].shape[0]))
    first, second = statistics[:2], statistics[2:]
    return y, [Statistics(*map(tf.stop_gradient, pair)) for pair in (first, second)]


class _Normal:
    """The normalisation of a block: over this rank's rows, or with ``--sync-bn`` over all ranks'.

    Attributes:
        given: centre, scale and shift by channel, with which an operation normalises.
        statistics: mean and uncorrected variance.
    """

    def __init__(self, name: str, sums: tf.Tensor, count: tf.Tensor, gamma: tf.Tensor,
                 beta: tf.Tensor, how: Pass) -> None:
        self._name, self._how = name, how
        self._present = tf.cast(how.present, tf.float64) if how.sync_bn else 1.0
        channels = gamma.shape[0]
        sums.set_shape((2, channels))
        total = self._reduced(tf.concat([[count], tf.reshape(sums, [-1])], 0) * self._present,
                              "forward")
        count, mean, squares = tf.split(total, [1, channels, channels])
        self._count = tf.maximum(count, 1)  # 0 if the micro-batch is empty on all ranks
        mean = mean / self._count
        variance = squares / self._count - tf.square(mean)
        self._inverse = tf.math.rsqrt(variance + EPSILON)
        self._factor = tf.cast(gamma, tf.float64) * self._inverse
        self.given = (tf.cast(mean, tf.float32), tf.cast(self._factor, tf.float32), beta)
        self.statistics = (self.given[0], tf.cast(variance, tf.float32))

    def of(self, x: tf.Tensor) -> tf.Tensor:
        """x, normalised."""
        centre, scale, shift = self.given
        return _operation("normalise", x=x, centre=centre, scale=scale, shift=shift)

    def gradient(self, pooled: tf.Tensor, dy: tf.Tensor) -> tuple[dict[str, tf.Tensor],
                                                                  list[tf.Tensor]]:
        """What the gradient of the block needs of the normalisation's, and the gradients of gamma
        and beta: this rank's share of their sum over the ranks.

        Args:
            pooled: the block's pooled activations.
            dy: gradient of these, normalised.
        """
        sums = _operation("products", x=pooled, dy=dy, centre=self.given[0])
        sums.set_shape((2, self.given[0].shape[0]))
        for_beta, for_gamma = sums[0], sums[1] * self._inverse
        of_beta, of_gamma = tf.split(
            self._reduced(tf.concat([for_beta, for_gamma], 0), "backward") / self._count, 2)
        factor = self._factor * self._present
        parts = {"mean": self.given[0], "factor": factor, "offset": factor * of_beta,
                 "slope": factor * self._inverse * of_gamma}
        return ({name: tf.cast(value, tf.float32) for name, value in parts.items()},
                [tf.cast(for_gamma, tf.float32), tf.cast(for_beta, tf.float32)])

    def _reduced(self, values: tf.Tensor, direction: str) -> tf.Tensor:
        return self._how.allreduce(values, f"{self._name}_{direction}") if self._how.sync_bn \
            else values


class _Block:
    """A block's forward pass, and what its gradient needs of it.

    Attributes:
        normal: its normalisation.
        pooled: activations (n, h // 2, w // 2, channels) before it.
    """

    normal: _Normal
    pooled: tf.Tensor
    place: tf.Tensor

    def gradient(self, dy: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Gradients of kernel, bias, gamma and beta, and that of the block's input; ``dy`` is that
        of its output."""
        raise NotImplementedError


class _First(_Block):
    """Of pictures, bytes."""

    name, inputs = "bn1", False

    def __init__(self, x: Any, values: Sequence[tf.Tensor], how: Pass, pixels: int) -> None:
        self._kernel, bias, gamma, beta = values
        self._x, self._before = self._input(x)
        self._z, self.pooled, self.place, sums = _operation(
            "convolution", x=self._x, kernel=self._kernel, bias=bias, gamma=gamma,
            normalisation=self._before, T=how.compute)
        self.normal = _Normal(self.name, sums, _count(self._x, pixels), gamma, beta, how)

    def _input(self, x: Any) -> tuple[tf.Tensor, Sequence[tf.Tensor]]:
        """The input, and how it is normalised."""
        return x, []

    def gradient(self, dy: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        parts, of_normal = self.normal.gradient(self.pooled, dy)
        d_kernel, d_bias, dx = _operation(
            "convolution_gradient", x=self._x, kernel=self._kernel, z=self._z, dy=dy,
            place=self.place, normalisation=self._before, inputs=self.inputs, **parts)
        d_kernel.set_shape(self._kernel.shape)
        d_bias.set_shape(self._kernel.shape[-1:])
        return [d_kernel, d_bias, *of_normal], dx


class _Second(_First):
    """Of the first block's pooled activations, which it normalises."""

    name, inputs = "bn2", True

    def _input(self, x: _Block) -> tuple[tf.Tensor, Sequence[tf.Tensor]]:
        return x.pooled, x.normal.given


class _SecondApart(_Block):
    """The same with TensorFlow's convolution; only what is behind it is one pass."""

    def __init__(self, first: _Block, values: Sequence[tf.Tensor], how: Pass, pixels: int) -> None:
        kernel, self._bias, gamma, beta = values
        self._x, self._kernel = first.normal.of(first.pooled), tf.cast(kernel, how.compute)
        self._convolved = tf.nn.conv2d(self._x, self._kernel, 1, "VALID")
        self.pooled, self.place, sums = _operation(
            "activation", x=self._convolved, bias=self._bias, gamma=gamma)
        self.normal = _Normal("bn2", sums, _count(self._x, pixels), gamma, beta, how)

    def gradient(self, dy: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        parts, of_normal = self.normal.gradient(self.pooled, dy)
        dz, d_bias = _operation("activation_gradient", x=self._convolved, bias=self._bias, dy=dy,
                                place=self.place, **parts)
        d_bias.set_shape(self._bias.shape)
        apart = {"out_backprop": dz, "strides": [1, 1, 1, 1], "padding": "VALID"}
        d_kernel = tf.raw_ops.Conv2DBackpropFilter(
            input=self._x, filter_sizes=self._kernel.shape, **apart)
        dx = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(self._x), filter=self._kernel, **apart)
        return [tf.cast(d_kernel, tf.float32), d_bias, *of_normal], dx


def _operation(name: str, **arguments: Any) -> Any:
    """Call an operation, with the threads that TensorFlow's have."""
    library = loaded()
    assert library is not None
    return library.call(name, threads=tf.config.threading.get_intra_op_parallelism_threads(),
                        **arguments)


def _count(x: tf.Tensor, pixels: int) -> tf.Tensor:
    """The number of values of a channel, float64, for n pictures of ``pixels`` activations."""
    return tf.cast(tf.shape(x)[0] * pixels, tf.float64)
