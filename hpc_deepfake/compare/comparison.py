"""All figures of a comparison: of each method and feature over its repeats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hpc_deepfake.compare.differences import Difference, deviations, differences
from hpc_deepfake.compare.plan import Layout, Training, feature_method
from hpc_deepfake.compare.results import Result
from hpc_deepfake.core.json_data import finite
from hpc_deepfake.metrics import mcnemar
from hpc_deepfake.metrics.mcnemar import Paired
from hpc_deepfake.metrics.spread import Spread, widest
from hpc_deepfake.network.registry import DEFAULT, title

_AFTER_EPOCHS = 10.0  # seconds, maximum for the last figures and files of a run after its epochs


@dataclass(frozen=True)
class Cell:
    """A method on a feature, with a network.

    Attributes:
        method: name of the strategy.
        feature: feature of the data file.
        network: title of the network; empty if the comparison has the default one only.
        layout: ranks of the method.
        results: of the finished repeats.
        speedup: over sequential, by total time, of each repeat that both have finished.
        deviations: how these runs differ from the reference, such as ``other hardware``; empty
            if they don't.
    """

    method: str
    feature: str
    network: str
    layout: Layout
    results: list[Result]
    speedup: list[float]
    deviations: str

    @property
    def name(self) -> str:
        return ", ".join(filter(None, (self.method, self.feature, self.network)))

    @property
    def on_base(self) -> str:
        """Its name among the cells on the base feature."""
        return ", ".join(filter(None, (self.method, self.network)))

    @property
    def seconds(self) -> Spread | None:
        return Spread.over(result.seconds for result in self.results)

    @property
    def images_per_s(self) -> Spread | None:
        return Spread.over(result.images_per_s for result in self.results)

    def reached(self, target: float | None) -> Spread | None:
        """Seconds to the validation accuracy ``target``."""
        return None if target is None else Spread.over(
            result.reached(target) for result in self.results)

    def figure(self, name: str) -> Spread | None:
        return Spread.over(finite(result.figures.get(name)) for result in self.results)

    def interval(self, name: str) -> tuple[float, float] | None:
        """From the lowest to the highest end of the repeats' 95% intervals."""
        return widest(result.intervals.get(name) for result in self.results)


@dataclass(frozen=True)
class Test:
    """McNemar's test of the base feature or network against another one, in one repeat.

    Attributes:
        repeat: number of the repeat, from 1.
        first: result on the base feature, or with the base network.
        second: result on the other feature, or with the other network.
        paired: counts and p value.
    """

    repeat: int
    first: Result
    second: Result
    paired: Paired


@dataclass(frozen=True)
class Comparison:
    """Everything that the report shows.

    Attributes:
        plan: all trainings.
        cells: methods on features of the plan, including those without results.
        feature_method: the method that trained every network on every feature.
        base_feature: the feature on which every method trained.
        base_network: the network that every method trained, as ``Cell.network``.
        part: part of the data on which the figures are computed; empty if runs disagree.
        target: validation accuracy of the time to accuracy; None if some run recorded none.
        target_chosen: whether the user chose it.
        differences: conditions that are not the same in all runs.
        tests: McNemar's tests of features.
        network_tests: of networks.
        container: the container baseline; None if there is none.
        no_container: why there is no container baseline.
        missing: names of unfinished trainings.
        notes: what a reader must know before reading the figures.
    """

    plan: list[Training]
    cells: list[Cell]
    feature_method: str
    base_feature: str
    base_network: str
    part: str
    target: float | None
    target_chosen: bool
    differences: list[Difference]
    tests: list[Test]
    network_tests: list[Test]
    container: dict[str, Any] | None
    no_container: str
    missing: list[str]
    notes: list[str] = field(default_factory=list)

    @property
    def results(self) -> list[Result]:
        return [result for cell in self.cells for result in cell.results]

    def cell(self, method: str, feature: str) -> Cell | None:
        """The cell of this method and feature with the base network; None without results."""
        return next((cell for cell in self.cells if (cell.method, cell.feature, cell.network)
                     == (method, feature, self.base_network) and cell.results), None)

    @property
    def majority(self) -> float | None:
        """Accuracy of always predicting the more frequent class."""
        return next((value for result in self.results
                     if (value := finite(result.figures.get("majority"))) is not None), None)


