"""Every pending row once, and even work for every rank."""

from __future__ import annotations

import numpy as np
import pytest

from preprocessing.deal import BLOCK, block_size, deal


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7, 64])
@pytest.mark.parametrize("rows", [1, 2, 3, 63, 64, 65, 1000, 12614])
def test_every_pending_row_exactly_once(rows, ranks):
    random = np.random.default_rng(rows)
    for pending in (np.arange(rows), np.flatnonzero(random.random(rows) < 0.3),
                    np.arange(rows // 2, rows), np.arange(0)):
        dealt = deal(pending, ranks, rows)
        assert len(dealt) == ranks
        got = [row for blocks in dealt for block in blocks for row in block.tolist()]
        assert sorted(got) == pending.tolist()
        for blocks in dealt:
            for block in blocks:
                assert 0 < len(block) <= BLOCK
                assert len({row // block_size(rows, ranks) for row in block.tolist()}) == 1


def test_few_rows_reach_all_ranks():
    assert [len(blocks) for blocks in deal(np.arange(4), 4, 4)] == [1, 1, 1, 1]
    assert [len(blocks) for blocks in deal(np.arange(2), 4, 2)] == [1, 1, 0, 0]


def imbalance(costs: np.ndarray, pending: np.ndarray, ranks: int) -> float:
    work = [costs[np.concatenate(blocks)].sum() for blocks in deal(pending, ranks, len(costs))]
    return max(work) / np.mean(work)


@pytest.mark.parametrize("ranks", [2, 3, 4, 8, 64])
def test_work_stays_even_on_casia_2_whose_list_ends_in_tiffs(casia_names, ranks):
    """A .tif costs three times a .jpg; also for what a stopped run left to do."""
    names = sorted(casia_names["casia2_Au"]) + sorted(casia_names["casia2_Tp"])
    slow = np.array([not name.endswith(".jpg") for name in names])
    rows = np.arange(len(names))
    assert imbalance(1.0 + 2 * slow, rows, ranks) <= 1.1
    if ranks <= 8:
        assert imbalance(1.0 + 2 * slow, rows[len(rows) // 3:], ranks) <= 1.1
        assert imbalance(1.0 + 9 * slow, rows, ranks) <= 1.1
    stretches = [(1 + 2 * slow[part]).sum() for part in np.array_split(rows, ranks)]
    assert max(stretches) / np.mean(stretches) > 1.1, "equal stretches would not do"
