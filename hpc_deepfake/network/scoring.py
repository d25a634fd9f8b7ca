"""Probabilities computed by a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hpc_deepfake.core.errors import InputError


def probabilities(network: Any, features: Sequence[np.ndarray]) -> list[float]:
    """Probability of tampered of each feature, uint8 (128, 128, 3) each.

    Args:
        network: the trained Keras model.
        features: the pictures' features.

    Raises:
        InputError: a probability is not finite.
    """
    if not len(features):
        return []
    return require_finite(network.predict_on_batch(np.stack(features))[:, 1]).tolist()


def require_finite(probabilities: np.ndarray) -> np.ndarray:
    """The argument itself.

    Raises:
        InputError: a probability is not finite.
    """
    if not np.isfinite(probabilities).all():
        raise InputError("the model's probabilities are not finite numbers: its training diverged, "
                         "or its file was damaged; use another --model")
    return probabilities
