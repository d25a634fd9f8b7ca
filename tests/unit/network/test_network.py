"""The fused training pass computes what stock Keras computes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from hpc_deepfake.network import batchnorm, table
from hpc_deepfake.network.batchnorm import fused, synchronised, update_moving
from hpc_deepfake.network.fused import Weights, forward
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.strategies.base import Batch
from hpc_deepfake.strategies.sequential import Sequential

SEED = np.zeros(2, np.int32)
ROWS = 4


def alone(x, gamma, beta, name, present=1):
    """Synchronised over one rank."""
    return synchronised(x, gamma, beta, present, lambda value, _: value, name)


def own(x, gamma, beta, name):
    """Fused; it needs no name."""
    return fused(x, gamma, beta)


def close(got, want, tolerance: float) -> None:
    """The difference is small beside the whole tensor; element by element, what cancels to near
    zero could be any number."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape
    assert np.linalg.norm(got - want) <= tolerance * np.linalg.norm(want)


@pytest.fixture(scope="module")
def batch() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return (random.integers(0, 256, (ROWS, 128, 128, 3)).astype(np.uint8),
            np.array([0, 1, 1, 0], np.uint8))


@pytest.fixture
def make():
    """Networks with the same weights, none at its start; later ones are float32 again."""
    def network(precision: str = "float32") -> keras.Model:
        keras.utils.set_random_seed(5)
        made = table.build()
        random = np.random.default_rng(5)
        for variable in (v for v in made.weights if "kernel" not in v.path):
            low = -0.3 if "bias" in variable.path else 0.5  # ReLU's two sides matter
            variable.assign(random.uniform(low, low + 0.6, variable.shape))
        if precision == "float32":
            return made
        other = table.build(precision)
        other.set_weights(made.get_weights())
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
def test_training_pass_is_the_keras_models(make, batch, precision, normalise, tolerance):
    """Probabilities, every weight's gradient and the batch statistics, in training, against Keras
    in float64. (Keras itself in float32 is 3e-3 off at the first convolution, and so is
    TensorFlow's fused operation.)"""
    network = make(precision)
    weights = Weights(network)
    with tf.GradientTape() as tape:
        logits, statistics = forward(weights, batch[0], SEED, 0.0, normalise,
                                     weights.conv1[0].dtype)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(
            batch[1].astype(np.int32), logits))
    gradients = tape.gradient(loss, weights.trainable)
    probabilities, wanted, moving = stock(make("float64"), *batch)
    assert probabilities.std() > 0.01
    close(tf.nn.softmax(logits), probabilities, tolerance)
    assert [v.path for v in network.trainable_variables] == [
        next(one.path for one in network.weights if one.value is v) for v in weights.trainable]
    for got, want in zip(gradients, wanted, strict=True):
        assert got.dtype == precision
        close(got, want, tolerance)
    for got, want in zip([value for pair in statistics for value in pair], moving, strict=True):
        close(got, want, tolerance)


def test_inference_is_the_keras_model(make, batch):
    """A strategy's probabilities are the model's with its moving statistics; a batch of any size,
    and the same for a row whatever stands beside it."""
    network = make()
    strategy = Sequential(network, Settings())
    want = network(batch[0], training=False)[:, 1]
    close(strategy.probabilities(batch[0]), want, 1e-6)
    close(strategy.probabilities(batch[0][2:3]), want[2:3], 1e-5)
    close(network.predict_on_batch(batch[0])[:, 1], want, 1e-6)


def test_inference_after_one_step_is_the_training_pass(make, batch):
    """The first step's moving statistics are the batch's own: without the start's bias, the
    network has seen this batch as it sees it in inference."""
    network = make()
    strategy = Sequential(network, Settings(dropout=0.0, learning_rate=0.0))
    done = strategy.step([Batch(*batch, SEED)], ROWS, 0)
    p = strategy.probabilities(batch[0]).astype(np.float64)
    wanted = -np.log(np.where(batch[1] == 1, p, 1 - p))
    np.testing.assert_allclose(done.loss, wanted.sum(), rtol=1e-3)
    assert (done.right, done.stopped) == (((p > 0.5) == batch[1]).sum(), False)
    assert done.waited >= 0


def test_no_weight_is_added(make, batch):
    """Training works on the Keras model's own variables, all of them, and makes no others."""
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
    assert len(strategy.state()) == 16 + 2 * 12  # and Adam's two moments of the trained ones


