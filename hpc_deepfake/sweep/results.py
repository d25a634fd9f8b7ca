"""What the trials of a sweep reached, and their ranking by the validation part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.json_data import finite
from hpc_deepfake.metrics.spread import Spread, widest
from hpc_deepfake.sweep import plan as plans
from hpc_deepfake.sweep.plan import DIVERGED, DONE, ENDED, FAILED, Sweep, Trial
from hpc_deepfake.sweep.search import Combination
from hpc_deepfake.train import records
from hpc_deepfake.train.records import Records
from hpc_deepfake.train.scores import Scores, elapsed, scores
from preprocessing.store import Header

VALIDATION, TEST = "validation", "test"


@dataclass(frozen=True)
class Result:
    """One trial.

    Attributes:
        trial: its plan.
        state: as of ``plan.state``.
        why: the reason for the state.
        records: the files of its run directory; None before its first epoch.
        validation: figures on the validation part; None without a result.
    """

    trial: Trial
    state: str
    why: str
    records: Records | None = None
    validation: Scores | None = None

    def figure(self, name: str) -> float | None:
        """A figure on the validation part."""
        return None if self.validation is None else finite(self.validation.figures.get(name))

    @property
    def seconds(self) -> float | None:
        """Of all its epochs."""
        return None if self.records is None else next(reversed(elapsed(self.records)), None)

    def of_summary(self, name: str) -> Any:
        """A value of its ``summary.json``."""
        return None if self.records is None else self.records.summary.get(name)


@dataclass(frozen=True)
class Candidate:
    """A combination of values, with the results of its repeats.

    Attributes:
        values: of all options that the sweep varies.
        results: one for each repeat.
        monitor: figure that ranks it, such as ``val_loss``.
    """

    values: Combination
    results: tuple[Result, ...]
    monitor: str

    def figure(self, name: str) -> Spread | None:
        """A figure on the validation part, over the repeats that are done."""
        return Spread.over(result.figure(name) for result in self.results if result.state == DONE)

    @cached_property
    def score(self) -> Spread | None:
        """The figure that ranks it."""
        return self.figure(self.monitor.removeprefix("val_"))

    @property
    def complete(self) -> bool:
        """Whether every repeat has a result."""
        return all(result.state in ENDED for result in self.results)

    @property
    def trials(self) -> str:
        """Its trials in words, such as ``trials 002, 005``."""
        names = ", ".join(result.trial.name for result in self.results)
        return f"trial{'s' * (len(self.results) > 1)} {names}"

    @cached_property
    def order(self) -> tuple[bool, bool, float, int]:
        """Sorts candidates: those with a figure first, of these the ones with all repeats first,
        then by the median over the repeats, in which one that diverged counts as the worst."""
        lower = self.monitor == "val_loss"
        ranked = [math.inf if figure is None else figure if lower else -figure
                  for result in self.results if result.state in ENDED
                  for figure in [result.figure(self.monitor.removeprefix("val_"))]]
        middle = median(ranked) if ranked else math.inf
        return middle == math.inf, not self.complete, middle, self.results[0].trial.number


@dataclass(frozen=True)
class Ranking:
    """Everything that the report shows.

    Attributes:
        folder: of the sweep.
        sweep: its plan.
        candidates: the best first; those without a figure at the end.
        header: of the data file; None if it is unavailable or there is none.
        problem: why it is unavailable.
    """

    folder: Path
    sweep: Sweep
    candidates: tuple[Candidate, ...]
    header: Header | None
    problem: str

    @property
    def results(self) -> list[Result]:
        """Of all trials, in their order."""
        return sorted((result for candidate in self.candidates for result in candidate.results),
                      key=lambda result: result.trial.number)

    @cached_property
    def ranked(self) -> list[Candidate]:
        """The candidates with a figure."""
        return [candidate for candidate in self.candidates if candidate.order[2] < math.inf]

    @property
    def chosen(self) -> Candidate | None:
        """The best candidate; None without any."""
        return next(iter(self.ranked), None)

    @cached_property
    def chosen_scores(self) -> dict[str, list[Scores]]:
        """Figures of the chosen candidate on both parts, for each repeat that is done; empty for a
        part that the runs don't have.

        Raises:
            InputError: damaged predictions.
        """
        done = [result.records for result in (self.chosen.results if self.chosen else ())
                if result.state == DONE and result.records is not None]
        own = {part: [scores(run, self.header, "folder", (part,)) for run in done]
               for part in (VALIDATION, TEST)}
        return {part: values if all(value.figures for value in values) else []
                for part, values in own.items()}

    def of_state(self, *names: str) -> list[Result]:
        """The trials in any of these states."""
        return [result for result in self.results if result.state in names]

    @property
    def unfinished(self) -> list[Result]:
        """The trials without a result."""
        return [result for result in self.results if result.state not in ENDED]


def figure_of(own: Sequence[Scores], name: str) -> Spread | None:
    """A figure over the repeats."""
    return Spread.over(finite(score.figures.get(name)) for score in own)


def interval_of(own: Sequence[Scores], name: str) -> tuple[float, float] | None:
    """From the lowest to the highest end of the repeats' 95% intervals."""
    return widest(score.intervals.get(name) for score in own)


def rank(folder: Path, sweep: Sweep, header: Header | None, problem: str) -> Ranking:
    """The trials of a sweep, ranked.

    Args:
        folder: of the sweep.
        sweep: its plan.
        header: of the data file; None if it is unavailable or there is none.
        problem: why it is unavailable.

    Raises:
        InputError: a trial holds a run with other options.
    """
    varied = sweep.varied
    by_values: dict[tuple[Any, ...], list[Result]] = {}
    for trial in sweep.trials:
        values = tuple(trial.settings[name] for name in varied)
        by_values.setdefault(values, []).append(_result(folder, trial))
    monitor = sweep.monitor
    candidates = (Candidate(dict(zip(varied, values, strict=True)), tuple(results), monitor)
                  for values, results in by_values.items())
    return Ranking(folder, sweep, tuple(sorted(candidates, key=lambda own: own.order)), header,
                   problem)


def _result(folder: Path, trial: Trial) -> Result:
    state, why = plans.state(folder, trial)
    if state not in (DONE, DIVERGED):
        return Result(trial, state, why)
    try:
        run = records.read(plans.path(folder, trial))
        if state == DIVERGED:
            return Result(trial, state, why, run)
        return Result(trial, state, why, run, scores(run, None, "folder", (VALIDATION,)))
    except InputError as error:  # a damaged file must not hide the other trials
        if state == DIVERGED:  # before its first epoch's end
            return Result(trial, state, why)
        return Result(trial, FAILED, f"its records can't be used: {error}")
