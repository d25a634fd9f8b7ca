"""All that a report tells, gathered from a run directory, its data file and its pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hpc_deepfake import metrics
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.json_data import dictionary, finite
from hpc_deepfake.metrics.intervals import bootstrap
from hpc_deepfake.train import predictions, records
from hpc_deepfake.train.predictions import Predictions
from hpc_deepfake.train.records import Records
from preprocessing import protocol
from preprocessing.store import Header, open_header

PARTS = ("test", "validation")  # in the order of the report: the test part chose nothing


@dataclass(frozen=True)
class Part:
    """One part's results.

    Attributes:
        figures: those of ``metrics.evaluate``. predictions: None where only figures are known.
        interval: 95%, of the accuracy, if whole groups of common source were drawn again; None
            where it isn't known.
    """

    name: str
    figures: dict[str, Any]
    predictions: Predictions | None
    interval: tuple[float, float] | None = None

    @property
    def majority_class(self) -> str:
        """What the majority baseline always says."""
        tp, fn, tn, fp = (finite(self.figures.get(name)) or 0 for name in ("tp", "fn", "tn", "fp"))
        return "tampered" if tp + fn > tn + fp else "authentic"


@dataclass(frozen=True)
class Content:
    """What the page is made of; nothing else is read while it is written.

    Attributes:
        header: of the data file; None where it can't be opened. container: figures of the
            container baseline, over the validation part. no_container: why there are none.
        notes: what a reader must know before the figures.
    """

    records: Records
    parts: list[Part]
    header: Header | None
    container: dict[str, Any] | None
    no_container: str
    notes: list[str] = field(default_factory=list)


def collect(run: Path, wanted: str = "both", *, model: bool = True,
            most_rows: int | None = None) -> Content:
    """Everything known of the run in the directory ``run``.

    Args:
        wanted: ``validation``, ``test`` or ``both``. model: whether probabilities that the run
            did not note may be computed with its model. most_rows: of the data file; with more,
            what takes long is left out: the container baseline, which reads each file's head,
            and the interval.

    Raises:
        InputError: no run, damaged records, or no such part.
    """
    found = records.read(run)
    notes: list[str] = []
    header, problem = _header(found)
    if header is None:
        notes.append(f"The data file can't be opened, so pictures are missing here: {problem}")
    noted = predictions.read(run)
    if not noted and model:
        noted, problem = _compute(found, header)
        if not noted:
            notes.append("This run noted no probabilities (predictions.csv), and its model can't "
                         f"compute them now: {problem}. Curves and examples need them")
    large = header is not None and most_rows is not None and header.rows > most_rows
    parts = [part for name in PARTS if wanted in (name, "both")
             and (part := _part(name, found, noted, None if large else header)) is not None]
    if wanted != "both" and not parts:
        raise InputError(f"the run in {run} has no figures of a {wanted} part; take --part both, "
                         "or split the data with a test part (--split 70/10/20)")
    if found.unfinished:
        notes.append("The training was not finished when this page was written: its figures "
                     "may change")
    if any(part.predictions is not None and np.isnan(part.predictions.probabilities).any()
           for part in parts):
        notes.append("The model gave some pictures no number as probability: the training "
                     "diverged. They count as called authentic")
    if header is not None:
        warning = protocol.warning(header.array("path"), header.array("label"))
        notes += [warning.removeprefix("warning: ")] if warning else []
    return Content(found, parts, header, *_container(header, large), notes)


def _header(found: Records) -> tuple[Header | None, str]:
    if found.data is None:
        return None, "config.json doesn't name it"
    try:
        return open_header(found.data), ""
    except (InputError, OSError) as error:
        return None, str(error).partition("\n")[0].partition(". Make it from")[0]


def _compute(found: Records, header: Header | None) -> tuple[dict[str, Predictions], str]:
    """Predictions of both parts with the run's model, or why there are none."""
    if header is None:
        return {}, "the data file is missing"
    from hpc_deepfake.evaluate import open_file, probabilities
    from hpc_deepfake.network import model

    try:
        data = open_file(header.path, model.read_card(found.path))

        from hpc_deepfake.network.device import start

        start("auto")
        network = model.load(found.path)
    except InputError as error:
        return {}, str(error).partition("\n")[0].rstrip(".")
    return {part: predictions.of(data, part, probabilities(network, data, data.rows(part)))
            for part in PARTS if len(data.rows(part))}, ""


def _part(name: str, found: Records, noted: dict[str, Predictions],
          header: Header | None) -> Part | None:
    if name in noted:
        one = noted[name]
        figures = metrics.evaluate(one.probabilities, one.labels, found.threshold)
        return Part(name, figures, one, None if header is None else _interval(one, found, header))
    figures = dictionary(found.summary.get(name))
    return Part(name, figures, None) if figures else None


def _interval(one: Predictions, found: Records, header: Header) -> tuple[float, float] | None:
    if not one.of_file(header):
        return None
    groups = header.array("group")[one.rows]
    return bootstrap(one.probabilities, one.labels, groups, found.threshold)["accuracy"]


def _container(header: Header | None, large: bool) -> tuple[dict[str, Any] | None, str]:
    """The container baseline, or None and why."""
    if header is None:
        return None, "the data file can't be opened"
    if large:
        return None, f"too many files to read at the end of training: {header.rows:,}; " \
                     "hpc-deepfake report does"
    from hpc_deepfake.audit import container_baseline

    baseline: Callable[..., dict[str, Any] | None] = container_baseline
    try:
        return baseline(header.path), "the original files weren't found where they were"
    except InputError as error:
        return None, str(error)
