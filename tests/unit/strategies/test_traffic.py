"""Bytes sent per step, by formula."""

from __future__ import annotations

import pytest

from hpc_deepfake.network import table
from hpc_deepfake.strategies import traffic


def ratio(ranks: int, rows: int) -> float:
    """Of the bytes of hybrid, with one group of all ranks, to those of sync."""
    return sum(traffic.hybrid(ranks, ranks, rows).values()) / sum(traffic.sync(ranks).values())


def test_sizes_match_the_network() -> None:
    network = table.build()
    assert network.get_layer("dense1").kernel.shape == (traffic.FEATURES, traffic.UNITS)
    # there are as many batch statistics as moving ones, and three sums
    assert traffic.KERNEL + traffic.REST == table.PARAMETERS + 3


def test_ratio_of_hybrid_to_ring_allreduce() -> None:
    """With 32 rows a quarter up to 8 ranks, then slowly more; with 128 rows the same."""
    assert ratio(2, 32) == pytest.approx(0.25, abs=0.005)
    assert ratio(8, 32) == pytest.approx(0.25, abs=0.01)
    assert ratio(64, 32) == pytest.approx(0.29, abs=0.005)
    assert ratio(1350, 32) == pytest.approx(1, abs=0.001)
    assert ratio(2, 128) == pytest.approx(1, abs=0.01)
    for ranks in (2, 8, 64):  # by the formula in one piece
        assert ratio(ranks, 32) == pytest.approx(
            (57600 * 32 + 128 * 32 * ranks + traffic.REST) / (traffic.KERNEL + traffic.REST))


def test_crossover() -> None:
    assert traffic.crossover(32) == pytest.approx(1350)
    assert ratio(round(traffic.crossover(64)), 64) == pytest.approx(1, abs=0.001)
    assert traffic.crossover(200) < 0


def test_groups_of_one_rank_equal_sync() -> None:
    assert traffic.hybrid(8, 1, 32) == {**traffic.sync(8), "alltoall": 0, "allgather": 0}


def test_sixteen_bits_halve_the_activations() -> None:
    whole, half = (sum(traffic.hybrid(2, 2, 32, activation_width=width).values())
                   for width in (4, 2))
    assert whole - half == 2 * 32 * 57600 * 2 / 2


def test_micro_batches_send_activations_again_but_not_gradients() -> None:
    single, three = (traffic.hybrid(4, 2, 32, micro=micro) for micro in (1, 3))
    assert three == {"allreduce": single["allreduce"], "alltoall": 3 * single["alltoall"],
                     "allgather": 3 * single["allgather"]}


def test_meshes() -> None:
    """Sharded convolutions send more than a whole allreduce; one shard or stage is just sync."""
    sync = sum(traffic.sync(2).values())
    assert sum(traffic.tensor(2, 2, 32).values()) > 1.5 * sync
    assert traffic.pipeline(2, 2, 32) == {"point_to_point": 2 * 63 * 63 * 32 * 32 * 4,
                                          "allreduce": 0}
    assert sum(traffic.tensor(8, 1, 32).values()) == sum(traffic.sync(8).values())
    assert sum(traffic.pipeline(8, 1, 32, ()).values()) == sum(traffic.sync(8).values())
