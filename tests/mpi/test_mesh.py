"""Every mesh is sequential training on the same global batches and micro-batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from gradients import check_float32, gradient_error

WHOLE = {2: ("data=2", "tensor=2", "tensor=2 column"), 3: ("tensor=3",), 4: ("data=2,tensor=2",)}
PIPED = {2: ("pipeline=2", "pipeline=2 gpipe"), 3: ("pipeline=3",),
         4: ("data=2,pipeline=2", "tensor=2,pipeline=2"), 8: ("data=2,tensor=2,pipeline=2",)}
MESHES = [*((ranks, name, 1) for ranks, names in WHOLE.items() for name in names),
          *((ranks, name, 3) for ranks, names in PIPED.items() for name in names)]
each_mesh = pytest.mark.parametrize(("ranks", "mesh", "micro"), MESHES)
each_in_float32 = pytest.mark.parametrize(("ranks", "mesh", "micro"), [
    one for one in MESHES if one[0] == 2 and "gpipe" not in one[1]])
alone = pytest.mark.parametrize(("mesh", "micro"), [
    ("tensor=2", 1), ("tensor=2 column", 1), ("pipeline=2", 3)])
pytestmark = [pytest.mark.mpi, pytest.mark.slow]
Found = dict[int, dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def results(found: Callable[..., dict[str, np.ndarray]]) -> Found:
    """What meshes.py found, by number of ranks."""
    return {ranks: found("meshes.py", ranks) for ranks in (1, 2, 3, 4, 8)}


@each_mesh
def test_first_gradients_are_equal(results: Found, ranks: int, mesh: str, micro: int) -> None:
    """Also where a share has no rows."""
    for rows in (5, 1):
        name = f"float64/gradient{rows}"
        assert gradient_error(results[ranks], results[1], f"{mesh}/{name}",
                              f"sequential 1/{name}") <= 1e-10


@each_in_float32
def test_first_gradients_in_float32_are_equal(results: Found, ranks: int, mesh: str,
                                              micro: int) -> None:
    check_float32(results[ranks], results[1], f"{mesh}/float32/gradient5",
                  "sequential 1/float32/gradient5")


@each_mesh
def test_sgd_in_float64_is_equal(results: Found, ranks: int, mesh: str, micro: int) -> None:
    """Losses and weights after 12 steps, some with fewer rows than micro-batches or shares."""
    for part in ("loss", "weights"):
        want = results[1][f"sequential {micro}/sgd/{part}"]
        assert np.isfinite(want).all()
        np.testing.assert_allclose(results[ranks][f"{mesh}/sgd/{part}"], want, rtol=1e-9,
                                   atol=1e-12)


@each_mesh
def test_clipping_is_equal(results: Found, ranks: int, mesh: str, micro: int) -> None:
    """By the norm of the whole gradient, of which each rank has a part and some parts are on
    several ranks: losses, and weights, which move no further than the norm allows."""
    for part in ("loss", "weights"):
        np.testing.assert_allclose(results[ranks][f"{mesh}/clipped/{part}"],
                                   results[1][f"sequential {micro}/clipped/{part}"], rtol=1e-9,
                                   atol=1e-12)
    trained = slice(None, -192)  # the moving statistics are last
    moved = np.abs(results[ranks][f"{mesh}/clipped/weights"]
                   - results[ranks][f"{mesh}/clipped/before"])[trained].max()
    assert 0 < moved <= 3 * 0.01 * 0.05


def test_lamb_and_averages_are_equal(results: Found) -> None:
    """By the norms of whole layers, of which each rank has shards: losses and the whole state with
    averages in place of the weights. With norms of shards they differ by far."""
    want = {part: results[1][f"sequential 1/lamb/{part}"] for part in ("loss", "weights")}
    for part in want:
        # biases in front of a normalisation have a gradient of 0, whose rounding error LAMB scales
        np.testing.assert_allclose(results[2][f"tensor=2/lamb/{part}"], want[part], rtol=1e-9,
                                   atol=1e-8)
    assert np.abs(results[2]["tensor=2/own norms/weights"] - want["weights"]).max() > 1e-5


def test_a_wrong_norm_is_found(results: Found) -> None:
    """Of each rank's own part: the comparison above fails by more than a thousand tolerances."""
    for mesh in ("tensor=2", "tensor=2 column"):
        got, want = (found[f"{name}/weights"] for found, name in (
            (results[2], f"{mesh}/unsummed"), (results[1], "sequential 1/clipped")))
        assert np.abs(got - want).max() > 1e-7


