"""Probabilities that a trained model gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hpc_deepfake.core.errors import InputError


def probabilities(network: Any, features: Sequence[np.ndarray]) -> list[float]:
    """Of "tampered", of each of some uint8 (128, 128, 3).

    Raises:
        InputError: as ``numbers``.
    """
    if not len(features):
        return []
    return numbers(network.predict_on_batch(np.stack(features))[:, 1]).tolist()


def numbers(found: np.ndarray) -> np.ndarray:
    """``found``, a model's probabilities.

    Raises:
        InputError: some are no numbers.
    """
    if not np.isfinite(found).all():
        raise InputError("the model gives no numbers: its training diverged, or its file was "
                         "damaged; take another --model")
    return found
