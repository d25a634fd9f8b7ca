"""Networks whose predictions are known in advance."""

from __future__ import annotations

import numpy as np


class MeanNetwork:
    """Predicts "tampered" with the probability mean / 255, of the whole picture or of a corner.

    Attributes:
        corner: whether it sees the upper left 32 × 32 pixels of 128 × 128 only.
        size: of its input.
        predictions: number of pictures predicted.
        most: in a batch.
    """

    def __init__(self, corner: bool = False, size: int = 128) -> None:
        self.corner, self.size, self.predictions, self.most = corner, size, 0, 0

    def predict_on_batch(self, pictures: np.ndarray) -> np.ndarray:
        assert pictures.shape[1:] == (self.size, self.size, 3) and pictures.dtype == np.uint8
        self.predictions += len(pictures)
        self.most = max(self.most, len(pictures))
        side = self.size // 4
        seen = pictures[:, :side, :side] if self.corner else pictures
        p = seen.mean(axis=(1, 2, 3), dtype=np.float64) / 255
        return np.stack([1 - p, p], axis=1)


class MapNetwork(MeanNetwork):
    """As ``network.maps.both`` gives it: says that each pixel was changed with the probability mean
    / 255 of its channels."""

    output = ["probabilities", "map"]  # noqa: RUF012

    def predict_on_batch(self, pictures: np.ndarray) -> list[np.ndarray]:  # type: ignore[override]
        return [super().predict_on_batch(pictures),
                pictures.mean(axis=3, keepdims=True, dtype=np.float64) / 255]


class BrightnessNetwork:
    """Predicts "tampered" with ``probabilities``: a logistic function of the picture's mean."""

    def predict_on_batch(self, pictures: np.ndarray) -> np.ndarray:
        p = probabilities(pictures)
        return np.stack([1 - p, p], axis=1)


def probabilities(pictures: np.ndarray) -> np.ndarray:
    """Of ``BrightnessNetwork`` for uint8 (n, S, S, 3), float64 (n)."""
    means = pictures.mean(axis=(1, 2, 3), dtype=np.float64)
    return 1 / (1 + np.exp(-(means - 20) / 10))
