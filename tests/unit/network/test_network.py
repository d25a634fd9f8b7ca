"""The fused training pass computes the same as stock Keras."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from hpc_deepfake.network import batchnorm, table
from hpc_deepfake.network.batchnorm import fused, synchronised, update_moving
from hpc_deepfake.network.fused import Weights, features, head
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.strategies.base import Batch
from hpc_deepfake.strategies.sequential import Sequential

pytestmark = pytest.mark.slow  # TensorFlow starts, and traces graphs
SEED = np.zeros(2, np.int32)
ROWS = 4


def alone(x, gamma, beta, name, present=1):
    """Synchronised batch normalisation on one rank."""
    return synchronised(x, gamma, beta, present, lambda value, _: value, name)


def own(x, gamma, beta, name):
    """Fused batch normalisation, which needs no name."""
    return fused(x, gamma, beta)


def forward(weights, pictures, seed, dropout, normalise, compute):
    """Logits and batch statistics of a pass with TensorFlow's operations."""
    x, statistics = features(weights, pictures, normalise, compute)
    return head(weights, x, seed, dropout), statistics


def close(actual, expected, tolerance: float) -> None:
    """The difference is small relative to the whole tensor. (Relative to each element it need not
    be, where an element cancels to nearly zero.)"""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    assert np.linalg.norm(actual - expected) <= tolerance * np.linalg.norm(expected)


@pytest.fixture(scope="module")
def batch() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return (random.integers(0, 256, (ROWS, 128, 128, 3)).astype(np.uint8),
            np.array([0, 1, 1, 0], np.uint8))


@pytest.fixture
def make():
    """Makes networks with the same weights, none at its initial value."""
    def network(precision: str = "float32") -> keras.Model:
        keras.utils.set_random_seed(5)
        model = table.build()
        random = np.random.default_rng(5)
        for variable in (v for v in model.weights if "kernel" not in v.path):
            low = -0.3 if "bias" in variable.path else 0.5  # both sides of ReLU
            variable.assign(random.uniform(low, low + 0.6, variable.shape))
        if precision == "float32":
            return model
        other = table.build(precision)
        other.set_weights(model.get_weights())
        return other

    yield network
    keras.config.set_dtype_policy("float32")


def stock(network: keras.Model, pictures: np.ndarray, labels: np.ndarray) -> tuple:
    """Probabilities, gradients and batch statistics of the Keras model itself, dropout off."""
    network.get_layer("dropout").rate = 0.0
    for name in ("bn1", "bn2"):
        network.get_layer(name).momentum = 0.0  # the moving statistics become the batch's
    with tf.GradientTape() as tape:
        # all layers but Rescaling, which rounds 1/255 to float32 whatever the network's type
        x = tf.cast(pictures, network.layers[1].compute_dtype) * (1 / 255)
        for layer in network.layers[1:]:
            x = layer(x, training=True)
        probabilities = x
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, probabilities))
    gradients = tape.gradient(loss, [v.value for v in network.trainable_variables])
    statistics = [v.numpy() for name in ("bn1", "bn2")
                  for v in network.get_layer(name).non_trainable_variables]
    return probabilities.numpy(), gradients, statistics


@pytest.mark.parametrize(("precision", "normalise", "tolerance"), [
    ("float32", own, 1e-2), ("float32", alone, 2e-5), ("float64", alone, 1e-11)])
def test_the_training_pass_equals_that_of_keras(make, batch, precision, normalise, tolerance):
    """Probabilities, the gradient of every weight and the batch statistics, in training, against
    Keras in float64. (Keras in float32 differs by 3e-3 at the first convolution, as does
    TensorFlow's fused operation.)"""
    network = make(precision)
    weights = Weights(network)
    with tf.GradientTape() as tape:
        logits, statistics = forward(weights, batch[0], SEED, 0.0, normalise,
                                     weights.conv1[0].dtype)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(
            batch[1].astype(np.int32), logits))
    gradients = tape.gradient(loss, weights.trainable)
    probabilities, expected_gradients, moving = stock(make("float64"), *batch)
    assert probabilities.std() > 0.01
    close(tf.nn.softmax(logits), probabilities, tolerance)
    assert [v.path for v in network.trainable_variables] == [
        next(weight.path for weight in network.weights if weight.value is v)
        for v in weights.trainable]
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        assert gradient.dtype == precision
        close(gradient, expected, tolerance)
    values = [value for pair in statistics for value in pair]
    for value, expected in zip(values, moving, strict=True):
        close(value, expected, tolerance)


