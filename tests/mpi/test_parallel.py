"""Sharded layers are the serial ones: outputs, input gradients, weight gradients."""

from __future__ import annotations

import json

import pytest
from worlds import Worlds

REGIONS = ("copy_to", "reduce_from", "scatter_to", "gather_from")
LAYERS = ("column", "column, gathered", "row", "row, scattered", "convolution",
          "convolution, gathered")
pytestmark = [pytest.mark.mpi, pytest.mark.slow]


@pytest.fixture(scope="module", params=[2, 3, 4])
def found(request: pytest.FixtureRequest, worlds: Worlds,
          tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """The errors that parallel.py measured on a number of ranks."""
    out = tmp_path_factory.mktemp("parallel") / "errors.json"
    answer = worlds.run(request.param, "parallel.py", out, cwd=out.parent)
    assert answer.code == 0, answer.output
    return {**json.loads(out.read_text()), "ranks": request.param}


def test_each_region_is_its_definition_forward_and_back(found: dict[str, float]) -> None:
    """13 channels over 2, 3 and 4 ranks; also in bfloat16, which Horovod doesn't know."""
    for region in REGIONS:
        assert found[f"{region} float64"] < 1e-15
        assert found[f"{region} bfloat16"] < (1e-2 if region in REGIONS[:2] else 1e-12)


def test_each_layer_is_the_serial_one_in_every_layout(found: dict[str, float]) -> None:
    for layer in LAYERS:
        assert found[layer] < 1e-13, layer


def test_the_network_is_the_serial_one(found: dict[str, float]) -> None:
    """Conv1 to dense2, gradients of all weights; with dropout the same units are dropped."""
    for case in ("row, dropout 0.0", "row, dropout 0.5", "column, dropout 0.5"):
        assert found[f"network, {case}"] < 1e-12, case


def test_no_rank_has_a_whole_kernel(found: dict[str, float]) -> None:
    """Of all tensors of forward and backward pass, none has as many numbers as a kernel that is
    cut; alone there are some."""
    for layout in ("row", "column"):
        for name in ("conv1", "conv2", "dense1"):
            assert found[f"{layout}, sharded: {name}/kernel whole"] == 0
            assert found[f"{layout}, alone: {name}/kernel whole"] == 1


def test_weights_that_all_have_get_the_same_gradient(found: dict[str, float]) -> None:
    assert found["dense1/bias differs"] == found["dense2/bias differs"] == 0


def test_mistakes_are_found(found: dict[str, float]) -> None:
    """The network with a region whose backward pass isn't ours."""
    if found["ranks"] == 2:
        assert all(found[f"mistake in {region}"] > 1e-3 for region in REGIONS)
