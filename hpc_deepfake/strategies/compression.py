"""``--compression fp16``: the gradient of the large dense kernel as float16."""

from __future__ import annotations

import tensorflow as tf

# float16 has 6e-8 as its smallest and 65,504 as its largest number, and gradients of the large
# kernel are well below 1
_SCALE = 1024.0


def to_half(gradient: tf.Tensor) -> tf.Tensor:
    """A float16 tensor to send."""
    return tf.cast(gradient * _SCALE, tf.float16)


def from_half(values: tf.Tensor, kind: tf.DType) -> tf.Tensor:
    """The gradient, or the sum of gradients, that ``to_half`` scaled, as a tensor of ``kind``."""
    return tf.cast(values, kind) / _SCALE
