"""The optimizers equal those of Keras, with the decay of the learning rate of Keras 2."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from hpc_deepfake.network.optimizer import (
    LAMB,
    OPTIMIZERS,
    SGD,
    Adam,
    Extras,
    decay_mask,
    optimizer_of,
)
from hpc_deepfake.network.schedule import Schedule
from hpc_deepfake.network.settings import Settings


class KerasSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """The same schedule, written independently, for Keras' optimizers."""

    def __init__(self, rate: float, decay: float, warmup: int) -> None:
        self.rate, self.decay, self.warmup = rate, decay, warmup

    def __call__(self, step):
        step = keras.ops.cast(step, "float64")
        rate = self.rate / (1.0 + self.decay * step)
        return rate * keras.ops.minimum(1.0, (step + 1.0) / max(self.warmup, 1))

    def get_config(self):
        return vars(self)


def gradients(steps: int, kind: str) -> list[list[np.ndarray]]:
    """Of two variables, from large to tiny, with zeros among them."""
    random = np.random.default_rng(1)
    pairs = []
    for step in range(steps):
        pair = [random.normal(size=(3, 4)) * 10.0 ** -(step % 8), random.normal(size=5)]
        pair[0][0] = 0
        pairs.append([value.astype(kind) for value in pair])
    return pairs


def start(kind: str) -> list[np.ndarray]:
    random = np.random.default_rng(2)
    return [random.normal(size=shape).astype(kind) for shape in ((3, 4), (5,))]


def run(optimizer: type, schedule: Schedule, kind: str, steps: int,
        extras: Extras | None = None) -> list[list[np.ndarray]]:
    """The variables after each step."""
    variables = [tf.Variable(value) for value in start(kind)]
    instance, after = optimizer(variables, schedule, extras), []
    for step, pair in enumerate(gradients(steps, kind)):
        instance.apply([tf.constant(value) for value in pair], tf.constant(step, tf.int64))
        after.append([v.numpy() for v in variables])
    return after


def run_keras(optimizer: keras.optimizers.Optimizer, kind: str,
              steps: int) -> list[list[np.ndarray]]:
    variables = [keras.Variable(value, dtype=kind, name=name)
                 for value, name in zip(start(kind), ("kernel", "bias"), strict=True)]
    if optimizer.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    after = []
    for pair in gradients(steps, kind):
        optimizer.apply([tf.constant(value) for value in pair], variables)
        after.append([v.numpy() for v in variables])
    return after


@pytest.fixture(params=["float32", "float64"])
def kind(request):
    """The type of the weights; the optimizers of Keras take theirs from floatx."""
    before = keras.config.floatx()
    keras.config.set_floatx(request.param)
    yield request.param
    keras.config.set_floatx(before)


@pytest.mark.parametrize(("decay", "warmup"), [(1e-6, 0), (0.1, 0), (0.05, 6)])
@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_steps_are_those_of_keras(kind, name, decay, warmup):
    """Every variable after each of 30 steps, in float32 and float64, with decay and warm-up."""
    reference = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}[name]
    actual = run(OPTIMIZERS[name], Schedule(0.01, decay, None, warmup), kind, 30)
    expected_steps = run_keras(reference(KerasSchedule(0.01, decay, warmup)), kind, 30)
    tolerance = {"float32": 1e-5, "float64": 1e-6}[kind]  # Keras rounds its betas to float32
    for step, keras_step in zip(actual, expected_steps, strict=True):
        for value, expected in zip(step, keras_step, strict=True):
            assert value.dtype == kind
            np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance)
    assert not np.allclose(actual[0][0], actual[-1][0], atol=1e-3)


@pytest.mark.parametrize(("name", "extras", "reference"), [
    ("sgd", Extras(momentum=0.875), {"momentum": 0.875}),
    ("sgd", Extras(momentum=0.75, nesterov=True), {"momentum": 0.75, "nesterov": True}),
    ("sgd", Extras(momentum=0.5, weight_decay=0.125), {"momentum": 0.5, "weight_decay": 0.125}),
    ("adamw", Extras(weight_decay=0.1), {"weight_decay": 0.1}),
    ("lamb", Extras(), {})], ids=["momentum", "nesterov", "sgdw", "adamw", "lamb"])
def test_steps_with_momentum_decay_and_layerwise_rates_are_those_of_keras(kind, name, extras,
                                                                          reference):
    """Every variable after each of 30 steps; the bias does not decay."""
    keras_class = {"sgd": keras.optimizers.SGD, "adamw": keras.optimizers.AdamW,
                   "lamb": keras.optimizers.Lamb}[name]
    actual = run(OPTIMIZERS[name], Schedule(0.02, 0.05), kind, 30, extras)
    expected_steps = run_keras(keras_class(KerasSchedule(0.02, 0.05, 0), **reference), kind, 30)
    # Keras rounds its constants to float32: those of SGD are exact in it
    tolerance = {"float32": 2e-5, "float64": 1e-12 if name == "sgd" else 1e-6}[kind]
    for step, keras_step in zip(actual, expected_steps, strict=True):
        for value, expected in zip(step, keras_step, strict=True):
            np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance)
    plain = run(OPTIMIZERS[name], Schedule(0.02, 0.05), kind, 30)
    assert name == "lamb" or not np.allclose(actual[-1][0], plain[-1][0], atol=1e-3)