def compare(plan: list[Training], results: Sequence[Result], target: float | None,
            container: dict[str, Any] | None, no_container: str) -> Comparison:
    """The figures of a plan's finished trainings.

    Args:
        plan: all trainings.
        results: of the finished ones.
        target: validation accuracy of the time to accuracy; None: the highest whole percentage
            that every finished run on the base feature reached.
        container: the container baseline, if there is one.
        no_container: why there is none.
    """
    methods = list(dict.fromkeys(training.method for training in plan))
    main, base = feature_method(methods), plan[0].feature
    by_name = {result.training.name: result for result in results}
    finished = [by_name[training.name] for training in plan if training.name in by_name]
    differing = differences(finished)
    named = {training.network for training in plan} != {DEFAULT}
    by_cell: dict[tuple[str, str, str], list[Training]] = {}
    for training in plan:
        network = title(training.network) if named else ""
        by_cell.setdefault((training.method, training.feature, network), []).append(training)
    cells = []
    for (method, feature, network), repeats in by_cell.items():
        own = [by_name[training.name] for training in repeats if training.name in by_name]
        cells.append(Cell(method, feature, network, repeats[0].layout, own,
                          _speedup(own, finished),
                          deviations([training.name for training in repeats], differing)))
    on_base = [result for result in finished if result.training.feature == base]
    parts = {result.part for result in finished}
    goal = common_target(on_base) if target is None else target
    trained = [result for result in finished if result.training.method == main]
    comparison = Comparison(
        plan, cells, main, base, cells[0].network, "" if len(parts) != 1 else parts.pop(), goal,
        target is not None, differing, _tests(trained, "feature", "network", base),
        _tests(trained, "network", "feature", plan[0].network), container, no_container,
        [training.name for training in plan if training.name not in by_name])
    comparison.notes.extend(_notes(comparison))
    return comparison


def common_target(results: Sequence[Result]) -> float | None:
    """The highest whole percentage of validation accuracy that all runs reached in some epoch."""
    best = Spread.over(result.best_accuracy for result in results)
    return None if best is None else math.floor(best.low * 100 + 1e-9) / 100


def _speedup(results: Sequence[Result], finished: Sequence[Result]) -> list[float]:
    """Of each result: seconds of the sequential run over its seconds, in the same repeat, on the
    same feature and with the same network."""
    speedups = []
    for result in results:
        sequential = next((other for other in finished if other.training.method == "sequential"
                           and other.training.feature == result.training.feature
                           and other.training.network == result.training.network
                           and other.training.repeat == result.training.repeat), None)
        if sequential is not None and sequential.seconds and result.seconds:
            speedups.append(sequential.seconds / result.seconds)
    return speedups


def _tests(results: Sequence[Result], compared: str, same: str, base: str) -> list[Test]:
    """Tests of the base against each other; only of runs with predictions on the same pictures.

    Args:
        results: of the method that trained all of them.
        compared: attribute of a training: ``feature`` or ``network``.
        same: the other one, which is the same in both runs.
        base: value of ``compared`` that is tested against all others.
    """
    tests = []
    for second in results:
        if getattr(second.training, compared) == base:
            continue
        first = next((result for result in results if result.part == second.part
                      and result.training.repeat == second.training.repeat
                      and getattr(result.training, compared) == base
                      and getattr(result.training, same) == getattr(second.training, same)), None)
        if first is None:
            continue
        if (first.predictions is not None and second.predictions is not None
                and first.correct is not None and second.correct is not None
                and np.array_equal(np.sort(first.predictions.rows),
                                   np.sort(second.predictions.rows))):
            tests.append(Test(second.training.repeat, first, second,
                              mcnemar.paired(first.correct, second.correct)))
    return tests


def _notes(comparison: Comparison) -> list[str]:
    """What a reader must know before reading the figures."""
    notes = []
    if comparison.missing:
        notes.append(f"{len(comparison.missing)} of {len(comparison.plan)} trainings are not "
                     f"finished: {', '.join(comparison.missing)}")
    notes += [f"{difference}. The column \"conditions\" marks such runs"
              for difference in comparison.differences]
    if comparison.part == "validation":
        notes.append("There is no test part. The figures are on the validation part, which also "
                     "selected each run's best epoch: they are slightly too high (preprocessing "
                     "with --split 70/10/20 makes a test part)")
    if any(cell.layout.servers for cell in comparison.cells if cell.results):
        notes.append("Parameter servers run on the same cores as the ranks that compute: see the "
                     "column \"processes\"")
    target, base = comparison.target, comparison.base_feature
    if target is not None and not comparison.target_chosen:
        notes.append(f"Time to accuracy is the time to a validation accuracy of {target:.0%}, the "
                     f"highest whole percentage that every run on {base} reached")
    for result in comparison.results:
        ran, added = finite(result.records.summary.get("seconds")), result.seconds or 0.0
        if ran is not None and ran > 1.3 * added + _AFTER_EPOCHS:
            notes.append(f"The epochs of {result.training.name} add up to {added:,.1f} s, but it "
                         f"ran for {ran:,.1f} s: its times may be too short")
    majority = next((value for result in comparison.results for line in result.epochs
                     if (value := finite(line.get("val_majority"))) is not None), None)
    if target is not None and majority is not None and target <= majority:
        notes.append(f"The target of {target:.0%} is no higher than the accuracy of always "
                     f"predicting the more frequent class ({majority:.1%}): the time to it is "
                     "meaningless")
    return notes
