"""Bytes per step by formula."""

from __future__ import annotations

import pytest

from hpc_deepfake.network import table
from hpc_deepfake.strategies import traffic


def ratio(ranks: int, rows: int) -> float:
    """Of what hybrid sends to what sync does, one group."""
    return sum(traffic.hybrid(ranks, ranks, rows).values()) / sum(traffic.sync(ranks).values())


def test_sizes_are_those_of_the_network() -> None:
    network = table.build()
    assert network.get_layer("dense1").kernel.shape == (traffic.FEATURES, traffic.UNITS)
    # batch statistics are as many as moving ones; three sums
    assert traffic.KERNEL + traffic.REST == table.PARAMETERS + 3


def test_ratio_of_hybrid_to_ring_allreduce() -> None:
    """A quarter at 32 rows up to 8 ranks, then slowly more; at 128 rows as much from the start."""
    assert ratio(2, 32) == pytest.approx(0.25, abs=0.005)
    assert ratio(8, 32) == pytest.approx(0.25, abs=0.01)
    assert ratio(64, 32) == pytest.approx(0.29, abs=0.005)
    assert ratio(1350, 32) == pytest.approx(1, abs=0.001)
    assert ratio(2, 128) == pytest.approx(1, abs=0.01)
    for ranks in (2, 8, 64):  # the same in closed form
        assert ratio(ranks, 32) == pytest.approx(
            (57600 * 32 + 128 * 32 * ranks + traffic.REST) / (traffic.KERNEL + traffic.REST))


def test_crossover() -> None:
    assert traffic.crossover(32) == pytest.approx(1350)
    assert ratio(round(traffic.crossover(64)), 64) == pytest.approx(1, abs=0.001)
    assert traffic.crossover(200) < 0


def test_groups_of_one_are_sync() -> None:
    assert traffic.hybrid(8, 1, 32) == {**traffic.sync(8), "alltoall": 0, "allgather": 0}


def test_sixteen_bits_halve_the_activations() -> None:
    whole, half = (sum(traffic.hybrid(2, 2, 32, activation_width=width).values())
                   for width in (4, 2))
    assert whole - half == 2 * 32 * 57600 * 2 / 2


def test_micro_batches_move_activations_again_but_no_gradients() -> None:
    one, three = (traffic.hybrid(4, 2, 32, micro=micro) for micro in (1, 3))
    assert three == {"allreduce": one["allreduce"], "alltoall": 3 * one["alltoall"],
                     "allgather": 3 * one["allgather"]}


def test_meshes() -> None:
    """Cut convolutions move more than a whole allreduce; one shard or stage is data parallel."""
    sync = sum(traffic.sync(2).values())
    assert sum(traffic.tensor(2, 2, 32).values()) > 1.5 * sync
    assert traffic.pipeline(2, 2, 32) == {"point_to_point": 2 * 63 * 63 * 32 * 32 * 4,
                                          "allreduce": 0}
    assert sum(traffic.tensor(8, 1, 32).values()) == sum(traffic.sync(8).values())
    assert sum(traffic.pipeline(8, 1, 32, ()).values()) == sum(traffic.sync(8).values())
