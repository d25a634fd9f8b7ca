"""A strategy of a few numbers without TensorFlow, for tests of what isn't the strategy's: starting,
signals, deaths, stalls, checkpoints, jobs. It starts in a second instead of five."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpc_deepfake.core.mpi import wait
from hpc_deepfake.strategies.base import DIVERGED, Arrays, Batch, Done, Strategy

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

FEATURES = 48  # means of a picture's parts
STEP = "TOY_STEP_SECONDS"  # environment: how long a step takes at least
# environment: "RANK STEP", whose gradient is NaN; or "weights RANK STEP", whose weight becomes NaN
DIVERGES = "TOY_DIVERGES"


class Model:
    """Stands in for a Keras model where one is saved."""

    def __init__(self, weights: np.ndarray) -> None:
        self.weights = weights

    def get_weights(self) -> list[np.ndarray]:
        return [self.weights]

    def save(self, path: Path) -> None:
        with open(path, "wb") as file:
            np.save(file, self.weights)

    @classmethod
    def load(cls, run: Path) -> Model:
        """That of a run directory."""
        return cls(np.load(run / "model.keras"))

    def predict_on_batch(self, pictures: np.ndarray) -> np.ndarray:
        """Probabilities of authentic and tampered, (n, 2)."""
        p = logistic(pictures, self.weights)[1]
        return np.stack([1 - p, p], axis=1)


def logistic(pictures: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of pictures' parts, (n, FEATURES), and probabilities of tampered, (n)."""
    count, *_, channels = pictures.shape
    parts = pictures.reshape(count, FEATURES // 3, -1 if count else 1, channels).mean(
        2, dtype=float)
    x = parts.reshape(len(pictures), FEATURES) / 255
    return x, 1 / (1 + np.exp(-x @ weights))


class Toy(Strategy):
    """Logistic regression on the means of a picture's parts, by all ranks in lockstep.

    Weights, and a momentum as the optimizer's state, are float64; sums over the ranks are taken
    with the loss and the ranks' wishes in one reduction, as in ``sync``.
    """

    name = "sync"

    def __init__(self, model: None, settings: object, comm: Comm, layout: object) -> None:
        super().__init__(comm)
        self.settings = settings
        self.weights, self.momentum = np.zeros(FEATURES), np.zeros(FEATURES)
        self.model = Model(self.weights)

    @classmethod
    def wants_model(cls, rank: int) -> bool:
        return False

    def step(self, batches: Sequence[Batch], rows: int, step: int, wishes: int = 0) -> Done:
        time.sleep(float(os.environ.get(STEP, "0.01")))
        sums = np.zeros(FEATURES + 3)
        for batch in batches:
            labels = batch.labels.astype(float)
            x, p = self._forward(batch.pictures)
            sums[:FEATURES] += x.T @ (p - labels)
            chance = np.where(labels == 1, p, 1 - p)
            sums[FEATURES:-1] += -np.log(chance + 1e-12).sum(), (chance > 0.5).sum()
        *what, rank, at = os.environ.get(DIVERGES, "-1 -1").split()
        diverges = (int(rank), int(at)) == (self.comm.rank, step)
        if diverges and not what:
            sums[:-1] = np.nan
        if not np.isfinite(sums).all():
            wishes, self.diverged_at = wishes + DIVERGED, step
        sums[-1] = wishes
        total = np.empty_like(sums)
        waited = wait(self.comm.Iallreduce(sums, total))
        self.momentum = 0.9 * self.momentum + total[:FEATURES] / rows
        self.weights = self.weights - 0.1 * self.momentum
        if diverges and what:
            self.weights[0] = np.nan
        return Done(1, rows, total[-3], total[-2], round(total[-1]), waited)

    def _forward(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return logistic(pictures, self.weights)

    def probabilities(self, pictures: np.ndarray) -> np.ndarray:
        return self._forward(pictures)[1]

    def whole(self) -> Arrays:
        return [self.weights.copy()]

    def restore(self, whole: Arrays) -> None:
        self.weights, = self.comm.bcast(whole)

    def finite(self) -> bool:
        return bool(np.isfinite([self.weights, self.momentum]).all())

    def state(self) -> Arrays:
        return [self.weights.copy(), self.momentum.copy()]

    def load(self, state: Arrays | None) -> None:
        self.weights, self.momentum = self.comm.bcast(
            state if self.comm.rank == 0 and state is not None
            else [self.weights, self.momentum])

    def keras_model(self, whole: Arrays) -> Model:
        return Model(*whole)
