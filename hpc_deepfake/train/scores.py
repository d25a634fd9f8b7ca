"""Figures of merit of a finished run on one part of its data, from its predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpc_deepfake import metrics
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.json_data import dictionary
from hpc_deepfake.metrics.intervals import bootstrap
from hpc_deepfake.train import predictions, records
from hpc_deepfake.train.predictions import Predictions
from hpc_deepfake.train.records import Records
from preprocessing.store import Header

PARTS = ("test", "validation")  # the first available: the test part selected nothing
FIGURES = ("accuracy", "balanced_accuracy", "auc")
PIXELS = ("pixel_auc", "pixel_f1", "pixel_iou")  # figures of maps, which only the summary has


@dataclass(frozen=True)
class Scores:
    """Figures on one part.

    Attributes:
        part: its name.
        predictions: predictions on that part; None if the run kept none.
        figures: of ``metrics.evaluate`` on that part, and ``PIXELS`` of a network that says where.
        intervals: 95% intervals by name of the figure; empty where the groups of common source
            are unknown.
    """

    part: str
    predictions: Predictions | None
    figures: dict[str, Any]
    intervals: dict[str, tuple[float, float] | None]


def scores(run: Records, header: Header | None, option: str,
           parts: Sequence[str] = PARTS) -> Scores:
    """The figures of a run.

    Args:
        run: its records.
        header: of its data file, for the groups of common source; None if it is unavailable.
        option: that names another folder, for messages.
        parts: the first one that the run has predictions or figures of counts, else the last one.

    Raises:
        InputError: damaged predictions, or predictions on other pictures than the data file's.
    """
    by_part = predictions.read(run.path)
    part = next((part for part in parts if part in by_part or part in run.summary), parts[-1])
    predicted, figures = by_part.get(part), dictionary(run.summary.get(part))
    intervals: dict[str, tuple[float, float] | None] = {}
    if predicted is not None:
        if header is not None and not predicted.of_file(header):
            raise InputError(f"the predictions of {run.path} are for other pictures than those of "
                             f"{header.path}, which was written again since. Choose another "
                             f"{option}")
        figures = metrics.evaluate(predicted.probabilities, predicted.labels, run.threshold) | {
            name: figures[name] for name in PIXELS if name in figures}
        if header is not None:
            intervals = bootstrap(predicted.probabilities, predicted.labels,
                                  header.array("group")[predicted.rows], run.threshold)
    return Scores(part, predicted, figures, intervals)


def elapsed(run: Records) -> list[float]:
    """Seconds from a run's start to the end of each epoch, without interruptions."""
    seconds: list[float] = np.cumsum(
        [records.wall_seconds(line) for line in run.epochs]).tolist()
    return seconds
