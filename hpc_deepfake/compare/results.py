"""What one finished training gives to the comparison, from its run directory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpc_deepfake import metrics
from hpc_deepfake.compare.plan import Training
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.json_data import dictionary, finite, items
from hpc_deepfake.metrics.intervals import bootstrap
from hpc_deepfake.train import predictions, records
from hpc_deepfake.train.predictions import Predictions
from hpc_deepfake.train.records import Records
from preprocessing.store import Header

PARTS = ("test", "validation")  # the first that there is: the test part chose nothing
FIGURES = ("accuracy", "balanced_accuracy", "auc")


@dataclass(frozen=True)
class Result:
    """A finished training.

    Attributes:
        epochs: lines of ``metrics.jsonl``. elapsed: seconds at the end of each of them. part: whose
            predictions are judged. figures: of ``metrics.evaluate`` on it. intervals: 95%, by name
            of the figure; empty where the groups of common source aren't known.
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
        """To the end: of all epochs, those before an interruption included. (The summary's seconds
        count from the last start.)"""
        return self.elapsed[-1] if self.elapsed else None

    @property
    def images_per_s(self) -> float | None:
        """Median of the epochs."""
        return finite(self.records.summary.get("images_per_s"))

    @property
    def steps_per_epoch(self) -> float | None:
        steps, epochs = (finite(self.records.summary.get(key)) for key in ("steps", "epochs"))
        return steps / epochs if steps is not None and epochs else None

    @property
    def hosts(self) -> str:
        """Devices on hosts, such as ``EPYC on n01`` or ``2 × A100 on n01``: GPUs are counted, since
        each rank has one of its own, processors are not."""
        ranks = [dictionary(one) for one in items(self.records.environment.get("ranks"))]
        devices = {(str(one.get("host", "?")), str(one.get("name", "?")),
                    str(one.get("device", "?"))) for one in ranks}
        counted = Counter((host, name, device != "CPU") for host, name, device in devices)
        return ", ".join(f"{f'{many} × ' if gpu else ''}{name} on {host}"
                         for (host, name, gpu), many in sorted(counted.items())) or "unknown"

    @property
    def threads(self) -> int | None:
        """Of all processes together."""
        found = [finite(dictionary(one).get("threads"))
                 for one in items(self.records.environment.get("ranks"))]
        return None if not found or None in found else round(sum(found))

    @property
    def right(self) -> np.ndarray | None:
        """Whether each picture of the part was judged rightly, bool (n), in the order of rows."""
        one = self.predictions
        if one is None:
            return None
        said = one.probabilities >= self.records.threshold
        return (said == (one.labels == 1))[np.argsort(one.rows, kind="stable")]

    @property
    def staleness(self) -> dict[int, int]:
        """Updates by how many others came between reading the weights and changing them."""
        found: Counter[int] = Counter()
        for line in self.epochs:
            for key, value in dictionary(line.get("staleness")).items():
                count = finite(value)
                if key.isdecimal() and count:
                    found[int(key)] += round(count)
        return dict(sorted(found.items()))

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
        known = [value for line in self.epochs
                 if (value := finite(line.get("val_accuracy"))) is not None]
        return max(known, default=None)


def result(training: Training, header: Header | None) -> Result:
    """The result of a finished training. ``header`` is of its data file, for the groups.

    Raises:
        InputError: damaged records, or predictions of other pictures than the data file's.
    """
    found = records.read(training.path)
    noted = predictions.read(training.path)
    part = next((one for one in PARTS if one in noted or one in found.summary), PARTS[-1])
    one, figures = noted.get(part), dictionary(found.summary.get(part))
    intervals: dict[str, tuple[float, float] | None] = {}
    if one is not None:
        if header is not None and not one.of_file(header):
            raise InputError(f"the predictions of {training.path} are of other pictures than those "
                             f"of {header.path}: the data file was made anew meanwhile. Choose "
                             "another --out")
        figures = metrics.evaluate(one.probabilities, one.labels, found.threshold)
        if header is not None:
            intervals = bootstrap(one.probabilities, one.labels, header.array("group")[one.rows],
                                  found.threshold)
    return Result(training, found, found.epochs, _elapsed(found.epochs), part, one, figures,
                  intervals)


def _elapsed(epochs: Sequence[dict[str, Any]]) -> list[float]:
    seconds = [sum(finite(value) or 0.0 for value in dictionary(line.get("seconds")).values())
               for line in epochs]
    return np.cumsum(seconds).tolist()
