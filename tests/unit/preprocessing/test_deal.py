"""Every pending row once, and even work for every rank."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from preprocessing.deal import BLOCK, block_of, block_size, deal, deal_files
from preprocessing.names import evenly, frame_path, parse_path


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7, 64])
@pytest.mark.parametrize("rows", [1, 2, 3, 63, 64, 65, 1000, 12614])
def test_every_pending_row_exactly_once(rows, ranks):
    random = np.random.default_rng(rows)
    for pending in (np.arange(rows), np.flatnonzero(random.random(rows) < 0.3),
                    np.arange(rows // 2, rows), np.arange(0)):
        dealt = deal(pending, ranks, rows)
        assert len(dealt) == ranks
        rows_dealt = [row for blocks in dealt for block in blocks for row in block.tolist()]
        assert sorted(rows_dealt) == pending.tolist()
        for blocks in dealt:
            for block in blocks:
                assert 0 < len(block) <= BLOCK
                assert len({row // block_size(rows, ranks) for row in block.tolist()}) == 1


def test_few_rows_reach_all_ranks():
    assert [len(blocks) for blocks in deal(np.arange(4), 4, 4)] == [1, 1, 1, 1]
    assert [len(blocks) for blocks in deal(np.arange(2), 4, 2)] == [1, 1, 0, 0]


def test_blocks_of_other_sizes_take_as_much_memory_and_end_on_a_mebibyte():
    assert block_of(128) == BLOCK and block_of(1024) == 1
    for size in (64, 128, 256, 512, 1024):
        assert block_of(size) * 3 * size**2 % (1 << 20) == 0
    assert all(block_of(size) * 3 * size**2 <= 3 << 20 for size in range(64, 1025))
    blocks = deal(np.arange(1000), 2, 1000, block_of(512))
    assert {len(block) for own in blocks for block in own} == {4}


def imbalance(costs: np.ndarray, pending: np.ndarray, ranks: int) -> float:
    work = [costs[np.concatenate(blocks)].sum() for blocks in deal(pending, ranks, len(costs))]
    return max(work) / np.mean(work)


@pytest.mark.parametrize("ranks", [2, 3, 4, 8, 64])
def test_work_stays_even_on_casia_2_whose_list_ends_in_tiffs(casia_names, ranks):
    """A .tif costs three times as much as a .jpg; also for the rest of a stopped run."""
    names = sorted(casia_names["casia2_Au"]) + sorted(casia_names["casia2_Tp"])
    slow = np.array([not name.endswith(".jpg") for name in names])
    rows = np.arange(len(names))
    assert imbalance(1.0 + 2 * slow, rows, ranks) <= 1.1
    if ranks <= 8:
        assert imbalance(1.0 + 2 * slow, rows[len(rows) // 3:], ranks) <= 1.1
        assert imbalance(1.0 + 9 * slow, rows, ranks) <= 1.1
    stretches = [(1 + 2 * slow[part]).sum() for part in np.array_split(rows, ranks)]
    assert max(stretches) / np.mean(stretches) > 1.1, "equal stretches would be uneven"


def test_all_frames_of_a_video_go_to_one_rank_and_pictures_as_before():
    """Each pending row goes to one rank, together with the others of its video; none twice."""
    random = np.random.default_rng(0)
    names = [b"%d.%b" % (i, (b"jpg", b"mp4")[i % 3 == 0]) for i in range(200)]
    paths = list(chain.from_iterable(
        [frame_path(name, moment) for moment in evenly(int(random.integers(1, 90)))]
        if name.endswith(b"4") else [name] for name in names))
    pending = np.flatnonzero(random.random(len(paths)) < 0.6)
    for ranks in (1, 2, 7):
        rows = [np.concatenate(blocks).tolist() for blocks in deal_files(paths, pending, ranks)]
        assert sorted(chain(*rows)) == pending.tolist()
        owners: dict[bytes, set[int]] = {}
        for rank, rows_of_rank in enumerate(rows):
            for row in rows_of_rank:
                owners.setdefault(parse_path(paths[row])[0], set()).add(rank)
        assert all(len(ranks) == 1 for ranks in owners.values())
        assert min(map(len, rows)) > 0
    pictures = [b"%d.jpg" % i for i in range(len(paths))]
    for by_file, by_row in zip(deal_files(pictures, pending, 3), deal(pending, 3, len(paths))):
        assert all(map(np.array_equal, by_file, by_row)) and len(by_file) == len(by_row)
