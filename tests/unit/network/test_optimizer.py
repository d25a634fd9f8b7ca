"""The optimizers equal those of Keras, with the decay of the learning rate of Keras 2."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from hpc_deepfake.network.optimizer import OPTIMIZERS, SGD, Adam, Schedule
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


def run(optimizer: type, schedule: Schedule, kind: str, steps: int) -> list[list[np.ndarray]]:
    """The variables after each step."""
    variables = [tf.Variable(value) for value in start(kind)]
    instance, after = optimizer(variables, schedule), []
    for step, pair in enumerate(gradients(steps, kind)):
        instance.apply([tf.constant(value) for value in pair], tf.constant(step, tf.int64))
        after.append([v.numpy() for v in variables])
    return after


def run_keras(optimizer: keras.optimizers.Optimizer, kind: str,
              steps: int) -> list[list[np.ndarray]]:
    variables = [keras.Variable(value, dtype=kind) for value in start(kind)]
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