def test_inference_equals_that_of_keras(make, batch):
    """A strategy's probabilities are those of the model with its moving statistics, for batches of
    any size, and do not depend on the other rows of the batch."""
    network = make()
    strategy = Sequential(network, Settings())
    expected = network(batch[0], training=False)[:, 1]
    close(strategy.probabilities(batch[0]), expected, 1e-6)
    close(strategy.probabilities(batch[0][2:3]), expected[2:3], 1e-5)
    close(network.predict_on_batch(batch[0])[:, 1], expected, 1e-6)


def test_inference_after_one_step_equals_the_training_pass(make, batch):
    """After the first step the moving statistics are those of the batch, without bias from their
    initial values, so that training and inference normalise this batch alike."""
    network = make()
    strategy = Sequential(network, Settings(dropout=0.0, learning_rate=0.0))
    done = strategy.step([Batch(*batch, SEED)], ROWS, 0)
    p = strategy.probabilities(batch[0]).astype(np.float64)
    losses = -np.log(np.where(batch[1] == 1, p, 1 - p))
    np.testing.assert_allclose(done.loss, losses.sum(), rtol=1e-3)
    assert (done.right, done.stopped) == (((p > 0.5) == batch[1]).sum(), False)
    assert done.waited >= 0


def test_no_weight_is_added(make, batch):
    """Training uses all variables of the Keras model itself, and creates no others."""
    network = make()
    before = [v.value for v in network.weights]
    strategy = Sequential(network, Settings(accumulate=2))
    half = [Batch(part, labels, SEED) for part, labels in zip(
        np.split(batch[0], 2), np.split(batch[1], 2), strict=True)]
    strategy.step(half, ROWS, 0)
    assert network.count_params() == table.PARAMETERS
    assert [id(v.value) for v in network.weights] == [id(v) for v in before]
    assert {id(v) for v in strategy.weights.all} == {id(v) for v in before}
    assert len(strategy.weights.all) == len(before) == 16
    assert len(strategy.state()) == 16 + 2 * 12  # plus Adam's two moments of the trained weights


def test_bfloat16_is_close_to_float32(make, batch):
    """Logits within 2%, and float32 gradients of nearly the same direction; the logits differ, so
    that it really computes in another type."""
    weights = Weights(make())
    results = []
    for kind in (tf.float32, tf.bfloat16):
        with tf.GradientTape() as tape:
            logits, statistics = forward(weights, batch[0], SEED, 0.0, own, kind)
            loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(
                batch[1].astype(np.int32), logits))
        gradients = tape.gradient(loss, weights.trainable)
        assert {value.dtype for value in (logits, *gradients, *statistics[0])} == {tf.float32}
        results.append((logits.numpy(), [gradient.numpy().ravel() for gradient in gradients]))
    (logits32, gradients32), (logits16, gradients16) = results
    close(logits16, logits32, 0.02)
    assert not np.array_equal(logits16, logits32)
    cosines = []
    for a, b in zip(gradients16, gradients32, strict=True):
        cosines.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    # the first gradients are sums over all pixels; without AVX-512 they are summed in bfloat16
    least = 0.999 if "avx512f" in Path("/proc/cpuinfo").read_text() else 0.99
    assert min(cosines) > 0.85 and min(cosines[6:]) > least


def dropped(dropout: float, seed: tuple[int, int], rows: int = 32) -> np.ndarray:
    """The output of dropout for ones: float (rows, 128)."""
    weights = SimpleNamespace(
        conv1=[tf.zeros((3, 3, 3, 1)), tf.zeros(1)], conv2=[tf.zeros((3, 3, 1, 1)), tf.zeros(1)],
        bn1=[None, None], bn2=[None, None], dense1=[tf.zeros((900, 128)), tf.ones(128)],
        dense2=[tf.eye(128), tf.zeros(128)])
    return forward(weights, np.zeros((rows, 128, 128, 3), np.uint8), np.array(seed, np.int32),
                   dropout, lambda x, *_: (x, None), tf.float32)[0].numpy()


