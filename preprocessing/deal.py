"""The distribution of rows over the ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from preprocessing.names import parse_path

BLOCK = 64  # rows of 128 × 128
# of a feature in a block: where the size is a power of two, blocks end on a MiB, so that ranks do
# not share a stripe
_BYTES = 3 << 20
_MOST = 256  # rows: a request to stop waits for the end of a block
_BLOCKS_PER_RANK = 32


def block_of(size: int) -> int:
    """Rows of ``size`` × ``size`` in a full block: ``BLOCK`` of 128 × 128."""
    return max(1, min(_MOST, _BYTES // (3 * size * size)))


def block_size(rows: int, ranks: int, most: int = BLOCK) -> int:
    """Rows per block: ``most``, or fewer if large blocks would leave the ranks uneven."""
    return max(1, min(most, rows // (ranks * _BLOCKS_PER_RANK)))


def deal(pending: np.ndarray, ranks: int, rows: int,
         most: int = BLOCK) -> list[list[np.ndarray]]:
    """Deal blocks of rows to the ranks like cards.

    The list of a data set is sorted by class and name, with slow formats together: dealt in turn,
    each rank gets its share of every stretch of the list. Blocks are fixed ranges of rows; of a
    partly finished block only the pending rows are dealt.

    Args:
        pending: int64, sorted: the rows to compute.
        ranks: number of ranks.
        rows: number of all rows.
        most: rows of a full block.

    Returns:
        For each rank its blocks, each an int64 array of rows.
    """
    size = block_size(rows, ranks, most)
    edges = np.flatnonzero(np.diff(pending // size)) + 1
    blocks = np.split(pending, edges) if len(pending) else []
    return [blocks[rank::ranks] for rank in range(ranks)]


def deal_files(paths: Sequence[bytes], pending: np.ndarray, ranks: int,
               most: int = BLOCK) -> list[list[np.ndarray]]:
    """``deal`` by files: all frames of a video go to one rank, which reads the video once.

    Args:
        paths: path of every row.
        pending: int64, sorted: the rows to compute.
        ranks: number of ranks.
        most: files of a full block.
    """
    numbers: dict[bytes, int] = {}
    files = np.fromiter((numbers.setdefault(parse_path(path)[0], len(numbers)) for path in paths),
                        np.int64, len(paths))[pending]
    return [[pending[slice(*np.searchsorted(files, (block[0], block[-1] + 1)))]
             for block in blocks] for blocks in deal(np.unique(files), ranks, len(numbers), most)]
