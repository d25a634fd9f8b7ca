"""What the network says of the validation and the test rows, by all ranks together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hpc_deepfake import metrics
from hpc_deepfake.core import mpi, watchdog
from hpc_deepfake.data.augment import Rows
from hpc_deepfake.data.rows import AHEAD, DataFile, prefetch, share
from hpc_deepfake.metrics import masks
from hpc_deepfake.network.scoring import launched
from preprocessing.ela import at_once

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.strategies.base import Judged, Strategy

BATCH = 64  # rows of 128 × 128
_PIXELS = 2, masks.LEVELS  # shape of the histograms of a picture's pixels
_MAPS = 1  # batches that are launched before the maps of one are read: they take memory
_NUMBERS = 1 << 20  # the same for probabilities: any number, and so they are all read at the end


class Predicted(NamedTuple):
    """What the network says of n rows.

    Attributes:
        probabilities: of tampered, float64 (n).
        pixels: as of ``masks.histograms``; None: the network doesn't say where.
    """

    probabilities: np.ndarray
    pixels: np.ndarray | None = None

    @property
    def threshold(self) -> int | None:
        """``Card.mask_threshold``: the best one of all pixels together."""
        return None if self.pixels is None else masks.best_threshold(self.pixels)

    def pixel(self, labels: np.ndarray, threshold: int | None = None) -> dict[str, float | None]:
        """Figures of the maps, per picture, at a threshold or at the best one."""
        if self.pixels is None:
            return {}
        found = masks.figures(self.pixels, labels, masks.best_threshold(self.pixels)
                              if threshold is None else threshold)
        return {f"pixel_{name}": found["per_picture"][name] for name in ("auc", "f1", "iou")}

    def figures(self, labels: np.ndarray, threshold: int | None = None) -> dict[str, Any]:
        """Figures of merit, those of maps at a threshold that other pictures have chosen, or at the
        best one."""
        return {**metrics.evaluate(self.probabilities, labels), **self.pixel(labels, threshold)}


def predict(comm: Comm, strategy: Strategy, data: DataFile, rows: np.ndarray,
            wishes: Callable[[], int]) -> tuple[Predicted, int]:
    """What the network says of ``rows``, and the sum of the ranks' requests at the end; the same on
    all ranks, of which each computes a share of the rows.

    No batch is waited for before the next one is launched.
    """
    index, shares = strategy.evaluation_share
    local = share(rows, index, shares)
    most = at_once(BATCH, data.size)
    batches = [block for block in np.split(local, range(most, len(local), most)) if len(block)]
    watchdog.enter("evaluating", shared=shares < comm.size)
    located = strategy.locates and data.masks is not None

    def load(block: np.ndarray) -> np.ndarray:
        return strategy.placed(Rows(*data.batch(block))).pictures

    def loaded() -> Iterator[np.ndarray]:
        for number, pictures in enumerate(
                prefetch(load, batches, ahead=AHEAD, threads=strategy.loaders)):
            watchdog.advance(f"evaluating (batch {number})")
            yield pictures

    def judge(pictures: np.ndarray) -> Callable[[], Judged]:
        return strategy.judged(pictures, located)

    scores: list[np.ndarray] = []
    pixels: list[np.ndarray] = []
    for block, judged in zip(
            batches, launched(judge, loaded(), _MAPS if located else _NUMBERS), strict=True):
        probabilities, maps = judged()
        scores.append(probabilities)
        if maps is not None and data.masks is not None:
            pixels.append(masks.histograms(maps, np.asarray(data.masks[block])))
    watchdog.enter("gathering probabilities")
    reported = np.concatenate([*scores, []]) if strategy.speaks else np.empty(0)
    asked = mpi.concatenate(comm, np.array([wishes()], np.float64))
    whole = mpi.concatenate(comm, reported)
    counted = mpi.concatenate(comm, np.concatenate(
        [np.empty((0, *_PIXELS), np.int32), *pixels]).ravel()).reshape(-1, *_PIXELS) \
        if strategy.locates else None
    return Predicted(whole, counted), int(asked.sum())
