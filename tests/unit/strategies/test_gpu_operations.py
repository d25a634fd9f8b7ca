"""No operation of a training step waits for a GPU, by what TensorFlow registers for GPUs."""

from __future__ import annotations

import json
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

from hpc_deepfake.network import registry
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.strategies.base import Batch
from hpc_deepfake.strategies.sequential import Sequential

sys.path.insert(0, str(ROOT / "benchmarks"))
import gpu_operations

pytestmark = pytest.mark.slow  # TensorFlow starts, and traces graphs
RENEW = "see benchmarks/gpu_operations.py --help, and renew gpu_kernels.json with --write"
SIZE = 64


def walk(*graphs: object) -> gpu_operations.Walk:
    found = gpu_operations.Walk(json.loads(gpu_operations.KERNELS.read_text())["kernels"])
    for graph in graphs:
        found.graph(graph)
    return found


@pytest.mark.parametrize(("network", "more"), [
    ("table", {"accumulate": 2, "clip_norm": 1.0}), ("meso4", {})])
def test_no_operation_of_a_step_waits(network: str, more: dict) -> None:
    """That of all strategies and of more networks is the benchmark's, which has this list made."""
    keras.utils.set_random_seed(0)
    strategy = Sequential(registry.build(network, SIZE), Settings(network=network, **more))
    with gpu_operations.on_gpu():
        graphs = [function.get_concrete_function().graph for function in (
            strategy._step, strategy._predict, *[strategy._hold] * bool(strategy._held))]
    found = walk(*graphs)
    assert not found.unknown, RENEW
    assert not found.findings
    assert sum(found.used.values()) > 100


@pytest.mark.parametrize(("mistake", "problem"), [
    (lambda x: tf.equal(tf.argmax(x, 1, tf.int32), 1), "waits for the GPU: x"),
    (lambda x: x / tf.cast(tf.shape(x)[0], tf.float32), "copies from the host: x")])
def test_mistakes_are_found(mistake: object, problem: str) -> None:
    """Also in functions that a function calls."""
    inner = tf.function(mistake, autograph=False)

    @tf.function(autograph=False, input_signature=(tf.TensorSpec((None, 2), tf.float32),))
    def outer(x: tf.Tensor) -> tf.Tensor:
        return inner(x)

    assert problem in {each.problem for each in walk(outer.get_concrete_function().graph).findings}


def test_numbers_on_the_device_are_written_only_when_they_change(
        monkeypatch: pytest.MonkeyPatch) -> None:
    """Since writing waits for a GPU; the number of the step counts by itself."""
    keras.utils.set_random_seed(0)
    strategy = Sequential(registry.build("table", SIZE), Settings())
    batch = Batch(np.zeros((2, SIZE, SIZE, 3), np.uint8), np.zeros(2, np.uint8),
                  np.zeros(2, np.int32))
    written = []
    assign = type(strategy._facts._variable).assign
    monkeypatch.setattr(type(strategy._facts._variable), "assign", lambda self, value: (
        written.append(self is strategy._facts._variable and list(value)), assign(self, value))[1])
    before = strategy.launch([batch], 2, 0)
    assert before is None
    for step in range(1, 4):
        done = strategy.launch([batch], 2, step)
        assert done is not None and (done.steps, done.rows) == (1, 2)
    assert strategy.launch([batch], 1, 4, wishes=1).wishes == 0
    last = strategy.landed()
    assert (last.rows, last.wishes) == (1, 1) and strategy.landed() is None
    assert [value for value in written if value] == [
        [2, 0, 0, 0], [2, 1, 0, 0], [1, 1, 4, 1]]
    assert strategy._facts._variable.numpy().tolist() == [1, 1, 5, 1]