def test_bfloat16_is_close_to_float32(make, batch):
    """Logits within 2%, gradients in float32 that point the same way; and it is another type:
    the logits aren't the very same."""
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
    (want, wanted), (got, gradients) = results
    close(got, want, 0.02)
    assert not np.array_equal(got, want)
    cosines = []
    for one, other in zip(gradients, wanted, strict=True):
        cosines.append(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
    # sums over all pixels come first; without AVX-512 products are summed in bfloat16 too
    least = 0.999 if "avx512f" in Path("/proc/cpuinfo").read_text() else 0.99
    assert min(cosines) > 0.85 and min(cosines[6:]) > least


def dropped(dropout: float, seed: tuple[int, int], rows: int = 32) -> np.ndarray:
    """What dropout makes of ones: float (rows, 128)."""
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
    """The same mask for the same seed, another for another in either half; none at 0."""
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


def ours(function, x, upstream, gamma, beta) -> dict[str, np.ndarray]:
    """The same of ``function``, named (x, gamma, beta, name) → (y, statistics)."""
    values = [tf.constant(value) for value in (x, gamma, beta)]
    with tf.GradientTape() as tape:
        tape.watch(values)
        y, statistics = function(*values, "bn")
    gradients = tape.gradient(y, values, upstream)
    return dict(zip(("y", "x", "gamma", "beta", "mean", "variance"),
                    (v.numpy() for v in (y, *gradients, *statistics)), strict=True))


def numbers(shape: tuple[int, ...], kind: type) -> list[np.ndarray]:
    """x of unlike means and spreads per channel, a gradient from above, gamma, beta."""
    random = np.random.default_rng(7)
    x = random.normal(size=shape) * np.arange(1, shape[-1] + 1) + 3 * np.arange(shape[-1])
    return [value.astype(kind) for value in (
        x, random.normal(size=shape), random.uniform(0.5, 2, shape[-1]),
        random.normal(size=shape[-1]))]


@pytest.mark.parametrize(("function", "kind", "tolerance"), [
    (own, np.float32, 1e-5), (alone, np.float32, 1e-5), (alone, np.float64, 1e-12)])
@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (1, 1, 2, 3), (2, 1, 1, 1)])
def test_batch_normalisation_is_keras_layer(function, kind, tolerance, shape):
    """Outputs, gradients of x, gamma and beta, and the statistics that go into the moving ones;
    with as few as two values per channel, where a corrected variance is twice the other."""
    inputs = numbers(shape, kind)
    got, want = ours(function, *inputs), keras_layer(*inputs)
    scale = {"x": np.abs(inputs[1]).max()}  # the gradient of x cancels to nothing for two values
    for name in want:
        assert got[name].dtype == kind
        np.testing.assert_allclose(got[name], want[name], rtol=tolerance * 10,
                                   atol=tolerance * scale.get(name, 1.0), err_msg=name)
    uncorrected = inputs[0].astype(np.float64).var((0, 1, 2))
    corrected = inputs[0].astype(np.float64).var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(got["variance"], uncorrected, rtol=tolerance * 10)
    assert (np.abs(corrected / got["variance"] - 1) > 1 / np.prod(shape[:3]) / 2).all()


@pytest.mark.parametrize("function", [own, alone])
def test_statistics_survive_a_large_mean(function):
    """Values of 1,000 ± 1 in float32: the variance is right to 0.1%."""
    x, upstream, gamma, beta = numbers((4, 20, 20, 2), np.float32)
    x = (x - x.mean((0, 1, 2))) / x.std((0, 1, 2)) + 1000
    found = ours(function, x, upstream, gamma, beta)
    np.testing.assert_allclose(found["variance"], x.astype(np.float64).var((0, 1, 2)), rtol=1e-3)
    np.testing.assert_allclose(found["mean"], x.astype(np.float64).mean((0, 1, 2)), rtol=1e-6)


def test_statistics_take_no_gradient():
    """Moving averages are no path for a gradient."""
    for function in (own, alone):
        x, _, gamma, beta = (tf.constant(v) for v in numbers((2, 3, 3, 2), np.float32))
        with tf.GradientTape() as tape:
            tape.watch(x)
            _, statistics = function(x, gamma, beta, "bn")
            value = tf.reduce_sum(statistics.mean) + tf.reduce_sum(statistics.variance)
        assert tape.gradient(value, x) is None


def test_synchronised_over_ranks_is_keras_layer_over_all_rows():
    """Shards of 3, 1 and 2 rows, and a rank whose row doesn't count: the ranks' outputs and
    gradients of x, and the sums of those of gamma and beta, are Keras' for the whole batch."""
    x, upstream, gamma, beta = numbers((6, 3, 2, 4), np.float64)
    shards = [slice(0, 3), slice(3, 4), slice(4, 6), None]
    sent: dict[str, list[np.ndarray]] = {}

    def rank(number: int, part: slice | None, sums: dict[str, np.ndarray]) -> dict:
        def allreduce(value, name):
            sent.setdefault(name, [None] * len(shards))[number] = value.numpy()
            return tf.constant(sums.get(name, value.numpy()))

        present = part is not None
        mine, above = (x[part], upstream[part]) if present else (x[:1] + 50, 0 * upstream[:1])
        return ours(lambda *values: synchronised(*values[:3], float(present), allreduce,
                                                 values[3]), mine, above, gamma, beta)

    sums: dict[str, np.ndarray] = {}
    for name in ("bn_forward", "bn_backward", None):  # each needs the sums before it
        with np.errstate(all="ignore"):
            found = [rank(number, part, sums) for number, part in enumerate(shards)]
        if name:
            sums[name] = np.sum(sent[name], axis=0)
    want = keras_layer(x, upstream, gamma, beta)
    for name in ("y", "x"):
        np.testing.assert_allclose(np.concatenate([one[name] for one in found[:3]]), want[name],
                                   rtol=1e-9, atol=1e-12)
    for name in ("gamma", "beta"):
        np.testing.assert_allclose(sum(one[name] for one in found), want[name], rtol=1e-9)
    for name in ("mean", "variance"):
        for one in found:
            np.testing.assert_allclose(one[name], want[name], rtol=1e-9)
    assert not found[3]["x"].any()


