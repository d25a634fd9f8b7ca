"""Synchronous training on N ranks is sequential training on the same global batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from gradients import FULL, PLACES, SMALL, check_float32, gradient_error

from hpc_deepfake.strategies import traffic

pytestmark = [pytest.mark.mpi, pytest.mark.slow]


Found = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def results(found: Callable[..., Found]) -> dict[int, Found]:
    """What strategies.py found, by number of ranks, of the small network."""
    return {ranks: found("strategies.py", ranks, SMALL) for ranks in (1, 2, 3, 4)}


@pytest.fixture(scope="module")
def wanted(results: dict[int, Found]) -> Found:
    """What it found on one rank."""
    return results[1]


@pytest.mark.parametrize(("ranks", "size"), [(2, SMALL), (3, SMALL), (4, SMALL), (2, FULL)])
@pytest.mark.parametrize("rows", [10, 3])
def test_first_gradients_are_equal(found: Callable[..., Found], ranks: int, size: int,
                                   rows: int) -> None:
    """Also with unequal shards and a rank without rows; each tensor, and in full size too."""
    got, want = (found("strategies.py", number, size) for number in (ranks, 1))
    for place in PLACES:
        assert gradient_error(got, want, f"float64/gradient{rows}", places=[place]) <= 1e-10, place
    check_float32(got, want, f"float32/gradient{rows}")


@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("case", ["float64", "accumulate"])
def test_sgd_in_float64_is_equal(results: dict, wanted: Found, ranks: int, case: str) -> None:
    """Losses and weights within rtol 1e-9 after the steps, ragged ones among them; with
    micro-batches, gradients are also clipped."""
    for part in ("loss", "weights"):
        want, got = wanted[f"{case}/{part}"], results[ranks][f"{case}/{part}"]
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


def test_lamb_averages_and_a_weighted_loss_are_equal(results: dict, wanted: dict) -> None:
    """Losses, the whole state, and the weights with their averages in place, after three steps."""
    for part in ("loss", "state", "averaged"):
        # biases in front of a normalisation have a gradient of 0, whose rounding error LAMB scales
        np.testing.assert_allclose(results[2][f"lamb/{part}"], wanted[f"lamb/{part}"],
                                   rtol=1e-9, atol=1e-8)
    assert not np.allclose(results[2]["lamb/averaged"],
                           results[2]["lamb/state"][:len(results[2]["lamb/averaged"])], atol=1e-6)


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_adam_in_float32_has_the_same_losses(results: dict, wanted: Found, ranks: int) -> None:
    np.testing.assert_allclose(results[ranks]["adam/loss"], wanted["adam/loss"], rtol=1e-3)


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_moving_statistics_are_the_same_on_all_ranks(results: dict, ranks: int) -> None:
    """With and without --sync-bn, bit for bit, also after a step where a rank had no rows."""
    assert results[ranks]["adam/spread"] == 0
    assert results[ranks]["own_bn/spread"] == 0
    assert results[ranks]["own_bn/finite"]


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_bytes_are_those_of_the_formula(results: dict, ranks: int) -> None:
    """Of four steps, by all ranks."""
    want = 4 * ranks * traffic.sync(ranks, sizes=traffic.table(SMALL))["allreduce"]
    assert results[ranks]["own_bn/bytes"] == pytest.approx(want, abs=3)


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_the_large_reduction_can_start_before_backward_ends(results: dict, ranks: int) -> None:
    """It needs no gradient of a convolution; the rest needs those of both blocks."""
    assert results[ranks]["waits/dense_kernel"] == 0
    assert results[ranks]["waits/rest"] == 2


@pytest.mark.parametrize("ranks", [2, 4])
def test_fp16_compression_changes_little(results: dict, ranks: int) -> None:
    """The loss curve stays within 1%, and isn't the very same: something was compressed."""
    want, got = results[ranks]["fp16/reference"], results[ranks]["fp16/loss"]
    np.testing.assert_allclose(got, want, rtol=1e-2)
    assert not np.array_equal(got, want)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_all_ranks_learn_that_one_has_diverged(results: dict, ranks: int) -> None:
    """In the same step, beside requests to stop and to save, and only that rank has it of its own.
    Each rank sees NaN among its own weights, whether or not a loss shows it."""
    found, others = results[ranks], [True] * (ranks - 1)
    assert found["diverged/before"].tolist() == [*others, True]
    assert found["diverged/weights"].tolist() == [*others, False]
    assert found["diverged/done"].tolist() == [True] * ranks
    assert found["diverged/at"].tolist() == [*[-1] * (ranks - 1), 41]


@pytest.mark.parametrize("mistake", ["unreduced_gradient", "wrong_divisor", "local_statistics"])
def test_mistakes_are_found(results: dict, mistake: str) -> None:
    """The comparison above fails for each of these, by more than a thousand tolerances."""
    want, got = results[1]["float64/loss"][:6], results[2][f"{mistake}/loss"]
    assert np.abs(got / want - 1).max() > 1e-6
