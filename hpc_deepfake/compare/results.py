"""The result of one finished training, read from its run directory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpc_deepfake.compare.plan import Training
from hpc_deepfake.core.json_data import dictionary, finite, items
from hpc_deepfake.core.text import whole_number
from hpc_deepfake.train import records
from hpc_deepfake.train.predictions import Predictions
from hpc_deepfake.train.records import Records
from hpc_deepfake.train.scores import FIGURES, elapsed, scores
from preprocessing.store import Header

__all__ = ["FIGURES", "Result", "result"]


@dataclass(frozen=True)
class Result:
    """A finished training.

    Attributes:
        training: its plan.
        records: the files of its run directory.
        epochs: lines of ``metrics.jsonl``.
        elapsed: seconds from the start to the end of each epoch.
        part: part of the data on which the figures are computed.
        predictions: predictions on that part; None if the run kept none.
        figures: of ``metrics.evaluate`` on that part.
        intervals: 95% intervals by name of the figure; empty where the groups of common source
            are unknown.
    """

    training: Training
    records: Records
    epochs: list[dict[str, Any]]
    elapsed: list[float]
    part: str
    predictions: Predictions | None
    figures: dict[str, Any]
    intervals: dict[str, tuple[float, float] | None]

    @property
    def seconds(self) -> float | None:
        """Total time: of all epochs, including those before an interruption. (The seconds of the
        summary count from the last start.)"""
        return self.elapsed[-1] if self.elapsed else None

    @property
    def images_per_s(self) -> float | None:
        """Training images per second by the wall clock, median of the epochs."""
        rates = [rate for line in self.epochs if (rate := records.wall_rate(line)) is not None]
        return float(np.median(rates)) if rates else None

    @property
    def steps_per_epoch(self) -> float | None:
        steps, epochs = (finite(self.records.summary.get(key)) for key in ("steps", "epochs"))
        return steps / epochs if steps is not None and epochs else None

    @property
    def hosts(self) -> str:
        """Devices on hosts, such as ``EPYC on n01`` or ``2 × A100 on n01``: GPUs are counted, since
        each rank has its own, CPUs are not."""
        ranks = [dictionary(rank) for rank in items(self.records.environment.get("ranks"))]
        devices = {(str(rank.get("host", "?")), str(rank.get("name", "?")),
                    str(rank.get("device", "?"))) for rank in ranks}
        counts = Counter((host, name, device != "CPU") for host, name, device in devices)
        return ", ".join(f"{f'{number} × ' if gpu else ''}{name} on {host}"
                         for (host, name, gpu), number in sorted(counts.items())) or "unknown"

    @property
    def threads(self) -> int | None:
        """CPU threads of all processes together."""
        threads = [finite(dictionary(rank).get("threads"))
                   for rank in items(self.records.environment.get("ranks"))]
        recorded = [number for number in threads if number is not None]
        return None if not threads or len(recorded) < len(threads) else round(sum(recorded))

    @property
    def correct(self) -> np.ndarray | None:
        """Whether each picture of the part was classified correctly, bool (n), in row order."""
        if self.predictions is None:
            return None
        tampered = self.predictions.probabilities >= self.records.threshold
        order = np.argsort(self.predictions.rows, kind="stable")
        return (tampered == (self.predictions.labels == 1))[order]

    @property
    def staleness(self) -> dict[int, int]:
        """Number of updates by staleness: how many other updates were applied between reading the
        weights and changing them."""
        counts: Counter[int] = Counter()
        for line in self.epochs:
            for key, value in dictionary(line.get("staleness")).items():
                age, count = whole_number(key), finite(value)
                if age is not None and count:
                    counts[age] += round(count)
        return dict(sorted(counts.items()))

    def reached(self, target: float) -> float | None:
        """Seconds until the end of the first epoch with at least this validation accuracy."""
        for line, seconds in zip(self.epochs, self.elapsed, strict=True):
            accuracy = finite(line.get("val_accuracy"))
            if accuracy is not None and accuracy >= target:
                return seconds
        return None

    @property
    def best_accuracy(self) -> float | None:
        """The highest validation accuracy of any epoch."""
        accuracies = [value for line in self.epochs
                      if (value := finite(line.get("val_accuracy"))) is not None]
        return max(accuracies, default=None)


def result(training: Training, header: Header | None) -> Result:
    """The result of a finished training.

    Args:
        training: its plan.
        header: of its data file, for the groups of common source; None if it is unavailable.

    Raises:
        InputError: damaged records, or predictions on other pictures than the data file's.
    """
    run = records.read(training.path)
    own = scores(run, header, "--out")
    return Result(training, run, run.epochs, elapsed(run), own.part, own.predictions, own.figures,
                  own.intervals)