def moved(values: np.ndarray, first: int, start: float) -> np.ndarray:
    """A moving statistic after each of some steps, the first of them number ``first``."""
    variable, after = tf.Variable(np.float32([start])), []
    for step, value in enumerate(values, first):
        update_moving([variable], [tf.constant([value], tf.float32)], tf.constant(step, tf.int64))
        after.append(variable.numpy()[0])
    return np.array(after)


def test_moving_statistics_are_a_plain_mean_at_first():
    """Up to step 100 the mean of all batches so far, whatever the variable began with."""
    values = np.random.default_rng(3).normal(5, 2, 100).astype(np.float32)
    got = moved(values, 1, -1e3)
    np.testing.assert_allclose(got, np.cumsum(values, dtype=np.float64) / np.arange(1, 101),
                               rtol=1e-4)


def test_moving_statistics_are_keras_from_step_100():
    """From then on the stock layer's own update with its default momentum, over many steps."""
    keras_default = keras.layers.BatchNormalization()
    assert (keras_default.momentum, keras_default.epsilon) == (
        batchnorm.MOMENTUM, batchnorm.EPSILON)
    values = np.random.default_rng(4).normal(5, 2, 50).astype(np.float32)
    layer = keras.layers.BatchNormalization(momentum=batchnorm.MOMENTUM)
    layer.build((None, 1, 1, 1))
    layer.moving_mean.assign([2.0])
    want = []
    for value in values:
        layer(np.full((2, 1, 1, 1), value, np.float32), training=True)
        want.append(layer.moving_mean.numpy()[0])
    np.testing.assert_allclose(moved(values, 100, 2.0), want, rtol=1e-5)
    # the step before is still nearer to the mean
    assert abs(moved(values[:1], 50, 2.0)[0] - want[0]) > 1e-2


def test_a_step_moves_the_statistics_by_its_number(make, batch):
    """``Sequential.step`` counts from 0, ``update_moving`` from 1: step 100 has momentum 0.99."""
    start = [v.numpy() for v in Weights(make()).moving]
    found = {}
    for step in (0, 1, 200):
        strategy = Sequential(make(), Settings(dropout=0.0, learning_rate=0.0))
        strategy.step([Batch(*batch, SEED)], ROWS, step)
        found[step] = [v.numpy() for v in strategy.weights.moving]
    for before, first, second, late in zip(start, found[0], found[1], found[200], strict=True):
        np.testing.assert_allclose(second, (before + first) / 2, rtol=1e-5)
        np.testing.assert_allclose(late, before * 0.99 + first * 0.01, rtol=1e-5)


def test_accumulated_micro_batches_are_one_step_with_their_mean(make, batch):
    """Gradients are divided by the step's rows, unequal micro-batches too, and what was held is
    forgotten after the step: the second step does what the first one did."""
    results = []
    for split in ([4], [3, 4]):
        settings = Settings(dropout=0.0, accumulate=len(split), optimizer="sgd", sync_bn=True,
                            learning_rate=1.0, precision="float64", decay=0.0)
        network = make("float64")
        strategy = Sequential(network, settings)
        # the same picture throughout: the micro-batches' own statistics are those of all
        same = [Batch(np.repeat(batch[0][:1], n, 0), np.ones(n, np.uint8), SEED)
                for n in np.diff([0, *split])]
        sums = [strategy.step(same, 4, step)[2:4] for step in range(2)]
        results.append((sums, [v.numpy() for v in strategy.weights.all]))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-9)
    for one, other in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-9)


def test_a_batch_without_rows_counts_for_nothing(make, batch):
    """No gradient, no loss, no part in the statistics: an empty micro-batch beside the whole."""
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
    for one, other in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)


def test_dropout_reaches_the_training_step(make, batch):
    """The same seed gives the same gradient, another one another."""
    strategy = Sequential(make(), Settings(dropout=0.5))
    one, same, other = (
        strategy.gradients(Batch(*batch, np.array([seed, 1], np.int32)), ROWS)[-2]
        for seed in (1, 1, 2))
    assert np.isfinite(one).all()
    assert np.array_equal(one, same) and not np.array_equal(one, other)
