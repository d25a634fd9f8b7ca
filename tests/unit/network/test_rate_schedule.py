"""Learning rates that follow the epochs of a run; the others are in test_optimizer.py."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from hpc_deepfake.network.schedule import Schedule, schedule_of
from hpc_deepfake.network.settings import Course, Settings


def rates(schedule: Schedule, rows: int, per_step: int, epochs: int) -> list[float]:
    """Of all steps of a run."""
    found, step = [], 0
    for epoch in range(epochs):
        schedule.begin(Course(epoch, 0, step, rows, per_step))
        for _ in range(0, rows, per_step):
            found.append(float(schedule.at(tf.constant(step, tf.int64))))
            assert found[-1] == pytest.approx(schedule.number(step), rel=1e-15)
            step += 1
    return found


def test_cosine_is_that_of_keras():
    """Loshchilov & Hutter's; every step has the same number of rows."""
    reference = keras.optimizers.schedules.CosineDecay(0.1, 30)
    np.testing.assert_allclose(
        rates(Schedule(0.1, kind="cosine", epochs=5), 60, 10, 5),
        [float(reference(step)) for step in range(30)], rtol=1e-5, atol=1e-8)


def test_cosine_follows_the_rows():
    """The last batch of an epoch is smaller; twice the ranks have half of the steps, and the same
    rate where the same rows are done. Its end is 0."""
    schedule = Schedule(1.0, kind="cosine", epochs=3)
    one, two = rates(schedule, 70, 20, 3), rates(schedule, 70, 40, 3)
    done = [epoch * 70 + rows for epoch in range(3) for rows in (0, 20, 40, 60)]
    np.testing.assert_allclose(one, (1 + np.cos(np.pi * np.array(done) / 210)) / 2, rtol=1e-14)
    assert two == [rate for place, rate in enumerate(one) if place % 4 in (0, 2)]
    schedule.begin(Course(3, 0, 12, 70, 20))
    assert schedule.number(12) == 0 == float(schedule.at(tf.constant(12, tf.int64)))


def test_a_round_that_begins_within_an_epoch_has_the_same_bits():
    """A run that was stopped after any step and resumed."""
    schedule = Schedule(0.3, kind="cosine", epochs=7)
    whole = rates(schedule, 70, 20, 7)
    for step in range(28):
        schedule.begin(Course(step // 4, step % 4 * 20, step, 70, 20))
        assert float(schedule.at(tf.constant(step, tf.int64))) == whole[step]


def test_step_multiplies_every_few_epochs():
    np.testing.assert_allclose(
        rates(Schedule(1.0, kind="step", epochs=2, factor=0.5), 30, 15, 5),
        [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25], rtol=1e-14)


def test_plateau_has_the_factor_that_the_run_has_reached():
    schedule = Schedule(0.5, kind="plateau", epochs=2)
    schedule.begin(Course(4, 0, 100, 30, 15, 0.25))
    assert float(schedule.at(tf.constant(101, tf.int64))) == 0.125 == schedule.number(101)


@pytest.mark.parametrize("kind", ["cosine", "step", "plateau"])
def test_warm_up_and_scaling_multiply_every_schedule(kind):
    settings = Settings(rate_schedule=kind, rate_epochs=2, warmup_steps=4, learning_rate=0.1,
                        scale_rate="linear")
    plain = rates(Schedule(0.1, kind=kind, epochs=2, factor=0.1), 30, 10, 4)
    warm = rates(schedule_of(settings, 5), 30, 10, 4)
    rising = 1 + 4 * np.minimum(np.arange(12) / 4, 1)
    np.testing.assert_allclose(warm, rising * plain, rtol=1e-13, atol=1e-30)


def test_the_graph_of_the_default_is_that_of_earlier_versions():
    """No variable is read: a division and products only."""
    schedule = Schedule(0.1, 0.1, 2.0, 3)
    graph = tf.function(schedule.at).get_concrete_function(tf.TensorSpec((), tf.int64)).graph
    assert "ReadVariableOp" not in {op.type for op in graph.get_operations()}
