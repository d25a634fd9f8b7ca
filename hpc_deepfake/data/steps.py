"""The optimizer steps of an epoch, dealt to the ranks as they are taken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpc_deepfake.data.rows import share


class Steps(Sequence[list[np.ndarray]]):
    """The rows of one share in each step: a list with an array for each micro-batch.

    They are cut when they are asked for: an epoch of a million rows has thousands of steps.
    """

    def __init__(self, order: np.ndarray, size: int, accumulate: int = 1,
                 place: tuple[int, int] = (0, 1)) -> None:
        """
        Args:
            order: the rows in the order of the epoch, int64 (n).
            size: rows of a step, over all shares and micro-batches.
            accumulate: micro-batches of a step.
            place: index and number of the shares.
        """
        self._order, self._size = order, size
        self._accumulate, self._place = accumulate, place

    def __len__(self) -> int:
        return -(-len(self._order) // self._size)

    def __getitem__(self, number: int) -> list[np.ndarray]:  # type: ignore[override] # no slices
        if not 0 <= number < len(self):
            raise IndexError(f"step {number} of {len(self)}")
        rows = self._order[number * self._size:(number + 1) * self._size]
        return [share(share(rows, micro, self._accumulate), *self._place)
                for micro in range(self._accumulate)]

    def rows(self, number: int) -> int:
        """Rows of a step, over all shares and micro-batches."""
        return min(self._size, len(self._order) - number * self._size)