@each_mesh
def test_all_ranks_learn_that_one_has_diverged(results: Found, ranks: int, mesh: str,
                                               micro: int) -> None:
    """In the same step; a rank sees NaN among its own weights."""
    found = {what: results[ranks][f"{mesh}/diverged/{what}"].tolist()
             for what in ("before", "weights", "done", "at")}
    assert found["before"] == [True] * ranks
    assert found["weights"] == [*[True] * (ranks - 1), False]
    assert found["done"] == [True] * ranks and found["at"][-1] == 41


@each_mesh
def test_validation_is_equal(results: Found, ranks: int, mesh: str, micro: int) -> None:
    """Probabilities by the moving statistics, after those steps; each row from one speaker."""
    np.testing.assert_allclose(results[ranks][f"{mesh}/probabilities"],
                               results[1][f"sequential {micro}/probabilities"], rtol=1e-6)


@each_in_float32
def test_adam_in_float32_has_the_same_losses(results: Found, ranks: int, mesh: str,
                                             micro: int) -> None:
    np.testing.assert_allclose(results[ranks][f"{mesh}/adam/loss"],
                               results[1][f"sequential {micro}/adam/loss"], rtol=1e-3)


@alone
def test_dropout_is_the_same_with_one_share(results: Found, mesh: str, micro: int) -> None:
    """The mask depends on the step, the micro-batch and the share of the data, not on the rank."""
    np.testing.assert_allclose(results[2][f"{mesh}/dropout/loss"],
                               results[1][f"sequential {micro}/dropout/loss"], rtol=1e-9)


@alone
def test_bfloat16_is_close(results: Found, mesh: str, micro: int) -> None:
    """With the fused normalisation, each micro-batch's own: losses of three steps within 5%."""
    np.testing.assert_allclose(results[2][f"{mesh}/bfloat16/loss"],
                               results[1][f"sequential {micro}/bfloat16/loss"], rtol=5e-2)


@each_mesh
def test_ranks_that_hold_the_same_stay_equal(results: Found, ranks: int, mesh: str,
                                             micro: int) -> None:
    """Bit for bit: weights of all shares of the data, and biases of all ranks of a tensor group."""
    assert results[ranks][f"{mesh}/spread"] == 0


@pytest.mark.parametrize(("ranks", "mesh", "most"), [
    (2, "pipeline=2", 2), (2, "pipeline=2 gpipe", 3), (3, "pipeline=3", 3)])
def test_activations_held_at_a_time(results: Found, ranks: int, mesh: str, most: int) -> None:
    """Of 3 micro-batches 1F1B holds as many as there are stages, GPipe all."""
    assert results[ranks][f"{mesh}/live"] == most


def test_mistakes_are_found(results: Found) -> None:
    """One bias that isn't reduced; a region that doesn't sum its gradient, one that doesn't sum at
    all; two micro-batches' gradients mixed up: each breaks a comparison above, by more than ten
    tolerances."""
    for mesh, micro, steps in (("data=2 unreduced", 1, 6), ("tensor=2 uncopied", 1, 6),
                               ("pipeline=2 swapped", 3, 6)):
        want, got = (results[ranks][name][:steps] for ranks, name in (
            (1, f"sequential {micro}/sgd/loss"), (2, f"{mesh}/sgd/loss")))
        assert np.abs(got / want - 1).max() > 1e-6, mesh
    assert gradient_error(results[2], results[1], "tensor=2 uncopied/float64/gradient5",
                          "sequential 1/float64/gradient5") > 1e-4
    want, got = results[1]["sequential 1/adam/loss"][:3], results[2]["tensor=2 unsummed/adam/loss"]
    assert np.abs(got / want - 1).max() > 1e-2