@pytest.mark.parametrize("rate", [0.5, 0.2])
def test_dropout_has_its_rate_and_keeps_the_mean(rate):
    """Zeros at this rate, the rest scaled by 1/(1 - rate); rows and columns differ."""
    kept = dropped(rate, (1, 2))
    assert set(np.unique(kept)) == {np.float32(0), np.float32(1 / (1 - rate))}
    assert abs((kept == 0).mean() - rate) < 0.03
    assert len(np.unique(kept, axis=0)) == len(kept)
    assert len(np.unique(kept, axis=1).T) == kept.shape[1]


def test_dropout_is_a_function_of_its_seed():
    """The same mask for the same seed, another mask if either half of the seed differs; no dropout
    at rate 0."""
    masks = [dropped(0.5, seed) for seed in ((1, 2), (1, 2), (1, 3), (2, 2))]
    assert np.array_equal(masks[0], masks[1])
    assert not np.array_equal(masks[0], masks[2]) and not np.array_equal(masks[0], masks[3])
    assert (dropped(0.0, (1, 2)) == 1).all() and (dropped(0.0, (3, 4)) == 1).all()


def keras_layer(x, upstream, gamma, beta, momentum: float = 0.0) -> dict[str, np.ndarray]:
    """Outputs, gradients and moving statistics of keras.layers.BatchNormalization."""
    layer = keras.layers.BatchNormalization(dtype=x.dtype.name, momentum=momentum)
    layer.build(x.shape)
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
    gradients = tape.gradient(y, [x, layer.gamma.value, layer.beta.value], upstream)
    return dict(zip(("y", "x", "gamma", "beta", "mean", "variance"),
                    (v.numpy() for v in (y, *gradients, layer.moving_mean.value,
                                         layer.moving_variance.value)), strict=True))


def own_layer(function, x, upstream, gamma, beta) -> dict[str, np.ndarray]:
    """The same as ``keras_layer``, of a function (x, gamma, beta, name) → (y, statistics)."""
    values = [tf.constant(value) for value in (x, gamma, beta)]
    with tf.GradientTape() as tape:
        tape.watch(values)
        y, statistics = function(*values, "bn")
    gradients = tape.gradient(y, values, upstream)
    return dict(zip(("y", "x", "gamma", "beta", "mean", "variance"),
                    (v.numpy() for v in (y, *gradients, *statistics)), strict=True))


def numbers(shape: tuple[int, ...], kind: type) -> list[np.ndarray]:
    """x with a different mean and spread per channel, the upstream gradient, gamma and beta."""
    random = np.random.default_rng(7)
    x = random.normal(size=shape) * np.arange(1, shape[-1] + 1) + 3 * np.arange(shape[-1])
    return [value.astype(kind) for value in (
        x, random.normal(size=shape), random.uniform(0.5, 2, shape[-1]),
        random.normal(size=shape[-1]))]


@pytest.mark.parametrize(("function", "kind", "tolerance"), [
    (own, np.float32, 1e-5), (alone, np.float32, 1e-5), (alone, np.float64, 1e-12)])
@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (1, 1, 2, 3), (2, 1, 1, 1)])
def test_batch_normalisation_equals_the_keras_layer(function, kind, tolerance, shape):
    """Outputs, gradients of x, gamma and beta, and the statistics for the moving ones; also with
    two values per channel, where a corrected variance is twice the uncorrected one."""
    inputs = numbers(shape, kind)
    actual, expected = own_layer(function, *inputs), keras_layer(*inputs)
    scale = {"x": np.abs(inputs[1]).max()}  # the gradient of x cancels out for two values
    for name in expected:
        assert actual[name].dtype == kind
        np.testing.assert_allclose(actual[name], expected[name], rtol=tolerance * 10,
                                   atol=tolerance * scale.get(name, 1.0), err_msg=name)
    uncorrected = inputs[0].astype(np.float64).var((0, 1, 2))
    corrected = inputs[0].astype(np.float64).var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(actual["variance"], uncorrected, rtol=tolerance * 10)
    assert (np.abs(corrected / actual["variance"] - 1) > 1 / np.prod(shape[:3]) / 2).all()


