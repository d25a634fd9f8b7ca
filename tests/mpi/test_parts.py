"""Ranks that hold parts of any Keras model, stages or rows of its largest dense kernel, compute
what one rank does: the contract of test_mesh and test_hybrid."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hpc_deepfake.strategies import traffic

CASES = [(2, "stacked random pipeline=2", "stacked random"), (2, "stacked hybrid", "stacked"),
         (4, "branched data=2,pipeline=2", "branched"), (2, "meso4 pipeline=2", "meso4")]
pytestmark = [pytest.mark.mpi, pytest.mark.slow]
Found = dict[int, dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def results(found: Callable[..., dict[str, np.ndarray]]) -> Found:
    """What parts.py found, by number of ranks."""
    return {ranks: found("parts.py", ranks, "mesh") for ranks in (1, 2, 4)}


@pytest.mark.parametrize(("ranks", "case", "reference"), CASES)
def test_training_is_that_of_one_rank(results: Found, ranks: int, case: str,
                                      reference: str) -> None:
    """In float64: losses and weights of steps of gradient descent with two micro-batches; also with
    regularisers, a frozen layer, and random layers where there is one share of the rows."""
    got, want = results[ranks], results[1]
    for part in ("losses", "weights"):
        np.testing.assert_allclose(got[f"{case}/{part}"], want[f"{reference}/{part}"], rtol=1e-9,
                                   atol=1e-11)


@pytest.mark.parametrize(("ranks", "case", "reference"), CASES[:3])
def test_validation_and_files_are_those_of_one_rank(results: Found, ranks: int, case: str,
                                                    reference: str) -> None:
    """Probabilities by the ranks, and of the model for files; a checkpoint is taken up by one rank
    alone and by the same ranks, bit for bit."""
    got, want = results[ranks], results[1]
    for what in ("probabilities", "model"):
        np.testing.assert_allclose(got[f"{case}/{what}"], want[f"{reference}/{what}"], rtol=1e-9)
    assert got[f"{case}/state"] and got[f"{case}/again"]


def test_bytes_are_those_of_the_formulas(results: Found) -> None:
    """In float64. Of stages in the last step, of shards in all three steps of two micro-batches,
    with 12 rows; each share of a micro-batch that has no rows is one row."""
    activations = 12 * 12 * 4  # a row's, between conv and the pooling
    assert results[2]["stacked random pipeline=2/bytes/point_to_point"] == \
        2 * 8 * activations * (1 + 1)
    want = traffic.hybrid(2, 2, (12 + 3) / 2, width=8, activation_width=8,
                          sizes=traffic.Sizes.of([(144, 64)], [], 0))
    for kind in ("alltoall", "allgather"):
        assert results[2][f"stacked hybrid/bytes/{kind}"] == pytest.approx(2 * want[kind])


def test_mistakes_are_found(results: Found) -> None:
    """A stage without its regularisers, masks that depend on the stage, and buckets of gradients
    that aren't summed: the comparisons above fail by more than a thousand tolerances."""
    for name, reference in (("without penalty/weights", "stacked random/weights"),
                            ("own masks/losses", "stacked random/losses"),
                            ("own buckets/weights", "stacked/weights")):
        assert np.abs(results[2][name] - results[1][reference]).max() > 1e-6, name
