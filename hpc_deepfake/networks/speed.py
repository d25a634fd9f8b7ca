"""Pictures per second of a network on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import keras
import numpy as np

from hpc_deepfake.network.settings import Settings
from hpc_deepfake.strategies.base import Batch
from hpc_deepfake.strategies.sequential import Sequential

LEAST_STEPS, LEAST_SECONDS = 3, 2.0


def images_per_s(spec: str, model: keras.Model, batch: int) -> dict[str, float]:
    """Of training steps as of ``train`` on one rank (``train``) and of predictions (``predict``),
    with ``batch`` random pictures: medians of at least 3 steps and 2 seconds each, after a first
    one that isn't timed. Trains the model."""
    size = model.input_shape[1]
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    labels = rng.integers(0, 2, batch, dtype=np.uint8)
    strategy = Sequential(model, Settings(network=spec, batch_size=batch))
    masks = rng.integers(0, 2, pictures.shape[:-1], dtype=np.uint8) if strategy.locates else None
    share = [Batch(pictures, labels, np.zeros(2, np.int32), masks)]
    return {"train": batch / _median(lambda step: strategy.step(share, batch, step)),
            "predict": batch / _median(lambda _: strategy.probabilities(pictures))}


def _median(work: Callable[[int], object]) -> float:
    """Seconds of a call with the number of the step."""
    work(0)
    seconds: list[float] = []
    while len(seconds) < LEAST_STEPS or sum(seconds) < LEAST_SECONDS:
        began = time.perf_counter()
        work(len(seconds) + 1)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
