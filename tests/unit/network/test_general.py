"""The training pass of any Keras model, against Keras itself."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from small_networks import branched

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network.base import Pass, buckets, of, refuse_constraints
from hpc_deepfake.network.general import General
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.strategies.base import Batch
from hpc_deepfake.strategies.sequential import Sequential

SETTINGS = Settings(network="branched", dropout=0.0)


def rows(count: int = 6, seed: int = 0) -> tuple[tf.Tensor, tf.Tensor]:
    random = np.random.default_rng(seed)
    return (tf.constant(random.integers(0, 256, (count, 16, 16, 3)), tf.uint8),
            tf.constant(random.integers(0, 2, count), tf.int32))


def how(own: tf.DType = tf.float64, dropout: float | None = 0.0, compute: tf.DType | None = None,
        sync_bn: bool = False) -> Pass:
    return Pass(compute or own, dropout, sync_bn, tf.ones((), own), lambda value, _: value)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    made = branched()
    keras.config.set_dtype_policy(before)
    return made


def computed(network: General, seed: int = 0, given: Pass | None = None) -> tuple:
    """Loss with penalty, gradients, statistics and logits of a traced pass."""
    pictures, labels = rows()
    passed = given or how()

    @tf.function(autograph=False)
    def both() -> tuple:
        with tf.GradientTape() as tape:
            out = network.forward(pictures, tf.constant([seed, 5]), passed)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels, out.logits)) + (0.0 if out.penalty is None else out.penalty)
        return loss, tape.gradient(loss, network.trainable), out.statistics, out.logits

    return both()


@pytest.mark.parametrize("sync_bn", [False, True])
def test_loss_gradients_and_statistics_are_those_of_keras(model: keras.Model,
                                                          sync_bn: bool) -> None:
    """Of all weights in float64; a normalisation that is used twice has the mean of both."""
    network = General(model)
    loss, gradients, statistics, _ = computed(network, given=how(sync_bn=sync_bn))
    pictures, labels = rows()
    without = keras.models.clone_model(model)
    without.set_weights(model.get_weights())
    for layer in without.layers:
        if isinstance(layer, layers.Dropout):
            layer.rate = 0
    before = {variable.path: variable.numpy() for variable in without.non_trainable_weights}
    with tf.GradientTape() as tape:
        outputs = without(tf.cast(pictures, tf.float64), training=True)
        want = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, outputs)) \
            + tf.add_n(without.losses)
    np.testing.assert_allclose(loss, want, rtol=1e-12)
    for got, expected in zip(gradients, tape.gradient(
            want, [v.value for v in without.trainable_variables]), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)
    named = dict(zip((f"{layer.name}/{kind}" for layer in network._normalisations
                      for kind in ("moving_mean", "moving_variance")), statistics, strict=True))
    for layer in ("stem_bn", "hidden_bn"):  # used once: Keras has moved by 1 - momentum
        for kind in ("moving_mean", "moving_variance"):
            moved, = (v for v in without.non_trainable_weights if v.path == f"{layer}/{kind}")
            momentum = without.get_layer(layer).momentum
            value = (moved.numpy() - momentum * before[moved.path]) / (1 - momentum)
            np.testing.assert_allclose(named[f"{layer}/{kind}"], value, rtol=1e-9, atol=1e-12)


def test_the_model_is_as_it_was(model: keras.Model) -> None:
    """Nothing of a traced pass stays in it, and no weight or random state has changed."""
    before = [v.numpy() for v in (*model.weights, *model.non_trainable_variables)]
    computed(General(model), given=how(dropout=0.1))
    assert all(np.array_equal(v.numpy(), value) for v, value in zip(
        (*model.weights, *model.non_trainable_variables), before, strict=True))
    assert model.get_layer("dropout").rate == 0.5
    assert not any("call" in vars(layer) for layer in model.layers)
    assert keras.saving.serialize_keras_object(model)


def test_random_layers_follow_the_seed_of_the_pass(model: keras.Model) -> None:
    """And the name of their layer: another model of the same layers draws the same numbers."""
    network = General(model)
    one, again, other, none = (computed(network, *case)[3].numpy() for case in (
        (1, how(dropout=None)), (1, how(dropout=None)), (2, how(dropout=None)), (1, how())))
    assert np.array_equal(one, again)
    assert not np.allclose(one, other) and not np.allclose(one, none)
    spare = network.spare()
    spare.set_weights(model.get_weights())
    assert np.array_equal(computed(General(spare), 1, how(dropout=None))[3], one)


def test_a_spare_model_has_the_same_variables(model: keras.Model) -> None:
    network = General(model)
    spare = network.spare()
    assert [tuple(v.shape) for v in of(spare, SETTINGS).all] == \
        [tuple(v.shape) for v in network.all]
    for variable, value in zip(General(spare).all, network.all, strict=True):
        variable.assign(value)
    pictures, _ = rows()
    np.testing.assert_array_equal(spare(pictures), model(pictures))
    assert not {id(v) for v in spare.variables} & {id(v) for v in model.variables}


def test_bfloat16_computes_near_and_leaves_weights_and_files(model: keras.Model) -> None:
    """In all layers but the last; the difference is one of rounding, and not none."""
    small = branched()
    small.set_weights(model.get_weights())
    exact, brief = (computed(General(small), given=how(tf.float32, compute=kind))[3].numpy()
                    for kind in (tf.float32, tf.bfloat16))
    assert exact.dtype == brief.dtype == np.float32
    assert 0 < np.abs(exact - brief).max() < 0.1
    assert {layer.dtype_policy.name for layer in small.layers} == {"float32"}


def test_outputs_without_a_softmax_give_the_same_logits_up_to_a_constant(
        model: keras.Model) -> None:
    """Probabilities that no softmax computes: their logarithms."""
    x = model.get_layer("dropout").output
    logits = layers.Dense(2, name="answer", dtype="float64")(x)
    powers = layers.Activation("exponential", dtype="float64")(logits)
    sums = layers.Dot(1, dtype="float64")([powers, layers.Lambda(
        keras.ops.ones_like, dtype="float64")(powers)])
    other = keras.Model(model.input, layers.Lambda(
        lambda pair: pair[0] / pair[1], dtype="float64")([powers, sums]))
    other.get_layer("answer").set_weights(model.get_layer("answer").get_weights())
    want, got = computed(General(model))[3].numpy(), computed(General(other))[3].numpy()
    np.testing.assert_allclose(got[:, 1] - got[:, 0], want[:, 1] - want[:, 0], rtol=1e-9)


class Counting(keras.Layer):
    """A layer with a state of its own."""

    def build(self, shape: tuple) -> None:
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        if training:
            self.count.assign(self.count + 1)
        return x


class Noisy(keras.Layer):
    """A layer that draws numbers of its own."""

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        return x + tf.random.normal(tf.shape(x)) if training else x


@pytest.mark.parametrize(("layer", "reason"), [
    (Counting(name="mine"), "mine/count changes with each batch"),
    (Noisy(name="mine"), "don't follow --seed"),
    (layers.SpectralNormalization(layers.Conv2D(3, 3)), "changes with each batch")])
def test_layers_that_ranks_cannot_train_are_refused(layer: keras.Layer, reason: str) -> None:
    picture = keras.Input((16, 16, 3))
    x = layers.Flatten()(layer(layers.Rescaling(1 / 255)(picture)))
    network = General(keras.Model(picture, layers.Dense(2, activation="softmax")(x)))
    with pytest.raises(InputError, match=reason):
        computed(network, given=how(tf.float32))


def test_frozen_layers_are_fixed(model: keras.Model) -> None:
    """A frozen normalisation goes by its moving statistics, which stay, as in Keras."""
    frozen = General(model).spare()
    frozen.set_weights(model.get_weights())
    for name in ("stem", "stem_bn"):
        frozen.get_layer(name).trainable = False
    network, whole = General(frozen), General(model)
    assert len(network.trainable) == len(whole.trainable) - 4
    assert len(network.moving) == len(whole.moving) - 2 and len(network.fixed) == 6
    assert [g.shape for g in computed(network)[1]] == [v.shape for v in network.trainable]
    assert not np.allclose(computed(network)[3], computed(whole)[3])
    for layer in frozen.layers:
        layer.trainable = False
    with pytest.raises(InputError, match="no weights that are trained"):
        of(frozen, replace(SETTINGS))


def test_buckets_are_in_the_order_of_backward() -> None:
    """The first is small; each has its bytes, or one variable; together they are all places."""
    sizes = [10, 5000, 300_000, 4_000_000, 200, 6_000_000, 8_000_000, 3, 400_000, 7]
    variables = [tf.zeros(size) for size in sizes]
    places = buckets(variables)
    assert [place for bucket in places for place in bucket] == list(reversed(range(len(sizes))))
    assert places[0] == [9, 8]  # 1.6 MB, the first that reach 1 MiB
    for bucket in places[1:]:
        size = sum(sizes[place] for place in bucket) * 4
        assert len(bucket) == 1 or size <= 25 << 20
    assert len(places) == 5


def attentive() -> keras.Model:
    """With layers within a layer, whose own values of ``trainable`` Keras' description forgets."""
    picture = keras.Input((16, 16, 3))
    x = layers.Reshape((-1, 8))(layers.Conv2D(8, 8, strides=8)(layers.Rescaling(1 / 255)(picture)))
    x = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    return keras.Model(picture, layers.Dense(2, activation="softmax")(
        layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))))


