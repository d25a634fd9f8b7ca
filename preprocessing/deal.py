"""Which rank does which rows."""

from __future__ import annotations

import numpy as np

# 64 rows of 48 KiB end on a MiB, so that no two ranks write to the same stripe
BLOCK = 64
_BLOCKS_PER_RANK = 32


def block_size(rows: int, ranks: int) -> int:
    """Rows per block: ``BLOCK``, less where few rows would leave the ranks uneven."""
    return max(1, min(BLOCK, rows // (ranks * _BLOCKS_PER_RANK)))


def deal(pending: np.ndarray, ranks: int, rows: int) -> list[list[np.ndarray]]:
    """Deal blocks of rows to the ranks like cards.

    A data set's list is sorted by class and kind, with slow formats together: dealt in turn,
    each rank gets its share of every stretch of the list. Blocks are fixed ranges of rows;
    of a partly finished block only the pending rows are dealt.

    Args:
        pending: int64, sorted: rows to do. rows: how many there are in all.

    Returns:
        For each rank its blocks, each an int64 array of rows.
    """
    size = block_size(rows, ranks)
    edges = np.flatnonzero(np.diff(pending // size)) + 1
    blocks = np.split(pending, edges) if len(pending) else []
    return [blocks[rank::ranks] for rank in range(ranks)]
