"""A network whose predictions are known in advance."""

from __future__ import annotations

import numpy as np


class MeanNetwork:
    """Predicts "tampered" with the probability mean / 255, of the whole picture or of a corner.

    Attributes:
        corner: whether it sees the upper left 32 × 32 pixels only.
        predictions: number of pictures predicted.
    """

    def __init__(self, corner: bool = False) -> None:
        self.corner, self.predictions = corner, 0

    def predict_on_batch(self, pictures: np.ndarray) -> np.ndarray:
        assert pictures.shape[1:] == (128, 128, 3) and pictures.dtype == np.uint8
        self.predictions += len(pictures)
        seen = pictures[:, :32, :32] if self.corner else pictures
        p = seen.mean(axis=(1, 2, 3), dtype=np.float64) / 255
        return np.stack([1 - p, p], axis=1)
