"""Layers that training leaves as they are."""

from __future__ import annotations

import argparse

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from small_networks import branched

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network import base, table
from hpc_deepfake.network.freezing import canonical, freeze
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.strategies.base import Batch
from hpc_deepfake.strategies.sequential import Sequential


def test_patterns_name_layers_at_any_depth_and_models_with_all_their_layers() -> None:
    within = keras.Sequential([keras.Input((8,)), layers.Dense(6, name="first"),
                               layers.BatchNormalization(name="norm")], name="within")
    model = keras.Sequential([keras.Input((8,)), within, layers.Dense(2, name="answer")])
    frozen = freeze(model, "fir?t")
    assert (frozen.layers, frozen.trained, frozen.parameters) == (["first"], 12 + 14, 54 + 12 + 14)
    assert str(frozen) == "frozen: 1 layer (first); 26 of 80 parameters are trained"
    assert freeze(model, "within").layers == ["norm"]
    assert freeze(model, "") is None
    with pytest.raises(InputError, match=r"--freeze dropout.*the network has within, first, norm"):
        freeze(model, "answer,dropout*")
    with pytest.raises(InputError, match=r"it freezes all 1 layers .* leave some out"):
        freeze(keras.Sequential([keras.Input((8,)), layers.Dense(2)]), "*")
    assert canonical(" conv*, bn1,conv*") == "conv*,bn1"
    with pytest.raises(argparse.ArgumentTypeError, match="empty pattern"):
        canonical("conv*,")


def test_layers_of_one_name_are_told_apart_by_the_models_that_they_are_in() -> None:
    def built() -> keras.Model:
        parts = [keras.Sequential([keras.Input((4,)), layers.Dense(4, name="c")], name=name)
                 for name in ("inner", "other")]
        return keras.Sequential([keras.Input((4,)), *parts, layers.Dense(2, name="answer")])

    for patterns, named in (("inner", ["inner/c"]), ("*/c", ["inner/c", "other/c"]),
                            ("other/c,answer", ["other/c", "answer"]),
                            ("c", ["inner/c", "other/c"])):
        frozen = freeze(built(), patterns)
        assert frozen.layers == named
        assert frozen.trained == 50 - sum(10 if name == "answer" else 20 for name in named)
    with pytest.raises(InputError, match="the network has inner, inner/c, other, other/c, answer"):
        freeze(built(), "third/c")


@pytest.mark.parametrize(("name", "patterns", "few"), [
    ("table", "conv*,bn1", ["conv1", "bn1", "conv2"]),
    ("branched", "stem*,shared_bn", ["stem", "stem_bn", "shared_bn"])])
def test_frozen_layers_stay_as_they_are(name: str, patterns: str, few: list[str]) -> None:
    """Also the moving statistics of batch normalisation, and nothing of them is reduced. The
    others are trained, and the strategy's model has the weights in their places."""
    keras.utils.set_random_seed(0)
    model, size = (table.build(size=32), 32) if name == "table" else (branched(), 16)
    frozen = freeze(model, patterns)
    settings = Settings(network=name, freeze=patterns, learning_rate=0.01)
    strategy = Sequential(model, settings)
    network = base.of(model, settings)
    before = {layer.name: [np.array(value) for value in layer.get_weights()]
              for layer in model.layers}
    random = np.random.default_rng(0)
    batch = Batch(random.integers(0, 256, (6, size, size, 3), dtype=np.uint8),
                  np.array([0, 1, 0, 1, 0, 1], np.uint8), np.zeros(2, np.int32))
    assert sum(weight.shape.num_elements() for weight in network.trainable) == frozen.trained
    assert sum(len(bucket) for bucket in network.buckets) == len(network.trainable)
    strategy.step([batch], 6, 0)
    after = {layer.name: layer.get_weights() for layer in model.layers}
    for layer in model.layers:
        if layer.weights and layer.name != "dropout":
            same = all(map(np.array_equal, before[layer.name], after[layer.name]))
            assert same is (layer.name in few), layer.name
    copy = strategy.keras_model(strategy.whole())
    for layer in model.layers:
        for own, theirs in zip(layer.get_weights(), copy.get_layer(layer.name).get_weights(),
                               strict=True):
            assert np.array_equal(own, theirs), layer.name


def test_frozen_normalisations_of_the_default_network_go_by_their_moving_statistics() -> None:
    """In its own training pass too: without dropout that is what Keras predicts."""
    model = table.build(size=32)
    random = np.random.default_rng(0)
    for name in ("bn1", "bn2"):
        layer = model.get_layer(name)
        layer.set_weights([random.uniform(0.5, 2, weight.shape) for weight in layer.weights])
    freeze(model, "bn*")
    network = base.of(model, Settings())
    pictures = tf.constant(random.integers(0, 256, (3, 32, 32, 3)), tf.uint8)
    out = network.forward(pictures, tf.zeros(2, tf.int32), base.Pass(
        tf.float32, 0.0, False, tf.ones(()), lambda value, _: value))
    assert not out.statistics
    np.testing.assert_allclose(tf.nn.softmax(out.logits), model(pictures), rtol=1e-4)
