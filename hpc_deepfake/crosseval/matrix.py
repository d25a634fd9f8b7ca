"""The figures of a matrix: each model on each data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np

from hpc_deepfake import metrics
from hpc_deepfake.audit import Container
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.json_data import finite
from hpc_deepfake.crosseval import scoring
from hpc_deepfake.crosseval.datasets import DataSet
from hpc_deepfake.crosseval.overlap import Overlap, Overlaps
from hpc_deepfake.crosseval.plan import Evaluation, Model
from hpc_deepfake.crosseval.scoring import Scores
from hpc_deepfake.evaluate import Material, Rules, choose, figures_of
from hpc_deepfake.metrics import masks
from hpc_deepfake.metrics.spread import Spread, widest
from hpc_deepfake.network import decision, model
from hpc_deepfake.network.card import Card
from hpc_deepfake.train import planned

FEW = 10  # pictures of a class, below which figures say nothing
Interval = tuple[float, float]
# Figures of a cell: name, heading, and how the figures of ``evaluate`` have it
FIGURES = ("auc", "balanced_accuracy", "accuracy", "false_positive_rate", "recall", "pixel_auc",
           "pixel_f1", "pixel_iou", "pixel_false_alarm_area")


@dataclass(frozen=True)
class Result:
    """A model on a data set.

    Attributes:
        model: the model.
        data: the data set.
        card: the model's, with the threshold that was chosen.
        authentic: pictures that are evaluated, without those taken out.
        tampered: likewise.
        figures: by ``FIGURES``; None where one is not defined.
        intervals: 95%, by groups of common source, likewise.
        majority: accuracy of always predicting the more frequent class; None without pictures.
        overlap: what the model's training shares with the data set.
        with_shared: ROC-AUC of all pictures, shared ones included.
        unlike: number of pictures on which ``predict`` gives no verdict.
        pixels: as of ``masks.figures``; None: the model has no map, or the file no masks.
        errors: pixel ROC-AUC of plain error levels, likewise.
        container: ROC-AUC of what file properties of the model's training part predict of the same
            pictures; None: unknown.
    """

    model: Model
    data: DataSet
    card: Card
    authentic: int
    tampered: int
    figures: dict[str, float | None]
    intervals: dict[str, Interval | None]
    majority: float | None
    overlap: Overlap
    with_shared: float | None
    unlike: int
    pixels: dict[str, Any] | None
    errors: float | None
    container: float | None

    @property
    def own(self) -> bool:
        """Whether the model was trained on this data set."""
        return self.model.data is self.data

    @property
    def few(self) -> bool:
        """Whether so few pictures of a class are left that the figures say nothing."""
        return any(0 < count < FEW for count in (self.authentic, self.tampered))


@dataclass(frozen=True)
class Cell:
    """Repeats of a model on a data set."""

    results: list[Result]

    def figure(self, name: str) -> Spread | None:
        return Spread.over(result.figures[name] for result in self.results)

    def interval(self, name: str) -> Interval | None:
        """From the lowest to the highest end of the repeats' intervals."""
        return widest(result.intervals[name] for result in self.results)


