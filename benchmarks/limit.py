"""The fastest that a training step can be on this machine: operations and bytes of each layer,
counted from the model, and the rates of matrix products and of memory, measured.

A group of operations takes at least as long as its floating-point operations at the rate of the
largest matrix products, and as its bytes at the rate of memory (the roofline of Williams, Waterman
& Patterson 2009). The bytes are those of layers computed one after the other: each reads what it
needs from memory and writes its results there, once, but for batch normalisation, which has to know
the statistics of all that it reads before it normalises any of it, and so reads it twice.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from hpc_deepfake.networks import cost

MATRIX = 2048  # rows and columns of the products
COPIED = 64 << 20  # bytes; the largest tensor of a step has as many
# The compiled operations' group of each layer that they compute
BLOCKS = {"rescaling": "block1", "conv1": "block1", "bn1": "block1", "pool1": "block1",
          "conv2": "block2", "bn2": "block2", "pool2": "block2"}
STATE = 7  # Adam reads weight, gradient and two moments, and writes all but the gradient


class Work(NamedTuple):
    """What a group of operations has to do in a step.

    Attributes:
        flop: floating-point operations of matrix products and convolutions.
        bytes: to be moved from and to memory.
    """

    flop: float
    bytes: float


class Rates(NamedTuple):
    """What this machine reaches with the threads of a rank.

    Attributes:
        matrix: operations per second of matrix products by type of numbers.
        memory: bytes per second, read and written.
    """

    matrix: dict[str, float]
    memory: float

    def seconds(self, work: Work, precision: str) -> float:
        """The least that ``work`` takes."""
        return max(work.flop / self.matrix[precision], work.bytes / self.memory)


def works(model: keras.Model, batch: int, precision: str,
          fused: bool = False) -> dict[str, Work]:
    """The groups of a step of the table network, in the order of the step.

    Args:
        model: from ``table.build()``.
        batch: rows of the step.
        precision: ``float32``, or ``bfloat16``, in which everything but the weights, their
            gradients and what is behind the large dense layer is held.
        fused: the layers of each block are one group, since compiled operations compute them
            together. What they take is not less for it: the limit is that of separate layers.

    Returns:
        By name of the layer, with `` backward`` behind it for its gradient; and ``optimizer``.
    """
    width = 2 if precision == "bfloat16" else 4
    forward, backward = {}, {}
    inputs = True  # nothing has been trained so far, so no gradient is needed
    for layer in model.layers:
        flop = batch * layer_flop(layer)
        before, after = (batch * math.prod(tensor.shape[1:]) * width
                         for tensor in (layer.input, layer.output))
        weights = layer.trainable_variables
        kernel = sum(math.prod(weight.shape) for weight in weights)
        if isinstance(layer, keras.layers.Rescaling):
            forward[layer.name] = Work(flop, before / width + after)
        elif isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)):
            forward[layer.name] = Work(flop, before + kernel * 4 + after)
            # reads the input, the output for ReLU's sign, the output's gradient, and the kernel
            backward[layer.name] = Work(
                flop * (1 if inputs else 2),
                before + 2 * after + kernel * 4 + (0 if inputs else before + kernel * 4))
            inputs = False
        elif isinstance(layer, keras.layers.BatchNormalization):
            forward[layer.name] = Work(0, 2 * before + after)
            backward[layer.name] = Work(0, 2 * (before + after) + before)
        elif isinstance(layer, keras.layers.MaxPooling2D):
            forward[layer.name] = Work(0, before + after)
            # the positions of the largest are as many as the outputs
            backward[layer.name] = Work(0, 2 * after + before)
    trained = sum(math.prod(weight.shape) for weight in model.trainable_variables)
    if fused:
        forward, backward = (_joined(each) for each in (forward, backward))
    return {**forward, **{f"{name} backward": work for name, work in reversed(backward.items())},
            "optimizer": Work(0, STATE * 4 * trained)}


def _joined(groups: dict[str, Work]) -> dict[str, Work]:
    """``groups`` with those of each block as one: what its layers take one after the other."""
    joined: dict[str, Work] = {}
    for name, work in groups.items():
        block = BLOCKS.get(name, name)
        before = joined.get(block, Work(0, 0))
        joined[block] = Work(before.flop + work.flop, before.bytes + work.bytes)
    return joined


def layer_flop(layer: keras.layers.Layer) -> int:
    """Operations of a layer's forward pass for one picture, as ``cost.flop`` counts them."""
    return cost.flop(keras.Sequential([keras.Input(layer.input.shape[1:]), layer]))


