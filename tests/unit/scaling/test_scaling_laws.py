"""Serial fractions and the fitted laws, against known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scaling_records import amdahl_rate, gustafson_rate

from hpc_deepfake.scaling import laws

SIZES = [1, 2, 4, 8, 16]


@pytest.mark.parametrize("serial", [0.0, 0.003, 0.1, 0.5, 1.0])
def test_karp_flatt_and_the_fit_of_amdahl_recover_the_serial_fraction(serial):
    rates = [amdahl_rate(serial, ranks) for ranks in SIZES]
    for ranks, rate in zip(SIZES[1:], rates[1:], strict=True):
        assert laws.karp_flatt(rate / rates[0], ranks) == pytest.approx(serial, abs=1e-12)
    fit = laws.amdahl(SIZES, rates)
    assert fit.serial == pytest.approx(serial, abs=1e-9)
    assert fit.single_rate == pytest.approx(100, rel=1e-9)
    assert fit.high - fit.low == pytest.approx(0, abs=1e-6)
    assert fit.rate(1024) == pytest.approx(amdahl_rate(serial, 1024), rel=1e-6)


@pytest.mark.parametrize("serial", [0.0, 0.05, 0.4, 1.0])
def test_the_fit_of_gustafson_recovers_the_serial_fraction(serial):
    rates = [gustafson_rate(serial, ranks) for ranks in SIZES]
    for ranks, rate in zip(SIZES[1:], rates[1:], strict=True):
        assert laws.gustafson_fraction(rate / rates[0], ranks) == pytest.approx(serial, abs=1e-12)
    fit = laws.gustafson(SIZES, rates)
    assert fit.serial == pytest.approx(serial, abs=1e-9)
    assert fit.single_rate == pytest.approx(100, rel=1e-9)


def test_fractions_over_a_base_of_several_ranks():
    """With a base of 4 ranks as the unit: a curve with s = 0.1 over that unit gives back 0.1."""
    for ranks in (8, 16):
        speedup = amdahl_rate(0.1, ranks // 4) / 100
        assert laws.karp_flatt(speedup, ranks, 4) == pytest.approx(0.1)
        assert laws.efficiency(speedup, ranks, 4) == pytest.approx(speedup * 4 / ranks)
    assert laws.karp_flatt(1.0, 4, 4) is None and laws.gustafson_fraction(1.0, 4, 4) is None


def test_two_points_have_no_band_and_one_size_no_fit():
    fit = laws.amdahl([1, 2], [100, 180])
    assert (fit.low, fit.high, fit.band(4)) == (None, None, None)
    assert fit.rate(2) == pytest.approx(180)
    assert laws.amdahl([2, 2, 2], [1, 2, 3]) is None
    assert laws.gustafson([4], [1.0]) is None


@pytest.mark.parametrize(("fit", "rate"), [(laws.amdahl, amdahl_rate),
                                           (laws.gustafson, gustafson_rate)])
def test_the_95_percent_band_holds_the_truth_in_95_percent(fit, rate):
    """Noise of 2%, 3 repeats of 5 sizes, 2,000 studies."""
    rng = np.random.default_rng(0)
    ranks = SIZES * 3
    inside = 0
    for _ in range(2000):
        rates = [rate(0.08, count) * (1 + 0.02 * rng.standard_normal()) for count in ranks]
        fitted = fit(ranks, rates)
        inside += fitted.low <= 0.08 <= fitted.high
    assert 0.93 < inside / 2000 < 0.97


def test_a_super_linear_speedup_has_no_negative_fraction():
    fit = laws.amdahl([1, 2, 4], [100, 210, 450])
    assert fit.serial == 0 and fit.low == 0
    assert laws.karp_flatt(2.1, 2) < 0  # reported unchanged


def test_two_coefficients_and_their_bounds():
    a, b, errors, _ = laws.fit_two([1, 1, 1], [1, 2, 3], [5, 8, 11])
    assert (a, b) == pytest.approx((2, 3)) and np.allclose(errors, 0)
    a, b, *_ = laws.fit_two([1, 1, 1], [1, 2, 3], [3, 2, 1])  # decreases: b is 0
    assert b == 0 and a > 0
    a, b, *_ = laws.fit_two([1, 1, 1], [1, 2, 3], [0.1, 2, 4])  # negative intercept: a is 0
    assert a == 0 and b > 0
    a, b, *_ = laws.fit_two([1, 1], [32, 32], [64, 64])  # the same batch: a and b are undetermined
    assert a + 32 * b == pytest.approx(64) and b == pytest.approx(2, rel=0.01)
