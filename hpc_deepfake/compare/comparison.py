"""All figures of a comparison: of each method and feature over its repeats."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from hpc_deepfake.compare.alike import Difference, differences, unlike
from hpc_deepfake.compare.plan import Layout, Training, lead
from hpc_deepfake.compare.results import Result
from hpc_deepfake.core.json_data import finite
from hpc_deepfake.metrics import mcnemar
from hpc_deepfake.metrics.mcnemar import Paired

_LAST = 10.0  # seconds at most for the last figures and files of a run, after its epochs


@dataclass(frozen=True)
class Spread:
    """A figure over the repeats."""

    middle: float
    low: float
    high: float
    of: int

    @classmethod
    def over(cls, values: Iterable[float | None]) -> Spread | None:
        """Median, lowest, highest; None unless every repeat has one."""
        known = list(values)
        if not known or any(value is None for value in known):
            return None
        return cls(median(known), min(known), max(known), len(known))

    def times(self, factor: float) -> Spread:
        return Spread(self.middle * factor, self.low * factor, self.high * factor, self.of)


@dataclass(frozen=True)
class Cell:
    """A method on a feature.

    Attributes:
        results: of its finished repeats. speedup: over sequential, of each repeat that both have
            finished; by time to the end. unlike: in what these runs are not like the reference.
    """

    method: str
    feature: str
    layout: Layout
    results: list[Result]
    speedup: list[float]
    unlike: str

    @property
    def name(self) -> str:
        return f"{self.method}, {self.feature}"

    @property
    def seconds(self) -> Spread | None:
        return Spread.over(one.seconds for one in self.results)

    @property
    def images_per_s(self) -> Spread | None:
        return Spread.over(one.images_per_s for one in self.results)

    def reached(self, target: float | None) -> Spread | None:
        return None if target is None else Spread.over(
            one.reached(target) for one in self.results)

    def figure(self, name: str) -> Spread | None:
        return Spread.over(finite(one.figures.get(name)) for one in self.results)

    def interval(self, name: str) -> tuple[float, float] | None:
        """From the lowest to the highest end of the repeats' 95% intervals."""
        ends = [one.intervals.get(name) for one in self.results]
        if not ends or any(one is None for one in ends):
            return None
        return min(low for low, _ in ends), max(high for _, high in ends)


@dataclass(frozen=True)
class Test:
    """McNemar's test of one repeat: the base feature (first) against another one (second)."""

    repeat: int
    first: Result
    second: Result
    paired: Paired


@dataclass(frozen=True)
class Comparison:
    """What the report is made of.

    Attributes:
        cells: those of the plan, also without results. lead: the method that has every feature.
        base: the feature that every method has. part: whose figures are given; empty without any.
        target: validation accuracy; None where no epoch of some method is known. chosen: whether
            the user chose it. container, no_container: the container baseline, or why there is
            none. missing: names of trainings that aren't finished.
    """

    plan: list[Training]
    cells: list[Cell]
    lead: str
    base: str
    part: str
    target: float | None
    chosen: bool
    differences: list[Difference]
    tests: list[Test]
    container: dict[str, Any] | None
    no_container: str
    missing: list[str]
    notes: list[str] = field(default_factory=list)

    @property
    def results(self) -> list[Result]:
        return [one for cell in self.cells for one in cell.results]

    def cell(self, method: str, feature: str) -> Cell | None:
        """Such a cell, if it has results."""
        return next((one for one in self.cells if (one.method, one.feature) == (method, feature)
                     and one.results), None)

    @property
    def majority(self) -> float | None:
        return next((value for one in self.results
                     if (value := finite(one.figures.get("majority"))) is not None), None)