@pytest.mark.parametrize("function", [own, alone])
def test_statistics_survive_a_large_mean(function):
    """Values of 1,000 ± 1 in float32: the variance is right to 0.1%."""
    x, upstream, gamma, beta = numbers((4, 20, 20, 2), np.float32)
    x = (x - x.mean((0, 1, 2))) / x.std((0, 1, 2)) + 1000
    layer = own_layer(function, x, upstream, gamma, beta)
    np.testing.assert_allclose(layer["variance"], x.astype(np.float64).var((0, 1, 2)), rtol=1e-3)
    np.testing.assert_allclose(layer["mean"], x.astype(np.float64).mean((0, 1, 2)), rtol=1e-6)


def test_statistics_take_no_gradient():
    """No gradient flows through the moving statistics."""
    for function in (own, alone):
        x, _, gamma, beta = (tf.constant(v) for v in numbers((2, 3, 3, 2), np.float32))
        with tf.GradientTape() as tape:
            tape.watch(x)
            _, statistics = function(x, gamma, beta, "bn")
            value = tf.reduce_sum(statistics.mean) + tf.reduce_sum(statistics.variance)
        assert tape.gradient(value, x) is None


def test_synchronised_over_ranks_equals_the_keras_layer_over_all_rows():
    """Shards of 3, 1 and 2 rows, and a rank whose row is ignored: the ranks' outputs and gradients
    of x, and the sums of those of gamma and beta, are those of Keras for the whole batch."""
    x, upstream, gamma, beta = numbers((6, 3, 2, 4), np.float64)
    shards = [slice(0, 3), slice(3, 4), slice(4, 6), None]
    sent: dict[str, list[np.ndarray]] = {}

    def rank(number: int, part: slice | None, sums: dict[str, np.ndarray]) -> dict:
        def allreduce(value, name):
            sent.setdefault(name, [None] * len(shards))[number] = value.numpy()
            return tf.constant(sums.get(name, value.numpy()))

        present = part is not None
        local, above = (x[part], upstream[part]) if present else (x[:1] + 50, 0 * upstream[:1])
        return own_layer(lambda *values: synchronised(*values[:3], float(present), allreduce,
                                                 values[3]), local, above, gamma, beta)

    sums: dict[str, np.ndarray] = {}
    for name in ("bn_forward", "bn_backward", None):  # each needs the sums of the previous one
        with np.errstate(all="ignore"):
            results = [rank(number, part, sums) for number, part in enumerate(shards)]
        if name:
            sums[name] = np.sum(sent[name], axis=0)
    expected = keras_layer(x, upstream, gamma, beta)
    for name in ("y", "x"):
        np.testing.assert_allclose(np.concatenate([result[name] for result in results[:3]]),
                                   expected[name], rtol=1e-9, atol=1e-12)
    for name in ("gamma", "beta"):
        np.testing.assert_allclose(sum(result[name] for result in results), expected[name],
                                   rtol=1e-9)
    for name in ("mean", "variance"):
        for result in results:
            np.testing.assert_allclose(result[name], expected[name], rtol=1e-9)
    assert not results[3]["x"].any()


def moved(values: np.ndarray, first: int, start: float,
          momenta: list[float] | None = None) -> np.ndarray:
    """A moving statistic after each step, where the first step has the number ``first``."""
    variable, after = tf.Variable(np.float32([start])), []
    for step, value in enumerate(values, first):
        update_moving([variable], [tf.constant([value], tf.float32)], tf.constant(step, tf.int64),
                      momenta)
        after.append(variable.numpy()[0])
    return np.array(after)


def test_moving_statistics_of_a_deep_network_follow_what_drifts():
    """A statistic that doubles every 20 steps: a mean since the first step lags by half of it, the
    recent mean by a fifth; the initial value is forgotten after ten steps, and the layer's own
    momentum bounds the mean."""
    values = (2 ** (np.arange(80) / 20)).astype(np.float32)
    plain, recent = (moved(values, 1, 0, momenta)[-1] for momenta in (None, [0.99]))
    assert plain < 0.5 * values[-1] < 0.75 * values[-1] < recent
    assert abs(moved(np.ones(10, np.float32), 1, -1e3, [0.99])[-1] - 1) < 0.5
    bounded = moved(np.r_[np.zeros(99), 1].astype(np.float32), 1, 0, [0.5])[-1]
    np.testing.assert_allclose(bounded, 0.5)


def test_moving_statistics_are_a_plain_mean_at_first():
    """Up to step 100 the mean of all batches so far, whatever the initial value."""
    values = np.random.default_rng(3).normal(5, 2, 100).astype(np.float32)
    means = moved(values, 1, -1e3)
    np.testing.assert_allclose(means, np.cumsum(values, dtype=np.float64) / np.arange(1, 101),
                               rtol=1e-4)


