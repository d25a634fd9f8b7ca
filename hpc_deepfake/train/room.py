"""How much room a run needs on the disk, asked before its first step."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.files import writing
from hpc_deepfake.core.text import plural
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.train import checkpoint

if TYPE_CHECKING:
    import keras

_RECORDS = 8 << 20  # bytes for everything else: metrics, predictions, report


def needed(model: keras.Model | None, settings: Settings, keep: int) -> tuple[int, int]:
    """Bytes of a checkpoint, and of everything that a run ever has on the disk at the same time:
    one checkpoint more than ``keep`` and the model twice, while a new one is written."""
    weights, trained = (
        sum(math.prod(variable.shape) * np.dtype(variable.dtype).itemsize
            for variable in variables)
        for variables in ((model.weights, model.trainable_weights) if model else ((), ())))
    one = 2 * weights + settings.copies * trained  # the current and the best weights
    return one, (keep + 1) * one + 2 * weights + _RECORDS


def check(run: Path, model: keras.Model | None, settings: Settings, keep: int) -> None:
    """Raise InputError unless the run directory has enough room for a run of this model."""
    one, total = needed(model, settings, keep)
    with writing(run):
        own = sum(path.stat().st_size for path in (*checkpoint.found(run / "checkpoints"),
                                                   run / "model.keras") if path.exists())
        free = shutil.disk_usage(run).free
    if free + own < total:
        raise InputError(
            f"not enough room in {run}: {(total - own) / 1e6:,.0f} MB needed, {free / 1e6:,.0f} "
            f"MB free ({plural(keep + 1, 'checkpoint')} of {one / 1e6:,.0f} MB, one more than "
            "--keep while a new one is written, the model and the records); make room, or choose "
            "another place with --run")