@pytest.mark.parametrize("inner", [False, True])
def test_a_copy_has_the_order_of_frozen_layers_within_layers(inner: bool) -> None:
    model = attentive()
    attention = model.get_layer("attention")
    (attention._flatten_layers(include_self=False)[0] if inner else attention).trainable = False
    network = General(model)
    copy = General(network.spare())
    assert network.fixed
    assert [v.shape for v in copy.all] == [v.shape for v in network.all]
    for variable, value in zip(copy.all, network.all, strict=True):
        variable.assign(value)
    pictures, _ = rows()
    np.testing.assert_array_equal(copy.model(pictures), model(pictures))


def test_constraints_are_kept() -> None:
    """By what holds whole weights, after each step; where there are pieces they are refused."""
    picture = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, kernel_constraint="non_neg", name="positive")(picture)
    network = General(keras.Model(picture, layers.Dense(2, activation="softmax")(
        layers.GlobalAveragePooling2D()(x))))
    strategy = Sequential(network.model, replace(SETTINGS, optimizer="sgd", learning_rate=10.0))
    pictures, labels = rows()
    strategy.step([Batch(pictures.numpy(), labels.numpy(), np.zeros(2, np.int32))], 6, 0)
    kernel = network.model.get_layer("positive").get_weights()[0]
    assert kernel.min() == 0 < kernel.max()
    with pytest.raises(InputError, match=r"positive/kernel have constraints.*--strategy async"):
        refuse_constraints(network, "async")
