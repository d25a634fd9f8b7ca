"""Where the graph of any Keras model is cut, and what hybrid refuses to shard."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("tensorflow")
import keras
import tensorflow as tf
from keras import layers
from small_networks import branched, stacked

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network.general import General
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.strategies import choose, hybrid, traffic
from hpc_deepfake.strategies.layout import Layout
from hpc_deepfake.strategies.mesh import chain
from hpc_deepfake.strategies.mesh.cut import cut


def names(model: keras.Model) -> list[list[str]]:
    return [[node.operation.name for node in block.nodes] for block in chain.blocks(model)]


def test_a_sequential_model_is_cut_between_any_two_layers():
    """The branches within the model in it stay together, with the layer that joins them."""
    assert names(stacked()) == [
        ["rescaling"], ["conv"], ["bn"], ["spatial"], ["pool"], ["branch", "join"], ["flatten"],
        ["hidden"], ["dropout"], ["answer"], ["softmax"]]


def test_uses_of_a_shared_layer_and_branches_stay_together():
    model = branched()
    found = names(model)
    places = {name: [place for place, block in enumerate(found) if name in block]
              for block in found for name in block}
    assert all(len(where) == 1 for where in places.values())
    assert places["shared"] == places["shared_bn"] and places["stem"] != places["shared"]
    assert found[places["shared"][0]].count("shared") == 2
    assert len(found[places["hidden"][0] - 1]) == 3  # two poolings and what joins them
    line = chain.line(chain.blocks(model))
    with pytest.raises(InputError, match=r"with shared_bn.*name shared, the"):
        cut(2, "shared_bn", line)
    with pytest.raises(InputError, match=f"more than the {len(found)} blocks.*branches or layers"):
        cut(len(found) + 1, None, line)


@pytest.mark.parametrize("build", [stacked, branched])
def test_stages_one_after_the_other_are_the_whole(build):
    """Also as rebuilt from their description, with the weights of the whole."""
    model = build()
    blocks = chain.blocks(model)
    pictures = x = tf.random.stateless_uniform((2, 16, 16, 3), (0, 1), 0, 255)
    for begin, end in zip((0, 2, 5), (2, 5, len(blocks)), strict=True):
        stage = chain.part(blocks[begin:end])
        again = keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(stage), safe_mode=True)
        for layer in stage.layers:
            again.get_layer(layer.name).set_weights(layer.get_weights())
        x = again(x, training=False)
        assert math.prod(x.shape[1:]) == blocks[end - 1].sent
    assert tf.reduce_max(tf.abs(x - model(pictures, training=False))) < 1e-6


def test_a_model_that_casts_its_input_or_is_called_otherwise_is_one_block():
    picture, inside = keras.Input((8, 8, 3)), keras.Input((8, 8, 3), dtype="float16")
    casting = keras.Model(inside, layers.ReLU(name="a")(inside), name="casting")
    start = keras.Input((8, 8, 3))
    normal = layers.BatchNormalization(name="b")(start)
    fixed = keras.Model(start, layers.ReLU(name="c")(normal), name="fixed")
    model = keras.Model(picture, layers.Flatten(name="d")(fixed(casting(picture), training=False)))
    assert names(model) == [["casting"], ["fixed"], ["d"]]


def test_costs_follow_the_kernels():
    """Of a convolution each number at each position, forward and twice backward; of a dense layer
    once. What has no kernel costs by its numbers."""
    cost = {block.name: block.cost for block in chain.blocks(stacked())}
    conv, hidden = 5 * 5 * 3 * 4, 144 * 64
    assert cost["conv"] == pytest.approx(
        1e-6 * (6 * conv * 12 * 12 + chain.UPDATE * (conv + 4)))
    assert cost["hidden"] == pytest.approx(1e-6 * (6 * hidden + chain.UPDATE * (hidden + 64)))
    assert cost["bn"] > cost["spatial"] > cost["flatten"] > 0


def test_hybrid_is_refused_where_it_sends_more():
    """With the figures of the formula and the most rows with which it pays; at these it doesn't
    send more."""
    network, settings = General(stacked()), Settings(network="any", batch_size=64)
    with pytest.raises(InputError, match=r"hidden \(144 × 64\), is too small") as error:
        hybrid._check_pays(network, 4, 4, settings)
    assert error.value.everywhere
    most = int(str(error.value).partition("at most ")[2].split()[0])
    sizes = traffic.Sizes.of([v.shape for v in network.trainable],
                             [v.shape for v in network.moving], network.dense)
    sync = sum(traffic.sync(4, sizes=sizes).values())
    assert sum(traffic.hybrid(4, 4, most, sizes=sizes).values()) <= sync
    assert sum(traffic.hybrid(4, 4, most + 1, sizes=sizes).values()) > sync
    assert sizes.kernel + sizes.rest == sum(
        math.prod(v.shape) for v in (*network.trainable, *network.moving)) + 3
    hybrid._check_pays(network, 4, 4, Settings(network="any", batch_size=most))
    hybrid._check_pays(network, 4, 1, settings)  # alone in its group: nothing is exchanged


def test_hybrid_is_refused_where_there_is_nothing_to_shard():
    with pytest.raises(InputError, match="hidden, has a regulariser"):
        hybrid._check_pays(General(branched()), 2, 2, Settings(network="any", batch_size=1))
    model = stacked()
    for name in ("hidden", "answer"):
        model.get_layer(name).trainable = False
    with pytest.raises(InputError, match="the network has none"):
        hybrid._kernel(General(model))


def test_a_dense_layer_is_found_however_the_model_was_made():
    """Keras calls the layers anew with each ``add``; of a layer used twice no rows are sharded."""
    added = keras.Sequential()
    for layer in (keras.Input((8,)), layers.Dense(32, name="large"), layers.Dense(2, name="last")):
        added.add(layer)
    assert General(added).dense_layer.name == "large"
    picture, twice = keras.Input((8,)), layers.Dense(8, name="twice")
    model = keras.Model(picture, layers.Dense(2, name="last")(twice(twice(picture))))
    assert General(model).dense_layer.name == "last"


@pytest.mark.parametrize(("mesh", "words"), [("tensor=2", "only those of the network table"),
                                             ("pipeline=3", "needs 1 · 1 · 3 = 3 ranks")])
def test_meshes_of_other_networks_are_checked_before_they_are_built(mesh, words):
    with pytest.raises(InputError, match=words):
        choose("mesh", 2, Settings(network="meso4"), Layout(mesh=mesh))
    assert choose("auto", 2, Settings(network="meso4"), Layout(mesh="pipeline=2")) == "mesh"
