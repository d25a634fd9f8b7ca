"""What the blocks of a network cost on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import tensorflow as tf

from hpc_deepfake.network import registry
from hpc_deepfake.network.base import Pass
from hpc_deepfake.network.batchnorm import fused
from hpc_deepfake.network.general import General
from hpc_deepfake.network.shapes import Shapes
from hpc_deepfake.strategies.mesh import chain, layers, shards
from hpc_deepfake.strategies.mesh.cut import Line, of_table
from hpc_deepfake.strategies.mesh.regions import Group

_REPEATS = 5  # runs, of which the median is taken


def costs(network: str, size: int, rows: int) -> tuple[Line, tuple[float, ...]]:
    """The blocks of a network, and measured milliseconds of each, forward and backward, on
    TensorFlow's current device.

    Args:
        network: as ``--network``.
        size: width and height of the pictures, pixels.
        rows: number of pictures.

    Raises:
        InputError: there is no such network.
    """
    pictures = tf.cast(tf.random.uniform((rows, size, size, 3), 0, 256, tf.int32), tf.uint8)
    if network == "table":
        return of_table(Shapes(size)), _of_table(Shapes(size), pictures)
    x = tf.cast(pictures, tf.float32)
    blocks = chain.blocks(registry.build(network, size))
    milliseconds = []
    for place, block in enumerate(blocks):
        part = General(chain.part([block]), last=False)
        x = x if place == 0 else tf.random.normal((rows, *block.begins.shape[1:]))
        how = Pass(tf.float32, None, False, tf.ones(()), lambda value, _: value)

        def forward(x: tf.Tensor, part: General = part, how: Pass = how) -> tf.Tensor:
            return part.run(x, tf.zeros(2, tf.int32), how)[0]

        milliseconds.append(_median(forward, x, part.trainable, place > 0))
    return chain.line(blocks), tuple(milliseconds)


def _of_table(shapes: Shapes, pictures: tf.Tensor) -> tuple[float, ...]:
    weights = {parameter.name: tf.Variable(tf.random.normal(parameter.shape, stddev=0.05))
               for parameter in shards.parameters(shapes=shapes)}
    how = layers.Pass(Group(), "row", tf.float32, tf.float32,
                      lambda x, gamma, beta, *_: fused(x, gamma, beta))
    milliseconds = []
    for place, block in enumerate(shards.BLOCKS):
        own = [value for name, value in weights.items()
               if name.startswith(f"{block}/") and not name.endswith(("/mean", "/variance"))]
        x = tf.random.normal((len(pictures), *shapes.outputs[shards.BLOCKS[place - 1]])) \
            if place else pictures

        def forward(x: tf.Tensor, block: str = block) -> tf.Tensor:
            return layers.stage((block,), x, weights, how)[0]

        milliseconds.append(_median(forward, x, own, place > 0))
    return tuple(milliseconds)


def _median(forward: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, own: list[tf.Variable],
            further: bool) -> float:
    """Milliseconds of a forward and a backward pass; ``further``: with the gradient of ``x``."""
    @tf.function(autograph=False)
    def both(x: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            if further:
                tape.watch(x)
            y = forward(x)
        found = tape.gradient(y, [*own, *[x] * further])
        return [y, *(gradient for gradient in found if gradient is not None)]

    seconds = []
    for _ in range(_REPEATS + 1):
        began = time.perf_counter()
        both(x)[0].numpy()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:]) * 1e3
