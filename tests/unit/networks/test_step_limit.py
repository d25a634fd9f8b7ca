"""benchmarks/limit.py: the work of a step is counted, and the time of its operations grouped."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from conftest import ROOT

from hpc_deepfake.network import table
from hpc_deepfake.network.blocks import library
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.networks import cost
from hpc_deepfake.strategies.base import Batch
from hpc_deepfake.strategies.sequential import Sequential

sys.path.insert(0, str(ROOT / "benchmarks"))
import limit

pytestmark = pytest.mark.slow  # TensorFlow starts


@pytest.fixture(scope="module")
def model():
    return table.build("float32", 32)


def test_operations_of_the_layers_are_those_of_the_network(model):
    works = limit.works(model, 5, "float32")
    forward = sum(work.flop for name, work in works.items() if not name.endswith("backward"))
    assert forward == 5 * cost.flop(model)
    assert works["conv1"].flop == 5 * 2 * 30 * 30 * 32 * 27
    assert works["conv1 backward"].flop == works["conv1"].flop  # the picture needs no gradient
    assert works["conv2 backward"].flop == 2 * works["conv2"].flop
    assert works["dense1"].flop == 5 * 2 * (6 * 6 * 64) * 128


def test_bytes_are_those_of_inputs_outputs_and_weights(model):
    works = limit.works(model, 5, "float32")
    before, after, pooled = (5 * 4 * number for number in (32 * 32 * 3, 30 * 30 * 32, 15 * 15 * 32))
    assert works["rescaling"].bytes == before // 4 + before
    assert works["conv1"].bytes == before + after + 4 * (27 + 1) * 32
    assert works["bn1"].bytes == 3 * after
    assert works["bn1 backward"].bytes == 5 * after
    assert works["pool1"].bytes == after + pooled
    assert works["pool1 backward"].bytes == 2 * pooled + after
    trained = sum(np.prod(weight.shape) for weight in model.trainable_variables)
    assert works["optimizer"].bytes == 7 * 4 * trained
    brief = limit.works(model, 5, "bfloat16")
    assert brief["pool1"].bytes == works["pool1"].bytes / 2
    assert brief["optimizer"] == works["optimizer"]
    assert {name: work.flop for name, work in brief.items()} == \
        {name: work.flop for name, work in works.items()}


def test_the_slower_of_computing_and_memory_limits():
    rates = limit.Rates({"float32": 100.0, "bfloat16": 400.0}, 10.0)
    assert rates.seconds(limit.Work(800, 20), "float32") == 8
    assert rates.seconds(limit.Work(800, 20), "bfloat16") == 2
    assert rates.seconds(limit.Work(800, 50), "bfloat16") == 5


def test_time_of_operations_at_once_is_shared():
    spent = limit.exclusive([("a", 10, 20), ("b", 15, 30), ("a", 40, 45), ("c", 41, 43)])
    assert spent == {"a": 7.5 + 4, "b": 12.5, "c": 1}
    assert limit.exclusive([]) == {}


@pytest.mark.parametrize("fused", [True, False])
def test_each_group_of_a_real_step_has_operations(model, tmp_path, monkeypatch, fused):
    """With the compiled operations, which compute a block's layers together, and with
    TensorFlow's."""
    monkeypatch.setattr(library, "_off", [] if fused else ["this test"])
    assert bool(library.loaded()) == fused
    strategy = Sequential(model, Settings())
    random = np.random.default_rng(0)
    batch = Batch(random.integers(0, 256, (3, 32, 32, 3), np.uint8), np.array([0, 1, 1], np.uint8),
                  np.zeros(2, np.int32))
    strategy.step([batch], 3, 0)
    spent = limit.groups(limit.traced(lambda: strategy.step([batch], 3, 1), str(tmp_path)),
                         limit.works(model, 3, "float32", fused))
    assert ("block1 backward" in spent) == fused
    assert min(spent.values()) > 0, spent
    assert max(spent, key=spent.get) != "rest"
