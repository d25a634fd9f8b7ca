"""``--compression fp16``: the gradient of the large dense kernel as float16.

float16 has few exponents: from 6e-5, with full precision, to 65,504. So each gradient is multiplied
by a power of two, which rounds nothing, chosen anew in each step from the gradients themselves: the
sum over the ranks of their largest numbers bounds every sum, and is brought just below half of
float16's range. So no step overflows, at any number of ranks and after any jump of the gradient.
With a scale that is kept and adjusted (dynamic loss scaling, Micikevicius et al. 2018) some steps
overflow and are skipped, and a checkpoint has to hold the scale.
"""

from __future__ import annotations

import tensorflow as tf

_EXPONENT = 14  # of the scaled bound, which is then below 2**15


def largest(gradient: tf.Tensor) -> tf.Tensor:
    """The largest absolute number; float32 scalar."""
    return tf.cast(tf.maximum(tf.reduce_max(gradient), -tf.reduce_min(gradient)), tf.float32)


def scale(bound: tf.Tensor) -> tf.Tensor:
    """The power of two that brings ``bound``, a float32 scalar, between 2**14 and 2**15; float32.

    It is computed from the number's bits, so that all ranks get the same one on any processor.
    """
    # in int64, since GPUs have no kernels for arithmetic in int32
    bits = tf.cast(tf.bitcast(bound, tf.int32), tf.int64)
    exponent = tf.bitwise.right_shift(bits, tf.constant(23, tf.int64)) - 127
    power = tf.clip_by_value(_EXPONENT - exponent, -126, 126)
    bits = tf.bitwise.left_shift(power + 127, tf.constant(23, tf.int64))
    return tf.bitcast(tf.cast(bits, tf.int32), tf.float32)


def to_half(gradient: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """A float16 tensor to send."""
    return tf.cast(gradient * tf.cast(scale, gradient.dtype), tf.float16)


def add_halves(halves: tf.Tensor, kind: tf.DType) -> tf.Tensor:
    """The sum of the ranks' tensors, float16 (ranks, n), again as float16.

    It is taken in ``kind``. In float16 each addition would round: with a thousand ranks by 3%, and
    always in the same direction where their gradients are alike.
    """
    return tf.cast(tf.reduce_sum(tf.cast(halves, kind), 0), tf.float16)


def from_half(values: tf.Tensor, scale: tf.Tensor, kind: tf.DType) -> tf.Tensor:
    """The gradient, or the sum of gradients, that ``to_half`` scaled, as a tensor of ``kind``."""
    return tf.cast(values, kind) / tf.cast(scale, kind)