def measure(kinds: Iterable[str], repeats: int = 3) -> Rates:
    """Measure this machine's rates: the best of ``repeats``, since nothing makes it faster than it
    is."""
    matrix = {}
    for kind in kinds:
        factors = [tf.cast(tf.random.stateless_normal((MATRIX, MATRIX), (seed, 0)), kind)
                   for seed in range(2)]
        matrix[kind] = 2 * MATRIX**3 / _best(lambda ab=factors: tf.matmul(*ab).cpu(), repeats)
    source, target = np.ones(COPIED, np.uint8), np.zeros(COPIED, np.uint8)
    memory = 2 * COPIED / _best(lambda: np.copyto(target, source), 4 * repeats)
    return Rates(matrix, memory)


def _best(work: Callable[[], Any], repeats: int) -> float:
    """Seconds of the fastest of ``repeats`` calls, after one that isn't timed."""
    seconds = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


def groups(operations: dict[str, float], names: Iterable[str]) -> dict[str, float]:
    """Seconds by group of ``works`` from those of a graph's operations by name, such as
    ``gradient_tape/conv1/ReluGrad``; what belongs to none of ``names`` is ``rest``."""
    seconds = dict.fromkeys((*names, "rest"), 0.0)
    for operation, spent in operations.items():
        path = operation.split("/")
        gradient = path[0] == "gradient_tape"
        layer = path[1 if gradient and len(path) > 1 else 0]
        name = f"{layer} backward" if gradient else layer
        seconds[name if name in seconds else "rest"] += spent
    return seconds


def exclusive(events: Iterable[tuple[str, int, int]]) -> dict[str, float]:
    """Time by name of events that may overlap: what several take at once is shared among them.

    Args:
        events: name, begin and end.
    """
    spent: dict[str, float] = {}
    running: list[tuple[int, str]] = []  # end and name
    now = 0

    def until(moment: int) -> None:
        nonlocal now
        while running and now < moment:
            end = min(moment, running[0][0])
            for _, name in running:
                spent[name] = spent.get(name, 0) + (end - now) / len(running)
            now = end
            while running and running[0][0] <= now:
                heapq.heappop(running)
        now = moment

    for name, begin, end in sorted(events, key=lambda event: event[1]):
        until(begin)
        heapq.heappush(running, (end, name))
    until(max((end for end, _ in running), default=now))
    return spent


def traced(steps: Callable[[], None], folder: str) -> dict[str, float]:
    """Seconds of the operations of TensorFlow's graphs by name while ``steps`` runs, from
    TensorFlow's profiler, which writes to ``folder``."""
    options = tf.profiler.experimental.ProfilerOptions(
        host_tracer_level=2, python_tracer_level=0, device_tracer_level=0)
    with tf.profiler.experimental.Profile(folder, options):
        steps()
    return {name: spent / 1e12 for name, spent in exclusive(_operations(folder)).items()}


def _operations(folder: str) -> Iterator[tuple[str, int, int]]:
    """Name, begin and end, in ps, of the operations in a profile."""
    from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

    for path in Path(folder).rglob("*.xplane.pb"):
        space = XSpace.FromString(path.read_bytes())
        for plane in space.planes:
            for line in plane.lines:
                start = line.timestamp_ns * 1000
                for event in line.events:
                    name, colon, _ = plane.event_metadata[event.metadata_id].name.rpartition(":")
                    if colon and line.name.startswith("tf_") and not name.endswith(":"):
                        begin = start + event.offset_ps
                        yield name, begin, begin + event.duration_ps