@dataclass(frozen=True)
class Row:
    """Models that differ in their seed alone.

    Attributes:
        data: what they were trained on.
        network: title of the network.
        feature: that they read.
        given: name of a run that was given; empty: trained here.
        cells: by name of the data set; those without results are left out.
    """

    data: DataSet
    network: str
    feature: str
    given: str
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Matrix:
    """Everything that the report shows.

    Attributes:
        data: the data sets, in the order of the columns.
        rows: the models.
        results: all of them.
        missing: names of trainings and evaluations that aren't finished.
        within: ROC-AUC of file properties, cross-validated within the pictures of a data set that
            are evaluated, by its name; None: unknown.
        taken_out: whether shared pictures were.
    """

    data: list[DataSet]
    rows: list[Row]
    results: list[Result]
    missing: list[str]
    within: dict[str, float | None]
    taken_out: bool

    @property
    def notes(self) -> list[str]:
        """What a reader must know before reading the figures."""
        notes = [f"Not finished: {', '.join(self.missing)}"] if self.missing else []
        for data in self.data:
            if data.trained and data.part == "validation":
                notes.append(f"{data.name} has no test part: its validation part, which also "
                             "selected the epoch and the threshold of the models trained on it, "
                             "stands for it, so their own figures are slightly too good")
        for result in self.results:
            if result.overlap.note:
                notes.append(f"What {result.data.name} shares with {result.model.data.name} is "
                             f"not fully known: {result.overlap.note}")
            if not result.authentic + result.tampered:
                notes.append(f"Nothing is left of {result.data.name} without what "
                             f"{result.model.data.name} shares with it")
            elif result.few:
                notes.append(f"Of {result.data.name} only {result.authentic} authentic and "
                             f"{result.tampered} tampered pictures are evaluated on "
                             f"{result.model.data.name}'s models: figures of fewer than {FEW} of a "
                             "class say nothing, and are marked with ? on the terminal")
        for result in self.results:
            low = result.intervals["auc"]
            if result.own and low is not None and low[0] <= 0.5:
                notes.append(f"{result.model.name} is hardly better than chance on its own data "
                             "set, so its figures on others say nothing about transfer")
        if not self.taken_out and any(result.overlap.ways.any() for result in self.results):
            notes.append("Pictures that a training knows are in the figures (--shared in): they "
                         "are too good")
        return list(dict.fromkeys(notes))


def matrix(plan: Sequence[Evaluation], data: Sequence[DataSet], rules: Rules, overlaps: Overlaps,
           taken_out: bool = True) -> Matrix:
    """The matrix of what is finished.

    Args:
        plan: of the evaluations.
        data: the data sets, in the order of the columns.
        rules: of the thresholds.
        overlaps: of the data sets.
        taken_out: whether to take out what the training knows.

    Raises:
        InputError: no evaluation is finished, or the rules can't choose a threshold.
    """
    finished = [each for each in plan if each.state() == planned.DONE]
    if not finished:
        raise InputError("no evaluation of this matrix is finished: run it first, without "
                         "--report-only, or name its folder with --out")
    containers = {each.name: _container(each) for each in data}
    results = [result for each in finished
               for result in _results(each, rules, overlaps, containers, taken_out)]
    rows: dict[tuple[str, ...], Row] = {}
    for result in results:
        own = result.model
        row = rows.setdefault(own.kind, Row(own.data, own.network, own.feature, own.given, {}))
        row.cells.setdefault(result.data.name, Cell([])).results.append(result)
    within = {each.name: _within(containers[each.name], each) for each in data}
    return Matrix([*data], [*rows.values()], results,
                  [each.of.name for each in plan if each not in finished], within, taken_out)


def _results(plan: Evaluation, rules: Rules, overlaps: Overlaps,
             containers: dict[str, Container | None], taken_out: bool) -> list[Result]:
    """A model on all data sets."""
    own = plan.of
    stored = decision.in_use(model.read_card(own.run))
    scores: dict[str, Scores] = {}
    for data, file, parts in plan.files:
        found = scoring.read(file, own.run, data, parts)
        assert found is not None  # it is finished
        scores[data.name] = found
    where = f"the validation part of {own.data.path}"
    validation = own.data.rows("validation")
    card = choose(rules, _material(own.data, scores[own.data.name].of(validation)), stored, where)
    return [_result(own, data, scores[data.name].of(data.tested), card,
                    overlaps.of(own.data, data), containers, taken_out) for data, *_ in plan.files]


