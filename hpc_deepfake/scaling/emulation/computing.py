"""Measures a real step of one rank, by its parts."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

import numpy as np
import tensorflow as tf

from hpc_deepfake.network import device, registry
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.scaling.emulation.plan import Compute
from hpc_deepfake.strategies.base import Batch
from hpc_deepfake.strategies.mesh import measured
from hpc_deepfake.strategies.meter import clock
from hpc_deepfake.strategies.sequential import Parts, Sequential

_WARM, _STEPS = 3, 15
_MARKS = ("begin", "features", "product", "kernel", "gradients")


class _Clocked(Sequential):
    """Reads the clock within a step.

    Attributes:
        marks: float64 (5), the times of ``_MARKS`` of the last step.
    """

    def __init__(self, rows: int, size: int) -> None:
        self._clocks: dict[str, tf.Tensor] = {}
        self.marks = tf.Variable(tf.zeros(len(_MARKS), tf.float64), trainable=False)
        settings = Settings(batch_size=rows)
        super().__init__(registry.build(settings.network, size), settings)

    def _parts(self, *inputs: tf.Tensor) -> Parts:
        self._clocks["begin"] = clock([inputs[1]])
        return super()._parts(*inputs)

    def _product(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        self._clocks["features"] = clock([x])
        with tf.control_dependencies([self._clocks["features"]]):
            product = super()._product(tf.identity(x), kernel)
        self._clocks["product"] = clock([product])
        return product

    def _reduce(self, parts: Parts) -> Parts:
        kernel = next(gradient for gradient, variable in zip(
            parts.gradients, self.weights.trainable, strict=True)
            if variable is self.weights.large)
        self._clocks["kernel"] = clock([kernel])
        self._clocks["gradients"] = clock(parts.gradients)
        self.marks.assign(tf.stack([self._clocks[name] for name in _MARKS]))
        with tf.control_dependencies([self._clocks["gradients"]]):  # then comes the update
            return parts._replace(gradients=[tf.identity(value) for value in parts.gradients])


def measure(rows: int, size: int) -> Compute:
    """Seconds of a training step's parts on one rank with one thread, medians.

    Args:
        rows: of a step.
        size: width and height of the pictures.
    """
    device.start("cpu", threads=1)
    strategy = _Clocked(rows, size)
    strategy.load(None)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (rows, size, size, 3), np.uint8)
    labels = rng.integers(0, 2, rows).astype(np.uint8)
    parts: list[tuple[float, ...]] = []
    for number in range(_WARM + _STEPS):
        strategy.step([Batch(pictures, labels, np.array([0, number], np.int32))], rows, number, 0)
        strategy.settle({})
        end = time.time()  # the clock of ``tf.timestamp``
        begin, features, product, kernel, gradients = strategy.marks.numpy().tolist()
        parts.append((features - begin, product - features, kernel - product, gradients - kernel,
                      end - gradients))
    forward, product, later, backward, update = (
        statistics.median(values) for values in zip(*parts[_WARM:], strict=True))
    # two products of the same size follow: the kernel's gradient, then that of the features
    fused = Compute(forward, product, max(later - product, 0.0), max(backward - product, 0.0),
                    update)
    _, apart = measured.costs(Settings().network, size, rows)
    return replace(fused, apart=sum(apart) / 1e3 / (fused.total - update))
