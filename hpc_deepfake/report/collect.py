"""The content of the page, from a run directory, its data file and its pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hpc_deepfake import metrics
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.json_data import dictionary, finite
from hpc_deepfake.metrics.intervals import bootstrap
from hpc_deepfake.network import ensemble
from hpc_deepfake.network import model as network
from hpc_deepfake.network.card import Card
from hpc_deepfake.report import where
from hpc_deepfake.train import divergence, predictions, records
from hpc_deepfake.train.predictions import Predictions
from hpc_deepfake.train.records import Records
from hpc_deepfake.train.scores import PIXELS
from preprocessing import protocol
from preprocessing.store import Header, open_header

PARTS = ("test", "validation")  # in the order of the page: nothing was chosen on the test part


@dataclass(frozen=True)
class Part:
    """The results of one part.

    Attributes:
        name: ``validation`` or ``test``.
        figures: those of ``metrics.evaluate``, and of a network that says where ``scores.PIXELS``.
        predictions: None if only the figures are known.
        interval: 95% interval of the accuracy over samples of groups of common source; None if
            unknown.
    """

    name: str
    figures: dict[str, Any]
    predictions: Predictions | None
    interval: tuple[float, float] | None = None

    @property
    def majority_class(self) -> str:
        """The class that the majority baseline always predicts."""
        tp, fn, tn, fp = (finite(self.figures.get(name)) or 0 for name in ("tp", "fn", "tn", "fp"))
        return "tampered" if tp + fn > tn + fp else "authentic"


@dataclass(frozen=True)
class Content:
    """What the page is made of; nothing else is read while it is written.

    Attributes:
        records: of the run.
        parts: those with results, in the order of the page.
        header: of the data file; None if it can't be opened.
        container: figures of the container baseline, over the validation part.
        no_container: why there is no container baseline.
        notes: what a reader must know before the figures.
        card: of the model; None if there is none yet, or it can't be read.
        located: masks and the model's maps of a few pictures; None: there are none.
    """

    records: Records
    parts: list[Part]
    header: Header | None
    container: dict[str, Any] | None
    no_container: str
    notes: list[str] = field(default_factory=list)
    card: Card | None = None
    located: where.Located | None = None


def collect(run: Path, part: str = "both", *, model: bool = True,
            most_rows: int | None = None) -> Content:
    """Everything that is known about a run.

    Args:
        run: the run directory.
        part: ``validation``, ``test`` or ``both``.
        model: whether probabilities may be computed with the run's model if the run has no
            ``predictions.csv``.
        most_rows: with more rows in the data file, the slow steps are skipped: the container
            baseline, which reads the head of each file, and the interval.

    Raises:
        InputError: no run, damaged records, or no such part.
    """
    run_records = records.read(run)
    notes: list[str] = []
    header, problem = _header(run_records)
    if header is None:
        notes.append(f"The data file can't be opened, so pictures are missing here: {problem}")
    by_part = predictions.read(run)
    if not by_part and model:
        by_part, problem = _compute(run_records, header)
        if not by_part:
            notes.append("This run has no predictions.csv, and its model can't compute the "
                         f"probabilities now: {problem}. Curves and examples need them")
    large = header is not None and most_rows is not None and header.rows > most_rows
    parts = [results for name in PARTS if part in (name, "both") and (results := _part(
        name, run_records, by_part, None if large else header)) is not None]
    if part != "both" and not parts:
        raise InputError(f"the run in {run} has no figures of a {part} part: use --part both, "
                         "or split the data with a test part (--split 70/10/20)")
    if run_records.unfinished:
        notes.append("The training was not finished when this page was written: its figures "
                     "may change")
    diverged = divergence.recorded(run)
    if diverged is not None:
        notes.append(diverged[1][:1].upper() + diverged[1][1:])
    if any(results.predictions is not None and np.isnan(results.predictions.probabilities).any()
           for results in parts):
        notes.append("The model's probability is not a number for some pictures: the training "
                     "diverged. They count as predicted authentic")
    if header is not None:
        warning = protocol.warning(header.array("path"), header.array("label").tolist())
        notes += [warning.removeprefix("warning: ")] if warning else []
    card = None
    if (run / "model.keras").is_file() or (run / ensemble.NAME).is_file():
        try:
            card = network.read_card(run)
            notes = [*(f"Model: {caveat}" for caveat in card.caveats), *notes]
        except InputError as error:
            notes.insert(0, str(error)[:1].upper() + str(error)[1:])
    located = None
    shown = next(((results.name, results.predictions) for results in parts
                  if results.predictions is not None), None)
    if header is not None and card is not None and shown is not None:
        try:
            located = where.located(run, *shown, header, card)
        except InputError as error:
            notes.append(f"Maps of the model are missing here: {error}")
    return Content(run_records, parts, header, *_container(header, large), notes, card, located)


def _header(run_records: Records) -> tuple[Header | None, str]:
    """Header of the run's data file, or why it can't be opened."""
    if run_records.data is None:
        return None, "config.json doesn't name it"
    try:
        return open_header(run_records.data), ""
    except (InputError, OSError) as error:
        return None, str(error).partition("\n")[0].partition(". Make it from")[0]


def _compute(run_records: Records,
             header: Header | None) -> tuple[dict[str, Predictions], str]:
    """Predictions of both parts with the run's model, or why there are none."""
    if header is None:
        return {}, "the data file is missing"
    from hpc_deepfake.evaluate import open_file, probabilities
    from hpc_deepfake.network import model

    try:
        data = open_file(header.path, model.read_card(run_records.path))

        from hpc_deepfake.network.device import start

        start("auto")
        network = model.load(run_records.path)
        return {part: predictions.of(data, part, probabilities(network, data, data.rows(part)))
                for part in PARTS if len(data.rows(part))}, ""
    except InputError as error:
        return {}, str(error).partition("\n")[0].rstrip(".")


def _part(name: str, run_records: Records, by_part: dict[str, Predictions],
          header: Header | None) -> Part | None:
    if name in by_part:
        predicted = by_part[name]
        figures = metrics.evaluate(predicted.probabilities, predicted.labels,
                                   run_records.threshold)
        recorded = dictionary(run_records.summary.get(name))
        figures |= {key: recorded[key] for key in PIXELS if key in recorded}
        return Part(name, figures, predicted,
                    None if header is None else _interval(predicted, run_records, header))
    figures = dictionary(run_records.summary.get(name))
    return Part(name, figures, None) if figures else None


def _interval(predicted: Predictions, run_records: Records,
              header: Header) -> tuple[float, float] | None:
    if not predicted.of_file(header):
        return None
    groups = header.array("group")[predicted.rows]
    return bootstrap(predicted.probabilities, predicted.labels, groups,
                     run_records.threshold)["accuracy"]


def _container(header: Header | None, large: bool) -> tuple[dict[str, Any] | None, str]:
    """The container baseline, or None and why."""
    if header is None:
        return None, "the data file can't be opened"
    if large:
        return None, f"too many files to read at the end of training: {header.rows:,}; " \
                     "hpc-deepfake report reads them"
    from hpc_deepfake.audit import container_baseline

    try:
        return (container_baseline(header.path),
                "the original files, or a class in a part, are missing")
    except InputError as error:
        return None, str(error)