def lamb_by_hand(values: list[np.ndarray], pairs: list[list[np.ndarray]],
                 decay: float) -> list[np.ndarray]:
    """You et al. 2020, algorithm 2, with a rate of 0.01 and decay of the first variable only."""
    values, state = list(values), [[0.0, 0.0] for _ in values]
    for step, pair in enumerate(pairs, 1):
        for place, gradient in enumerate(pair):
            first, second = state[place]
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            state[place] = [first, second]
            update = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-7)
            update = update + decay * values[place] * (place == 0)
            ratio = np.linalg.norm(values[place]) / np.linalg.norm(update)
            values[place] = values[place] - 0.01 * ratio * update
    return values


def test_lamb_by_hand():
    """With the decay inside the step, which Keras puts outside, in float64, to 1e-12."""
    actual = run(LAMB, Schedule(0.01), "float64", 12, Extras(weight_decay=0.3))[-1]
    for value, expected in zip(
            actual, lamb_by_hand(start("float64"), gradients(12, "float64"), 0.3), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_lamb_of_shards_has_the_norms_of_whole_variables():
    """Two ranks with a part of the first variable each and the second whole: their squares of the
    first add up, and with those of the whole each makes its part of the step."""
    def steps(part: slice, whole) -> list[np.ndarray]:
        first, second = start("float64")
        variables = [tf.Variable(first[:, part]), tf.Variable(second)]
        lamb = LAMB(variables, Schedule(0.01), Extras(weight_decay=0.3, whole=whole))
        for step, (first, second) in enumerate(gradients(4, "float64")):
            lamb.apply([tf.constant(first[:, part]), tf.constant(second)],
                       tf.constant(step, tf.int64))
        return [variable.numpy() for variable in variables]

    parts, recorded, held = (slice(4), slice(3), slice(3, 4)), [], {}

    def record(squares: tf.Tensor) -> tf.Tensor:
        recorded.append(squares.numpy())
        return squares

    values = [steps(parts[0], record)]
    for part in parts[1:]:
        given, held[part.start] = iter(recorded), []
        values.append(steps(part, lambda own, given=given, kept=held[part.start]: (
            kept.append(own.numpy()), tf.constant(next(given)))[1]))
    for whole, one, other in zip(recorded, *held.values(), strict=True):
        np.testing.assert_allclose(one + other, whole * [1, 2], rtol=1e-12)
    np.testing.assert_allclose(np.hstack([values[1][0], values[2][0]]), values[0][0], rtol=1e-14)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_flat_pieces_decay_as_their_variables(name):
    """As a parameter server holds them: both variables in one, with a mask."""
    settings = Settings(optimizer=name, weight_decay=0.2, learning_rate=0.1,
                        momentum=0.9 if name == "sgd" else 0.0)
    whole = [tf.Variable(value) for value in start("float64")]
    piece = tf.Variable(np.concatenate([value.ravel() for value in start("float64")]))
    both = (optimizer_of(settings, whole, 1),
            optimizer_of(settings, [piece], 1, [decay_mask(whole)]))
    for step, pair in enumerate(gradients(5, "float64")):
        flat = [np.concatenate([value.ravel() for value in pair])]
        for optimizer, given in zip(both, (pair, flat), strict=True):
            optimizer.apply([tf.constant(value) for value in given], tf.constant(step, tf.int64))
    np.testing.assert_allclose(piece, np.concatenate([value.numpy().ravel() for value in whole]),
                               rtol=1e-14)


def test_averaged_weights():
    """Those of each step, weighted, and not the initial ones; ``swap`` and back changes nothing."""
    variables = [tf.Variable(value) for value in start("float64")]
    optimizer = Adam(variables, Schedule(0.1), Extras(ema=0.5))
    expected, values = 0.0, []
    for step, pair in enumerate(gradients(12, "float64")):
        optimizer.apply([tf.constant(value) for value in pair], tf.constant(step, tf.int64))
        values.append(variables[0].numpy())
        keep = min(0.5, step / (step + 9))
        expected = keep * expected + (1 - keep) * values[-1]
    assert len(optimizer.slots) == 6
    np.testing.assert_allclose(optimizer.slots[4], expected, rtol=1e-12)
    plain = run(Adam, Schedule(0.1), "float64", 12)
    assert np.array_equal(values[-1], plain[-1][0])
    before = [v.numpy() for v in (*variables, *optimizer.slots)]
    optimizer.swap()
    np.testing.assert_array_equal(variables[0], before[2 + 4])
    np.testing.assert_array_equal(optimizer.slots[4], before[0])
    optimizer.swap()
    for variable, value in zip((*variables, *optimizer.slots), before, strict=True):
        np.testing.assert_array_equal(variable, value)


@pytest.mark.parametrize(("settings", "copies"), [
    ({}, 2), ({"optimizer": "sgd"}, 0), ({"optimizer": "sgd", "momentum": 0.9, "ema": 0.9}, 2),
    ({"optimizer": "lamb", "ema": 0.9}, 3)])
def test_settings_know_the_size_of_the_state(settings, copies):
    """As the disk must have room for it, and strategies cut it."""
    variables = [tf.Variable(value) for value in start("float32")]
    made = Settings(**settings)
    assert len(optimizer_of(made, variables, 1).slots) == made.copies * 2 == copies * 2


def test_adam_by_hand():
    """Kingma & Ba's formulas with Keras' constants, in float64, to 1e-12."""
    schedule = Schedule(0.01, 0.3)
    value, first, second = start("float64")[0], 0.0, 0.0
    for step, (gradient, _) in enumerate(gradients(12, "float64")):
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        # epsilon beside the uncorrected root, as in Keras and TensorFlow
        rate = 0.01 / (1 + 0.3 * step) * np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
        value = value - rate * first / (np.sqrt(second) + 1e-7)
    np.testing.assert_allclose(run(Adam, schedule, "float64", 12)[-1][0], value, rtol=1e-12)


def test_learning_rate_decays_per_step():
    """rate / (1 + decay·t), t from 0: with the defaults, 1e-4 at first and half at a million."""
    defaults = Settings()
    schedule = Schedule(defaults.learning_rate, defaults.decay)
    for step, expected in ((0, 1e-4), (1, 1e-4 / 1.000001), (1000, 1e-4 / 1.001), (10**6, 0.5e-4),
                       (3 * 10**9, 1e-4 / 3001)):
        rate = schedule.at(tf.constant(step, tf.int64))
        assert rate.dtype == tf.float64
        np.testing.assert_allclose(rate, expected, rtol=1e-14)


def test_warm_up_is_linear_and_ends():
    """(t + 1)/N of the decayed rate during the first N steps; then all of it."""
    schedule = Schedule(1.0, 0.5, None, 4)
    rates = [float(schedule.at(tf.constant(step, tf.int64))) for step in range(7)]
    np.testing.assert_allclose(
        rates, [0.25 / 1, 0.5 / 1.5, 0.75 / 2, 1 / 2.5, 1 / 3, 1 / 3.5, 1 / 4])


@pytest.mark.parametrize(("scaling", "ranks", "factor"), [
    ("none", 8, None), ("linear", 8, 8.0), ("sqrt", 9, 3.0), ("linear", 1, 1.0), ("sqrt", 1, 1.0)])
def test_scaling_with_the_ranks(scaling, ranks, factor):
    """linear and sqrt multiply the whole schedule, none leaves it alone."""
    scale = Settings(scale_rate=scaling).rate_scale(ranks)
    assert scale == factor
    step = tf.constant(5, tf.int64)
    np.testing.assert_allclose(Schedule(0.1, 0.2, scale).at(step),
                               (factor or 1.0) * Schedule(0.1, 0.2).at(step), rtol=1e-14)


@pytest.mark.parametrize(("scale", "expected"), [
    (5.0, [1, 2, 3, 4, 5, 5]), (1.0, [1] * 6), (None, [0.25, 0.5, 0.75, 1, 1, 1])])
def test_warm_up_of_a_scaled_rate_starts_at_the_unscaled_one(scale, expected):
    """Goyal et al. 2017, with four steps; an unscaled rate starts near 0. On one rank a scaled rate
    is the unscaled one from the start."""
    schedule = Schedule(0.1, 0.0, scale, 4)
    rates = [float(schedule.at(tf.constant(step, tf.int64))) for step in range(6)]
    np.testing.assert_allclose(rates, 0.1 * np.array(expected), rtol=1e-14)


def test_sgd_by_hand():
    """Value minus rate times gradient; no state is kept between steps."""
    variable = tf.Variable([1.0, -2.0])
    sgd = SGD([variable], Schedule(0.5, 1.0))
    for step, expected in ((0, [0.5, -2.5]), (1, [0.25, -2.75])):
        sgd.apply([tf.constant([1.0, 1.0])], tf.constant(step, tf.int64))
        np.testing.assert_allclose(variable, expected)
    assert not list(sgd.slots)


def test_adam_is_resumed_from_its_slots():
    """The slots and the step are all of Adam's state: a second instance with copies of them makes
    the same steps."""
    pairs = gradients(6, "float32")
    schedule = Schedule(0.01)
    whole = run(Adam, schedule, "float32", 6)[-1]
    variables = [tf.Variable(value) for value in start("float32")]
    first = Adam(variables, schedule)
    for step in range(3):
        first.apply([tf.constant(v) for v in pairs[step]], tf.constant(step, tf.int64))
    copies = [tf.Variable(v.numpy()) for v in variables]
    second = Adam(copies, schedule)
    assert len(second.slots) == 2 * len(variables)
    for slot, value in zip(second.slots, first.slots, strict=True):
        slot.assign(value)
    for step in range(3, 6):
        second.apply([tf.constant(v) for v in pairs[step]], tf.constant(step, tf.int64))
    for resumed, expected in zip(copies, whole, strict=True):
        assert np.array_equal(resumed.numpy(), expected)
