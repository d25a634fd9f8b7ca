"""Bootstrap intervals: against drawing rows by hand, and with known standard errors."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from hpc_deepfake import metrics
from hpc_deepfake.metrics import intervals


def bootstrap_by_hand(p, y, groups, resamples, seed):
    """Sample by sample, with repeated rows and the AUC of ``metrics``."""
    random = np.random.default_rng(seed)
    _, group = np.unique(groups, return_inverse=True)
    count = group.max() + 1
    samples = []
    for _ in range(resamples):
        times = random.multinomial(count, np.full(count, 1 / count))
        rows = np.repeat(np.arange(len(p)), times[group])
        figures = metrics.evaluate(p[rows], y[rows])
        samples.append([np.nan if figures[name] is None else figures[name]
                        for name in ("accuracy", "auc", "balanced_accuracy")])
    return np.nanpercentile(np.array(samples), (2.5, 97.5), axis=0)


@pytest.mark.parametrize("ties", [False, True])
def test_bootstrap_equals_that_of_repeated_rows(ties):
    """Weights give the same intervals as drawing the rows themselves."""
    random = np.random.default_rng(1)
    groups = random.integers(0, 12, 90)
    y = random.integers(0, 2, 90)
    p = np.clip(random.normal(0.35 + 0.3 * y, 0.25), 0, 1)
    p = np.round(p, 1) if ties else p
    ends = intervals.bootstrap(p, y, groups, resamples=50, seed=4)
    expected = bootstrap_by_hand(p, y, groups, 50, 4)
    assert ends["accuracy"] == pytest.approx(expected[:, 0])
    assert ends["auc"] == pytest.approx(expected[:, 1])
    assert ends["balanced_accuracy"] == pytest.approx(expected[:, 2])


def test_groups_widen_the_interval():
    """A hundred pictures in ten groups, each all right or all wrong, count like ten pictures."""
    right = np.repeat([1, 1, 1, 0, 1, 1, 0, 1, 1, 1], 10)
    y = np.tile([0, 1], 50)
    p = np.where(right == 1, y, 1 - y).astype(float)
    wide, narrow = (intervals.bootstrap(p, y, groups)["accuracy"]
                    for groups in (np.repeat(np.arange(10), 10), np.arange(100)))
    # standard errors: sqrt(.8 · .2 / n)
    assert wide[1] - wide[0] == pytest.approx(3.92 * 0.126, rel=0.2)
    assert narrow[1] - narrow[0] == pytest.approx(3.92 * 0.04, rel=0.2)


def test_intervals_are_reproducible_and_may_be_undefined():
    """The same seed gives the same ends; one group has no interval, one class no AUC."""
    p, y, groups = np.array([0.2, 0.9, 0.4, 0.7]), np.array([0, 1, 1, 0]), np.arange(4)
    assert intervals.bootstrap(p, y, groups) == intervals.bootstrap(p, y, groups)
    nothing = {"accuracy": None, "balanced_accuracy": None, "auc": None}
    assert intervals.bootstrap(p, y, np.zeros(4, int)) == nothing
    ends = intervals.bootstrap(p, np.ones(4), groups)
    assert ends["auc"] is ends["balanced_accuracy"] is None and ends["accuracy"] is not None
    assert intervals.bootstrap([], [], []) == nothing
    assert intervals.bootstrap([0.2, np.nan, 0.4, 0.7], y, groups) == nothing


def test_memory_is_that_of_one_sample():
    """Of many pictures: a few arrays of them, however many samples are drawn."""
    random = np.random.default_rng(0)
    y, p = random.integers(0, 2, 20_000), random.random(20_000)
    tracemalloc.start()
    intervals.bootstrap(p, y, np.arange(20_000) // 2, resamples=50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * p.nbytes
