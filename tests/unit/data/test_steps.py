"""The steps of an epoch: the rows of each share, without cutting what isn't asked for."""

from __future__ import annotations

import numpy as np
import pytest

from hpc_deepfake.data import steps
from hpc_deepfake.data.rows import share
from hpc_deepfake.data.steps import Steps


@pytest.mark.parametrize("count", [1, 5, 64, 65, 257])
def test_steps_are_those_of_an_epoch_cut_at_once(count: int) -> None:
    order = np.random.default_rng(0).permutation(count)
    for size, accumulate, ranks in ((4, 1, 1), (64, 1, 3), (60, 2, 5), (64, 3, 300)):
        whole = np.split(order, range(size, count, size))
        for rank in (0, ranks - 1):
            dealt = Steps(order, size, accumulate, (rank, ranks))
            assert [dealt.rows(number) for number in range(len(dealt))] == [*map(len, whole)]
            for found, rows in zip(dealt, whole, strict=True):
                expected = [np.array_split(micro, ranks)[rank]
                            for micro in np.array_split(rows, accumulate)]
                assert all(map(np.array_equal, found, expected)) and len(found) == accumulate


def test_a_step_costs_the_same_at_any_number_of_rows_and_ranks(monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(steps, "share", lambda *rest: calls.append(1) or share(*rest))
    monkeypatch.setattr(np, "array_split", None)
    dealt = Steps(np.arange(10**6), 64 * 4096, 1, (4095, 4096))
    assert not calls and len(dealt) == 4
    assert dealt[0][0].tolist() == [*range(64 * 4095, 64 * 4096)] and len(calls) == 2