def test_moving_statistics_equal_those_of_keras_from_step_100():
    """From then on the update of the stock layer with its default momentum, over many steps."""
    keras_default = keras.layers.BatchNormalization()
    assert (keras_default.momentum, keras_default.epsilon) == (
        batchnorm.MOMENTUM, batchnorm.EPSILON)
    values = np.random.default_rng(4).normal(5, 2, 50).astype(np.float32)
    layer = keras.layers.BatchNormalization(momentum=batchnorm.MOMENTUM)
    layer.build((None, 1, 1, 1))
    layer.moving_mean.assign([2.0])
    expected = []
    for value in values:
        layer(np.full((2, 1, 1, 1), value, np.float32), training=True)
        expected.append(layer.moving_mean.numpy()[0])
    np.testing.assert_allclose(moved(values, 100, 2.0), expected, rtol=1e-5)
    # at an earlier step the result is closer to the plain mean
    assert abs(moved(values[:1], 50, 2.0)[0] - expected[0]) > 1e-2


def test_the_momentum_depends_on_the_number_of_the_step(make, batch):
    """``Sequential.step`` counts from 0, ``update_moving`` from 1: step 100 has momentum 0.99."""
    start = [v.numpy() for v in Weights(make()).moving]
    statistics = {}
    for step in (0, 1, 200):
        strategy = Sequential(make(), Settings(dropout=0.0, learning_rate=0.0))
        strategy.step([Batch(*batch, SEED)], ROWS, step)
        statistics[step] = [v.numpy() for v in strategy.weights.moving]
    for before, first, second, late in zip(
            start, statistics[0], statistics[1], statistics[200], strict=True):
        np.testing.assert_allclose(second, (before + first) / 2, rtol=1e-5)
        np.testing.assert_allclose(late, before * 0.99 + first * 0.01, rtol=1e-5)


def test_accumulated_micro_batches_are_one_step_with_their_mean(make, batch):
    """Gradients are divided by the rows of the step, also with micro-batches of different sizes,
    and the accumulators are cleared after the step: the second step does the same as the first."""
    results = []
    for split in ([4], [3, 4]):
        settings = Settings(dropout=0.0, accumulate=len(split), optimizer="sgd", sync_bn=True,
                            learning_rate=1.0, precision="float64", decay=0.0)
        network = make("float64")
        strategy = Sequential(network, settings)
        # the same picture throughout, so that each micro-batch has the statistics of all
        same = [Batch(np.repeat(batch[0][:1], n, 0), np.ones(n, np.uint8), SEED)
                for n in np.diff([0, *split])]
        sums = [strategy.step(same, 4, step)[2:4] for step in range(2)]
        results.append((sums, [v.numpy() for v in strategy.weights.all]))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-9)
    for whole, accumulated in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(whole, accumulated, rtol=1e-7, atol=1e-9)


def test_a_batch_without_rows_has_no_effect(make, batch):
    """No gradient, no loss and no share of the statistics: an empty micro-batch and a full one."""
    empty = Batch(batch[0][:0], batch[1][:0], SEED)
    for sync_bn in (False, True):
        strategy = Sequential(make(), Settings(dropout=0.0, sync_bn=sync_bn))
        if not sync_bn:
            assert all(not gradient.any() for gradient in strategy.gradients(empty, ROWS))
    results = []
    for accumulate, batches in ((1, [Batch(*batch, SEED)]), (2, [empty, Batch(*batch, SEED)])):
        strategy = Sequential(make(), Settings(dropout=0.0, accumulate=accumulate))
        sums = strategy.step(batches, ROWS, 0)[2:4]
        results.append((sums, [v.numpy() for v in strategy.weights.all]))
    assert np.array_equal(results[0][0], results[1][0])
    for expected, actual in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-8)


def test_dropout_reaches_the_training_step(make, batch):
    """The same seed gives the same gradient, another seed a different one."""
    strategy = Sequential(make(), Settings(dropout=0.5))
    first, same, other = (
        strategy.gradients(Batch(*batch, np.array([seed, 1], np.int32)), ROWS)[-2]
        for seed in (1, 1, 2))
    assert np.isfinite(first).all()
    assert np.array_equal(first, same) and not np.array_equal(first, other)