def _result(own: Model, data: DataSet, scores: Scores, card: Card, overlap: Overlap,
            containers: dict[str, Container | None], taken_out: bool) -> Result:
    every = _material(data, scores)
    kept = overlap.ways == 0 if taken_out else np.ones(len(overlap.ways), bool)
    material = every.take(kept)
    labels = material.labels
    figures: dict[str, float | None] = dict.fromkeys(FIGURES)
    intervals: dict[str, Interval | None] = dict.fromkeys(FIGURES)
    majority = None
    if len(material):
        found = figures_of(material, card)
        majority = finite(found["majority"])
        for name in ("auc", "balanced_accuracy", "accuracy"):
            figures[name], intervals[name] = finite(found[name]), found["intervals"][name]
        for name, rate in (("false_positive_rate", "false_positive"), ("recall", "recall")):
            if found["rates"][rate] is not None:
                figures[name] = finite(found["rates"][rate]["value"])
                intervals[name] = found["rates"][rate]["interval"]
    pixels = errors = None
    if scores.pixels is not None and len(material):
        pixels = _pixels(scores.pixels[kept], material, card, figures, intervals)
    if scores.errors is not None and len(material):
        errors = masks.figures(scores.errors[kept], labels)["per_picture"]["auc"]
    return Result(own, data, card, int((labels == 0).sum()), int((labels == 1).sum()), figures,
                  intervals, majority, overlap, metrics.auc(every.scores.odds, every.labels),
                  int(material.unlike.sum()), pixels, errors,
                  _transferred(containers[own.data.name], containers[data.name],
                               scores.rows[kept]))


def _pixels(counts: np.ndarray, material: Material, card: Card, figures: dict[str, float | None],
            intervals: dict[str, Interval | None]) -> dict[str, Any] | None:
    """Figures of maps; None if no picture that is left has a mask. They are also put into
    ``figures`` and ``intervals``."""
    if not counts.any():
        return None
    level = getattr(card, "mask_threshold", None)
    threshold = masks.HALF if level is None else int(level)
    found = masks.figures(counts, material.labels, threshold)
    bounds = masks.bootstrap(counts, material.groups, material.labels, threshold)
    for name in ("auc", "f1", "iou"):
        figures[f"pixel_{name}"] = found["per_picture"][name]
        intervals[f"pixel_{name}"] = bounds["per_picture"][name]
    figures["pixel_false_alarm_area"] = found["false_alarm_area"]
    intervals["pixel_false_alarm_area"] = bounds["authentic"]["false_alarm_area"]
    return found


def _material(data: DataSet, scores: Scores) -> Material:
    """Scores as material of ``evaluate``."""
    header, rows = data.header, scores.rows
    groups = np.array(header.array("group"))
    sizes = np.bincount(groups[data.rows("all")], minlength=int(groups.max()) + 1)
    paths = np.array(header.array("path"))[rows].tolist()
    return Material([unquote_to_bytes(path) for path in paths],
                    np.array(header.array("label"))[rows], groups[rows], sizes[groups[rows]],
                    scores.probabilities, scores.unlike, odds=scores.odds)


def _container(data: DataSet) -> Container | None:
    """Properties of a data set's files; None if they aren't there."""
    return Container.of(data.path)


def _transferred(train: Container | None, test: Container | None,
                 rows: np.ndarray) -> float | None:
    """ROC-AUC of what file properties of the training part predict of these rows of a file."""
    if train is None or test is None or not len(rows):
        return None
    tested = test.take(np.isin(test.rows.rows, rows))
    found = train.onto(tested)
    return None if found is None else metrics.auc(found.probabilities, tested.rows.labels)


def _within(container: Container | None, data: DataSet) -> float | None:
    if container is None:
        return None
    return container.take(np.isin(container.rows.rows, data.tested)).within()


def mean_over(cells: Sequence[Cell], name: str,
              chosen: Callable[[Result], bool]) -> float | None:
    """Mean of a figure's medians over cells, of those whose results are chosen; None without."""
    values = [spread.median for cell in cells if cell.results and chosen(cell.results[0])
              and (spread := cell.figure(name)) is not None]
    return float(np.mean(values)) if values else None