def compare(plan: list[Training], results: Sequence[Result], target: float | None,
            container: dict[str, Any] | None, no_container: str) -> Comparison:
    """The figures of a plan's finished trainings.

    Args:
        target: validation accuracy of the time to accuracy; None: the highest whole per cent that
            every finished run on the base feature reached.
    """
    methods = list(dict.fromkeys(one.method for one in plan))
    main, base = lead(methods), plan[0].feature
    found = {one.training.name: one for one in results}
    done = [found[one.name] for one in plan if one.name in found]
    unequal = differences(done)
    by_cell: dict[tuple[str, str], list[Training]] = {}
    for one in plan:
        by_cell.setdefault((one.method, one.feature), []).append(one)
    cells = []
    for (method, feature), some in by_cell.items():
        mine = [found[one.name] for one in some if one.name in found]
        cells.append(Cell(method, feature, some[0].layout, mine, _speedup(mine, done),
                          unlike([one.name for one in some], unequal)))
    on_base = [one for one in done if one.training.feature == base]
    parts = {one.part for one in done}
    goal = common_target(on_base) if target is None else target
    comparison = Comparison(plan, cells, main, base, "" if len(parts) != 1 else parts.pop(), goal,
                            target is not None, unequal, _tests(done, main, base), container,
                            no_container, [one.name for one in plan if one.name not in found])
    comparison.notes.extend(_notes(comparison))
    return comparison


def common_target(results: Sequence[Result]) -> float | None:
    """The highest whole per cent of validation accuracy that all of them reached at some epoch."""
    best = [one.best_accuracy for one in results]
    if not best or any(value is None for value in best):
        return None
    return math.floor(min(best) * 100 + 1e-9) / 100


def _speedup(mine: Sequence[Result], done: Sequence[Result]) -> list[float]:
    """Of each repeat: its sequential run's seconds over mine, on the same feature."""
    found = []
    for one in mine:
        alone = next((other for other in done if other.training.method == "sequential"
                      and other.training.feature == one.training.feature
                      and other.training.repeat == one.training.repeat), None)
        if alone is not None and alone.seconds and one.seconds:
            found.append(alone.seconds / one.seconds)
    return found


def _tests(done: Sequence[Result], method: str, base: str) -> list[Test]:
    mine = [one for one in done if one.training.method == method]
    found = []
    for second in mine:
        first = next((one for one in mine if one.training.feature == base
                      and one.training.repeat == second.training.repeat), None)
        if second.training.feature == base or first is None or first.part != second.part:
            continue
        a, b = first.right, second.right
        if a is not None and b is not None and np.array_equal(
                np.sort(first.predictions.rows), np.sort(second.predictions.rows)):
            found.append(Test(second.training.repeat, first, second, mcnemar.paired(a, b)))
    return found


def _notes(comparison: Comparison) -> list[str]:
    """What a reader must know before any figure."""
    notes = []
    if comparison.missing:
        notes.append(f"{len(comparison.missing)} of {len(comparison.plan)} trainings are not "
                     f"finished: {', '.join(comparison.missing)}")
    notes += [f"{one}. Lines with such runs are marked" for one in comparison.differences]
    if comparison.part == "validation":
        notes.append("There is no test part. Figures are of the validation part, which also chose "
                     "each run's epoch: they are a little too good (--split 70/10/20 makes one)")
    if any(cell.layout.servers for cell in comparison.cells if cell.results):
        notes.append("Servers of parameters run on the same cores as the ranks that compute: see "
                     "the column of processes")
    target, base = comparison.target, comparison.base
    if target is not None and not comparison.chosen:
        notes.append(f"The time to accuracy is that to {target:.0%} of validation accuracy, the "
                     f"highest whole per cent that every run on {base} reached")
    for one in comparison.results:
        ran, known = finite(one.records.summary.get("seconds")), one.seconds or 0.0
        if ran is not None and ran > 1.3 * known + _LAST:
            notes.append(f"The epochs of {one.training.name} add up to {known:,.1f} s, but it ran "
                         f"{ran:,.1f} s: its times may be too short")
    majority = next((value for one in comparison.results for line in one.epochs
                     if (value := finite(line.get("val_majority"))) is not None), None)
    if target is not None and majority is not None and target <= majority:
        notes.append(f"{target:.0%} is no more than always giving the more frequent class reaches "
                     f"({majority:.1%}): the time to it says nothing")
    return notes
