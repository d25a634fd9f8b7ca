"""The report of a sweep: ``report.html``, ``report.md``, ``report.csv`` and ``report.json``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.json_data import finite
from hpc_deepfake.core.text import percent, plural
from hpc_deepfake.metrics.spread import Spread, spread
from hpc_deepfake.sweep import charts, planning, tables
from hpc_deepfake.sweep import plan as plans
from hpc_deepfake.sweep.plan import DIVERGED, FAILED, Sweep
from hpc_deepfake.sweep.results import (
    TEST,
    VALIDATION,
    Candidate,
    Ranking,
    Result,
    figure_of,
    interval_of,
    rank,
)
from hpc_deepfake.train.scores import FIGURES
from hpc_deepfake.web.report import Report, Section

_COLUMNS = ("trial", "run", "combination", "rank", "repeat", "seed", "state", "reason", "epochs",
            "best_epoch", "seconds", "images_per_s", "val_loss",
            *(f"val_{name}" for name in FIGURES))


def write(folder: Path, sweep: Sweep) -> int:
    """Write the report and print its most important sentences.

    Args:
        folder: of the sweep.
        sweep: its plan.

    Returns:
        The exit code.

    Raises:
        InputError: a trial holds a run with other options, or the report can't be written.
    """
    header, problem = None, ""
    try:
        header = planning.data_file(sweep)
    except InputError as error:
        problem = str(error).partition("\n")[0].partition(". ")[0]
    ranking = rank(folder, sweep, header, problem)
    command = shlex.join(["hpc-deepfake", "sweep", "report", str(folder)])
    report = Report("Options compared: a sweep", "report", answer(ranking), notes(ranking),
                    _sections(ranking), command)
    for line in report.answer:
        print(line)
    for note in report.notes:
        print(f"note: {note}")
    lines = _lines(ranking)
    paths = report.write(folder, [*_COLUMNS, *(f"option_{name}" for name in sweep.varied)], lines,
                         _everything(ranking, command, lines))
    print(f"report: {', '.join(map(str, paths))}")
    return 0


def answer(ranking: Ranking) -> list[str]:
    """The most important figures in sentences."""
    chosen = ranking.chosen
    if chosen is None:
        return ["No trial has a figure to rank it by yet."]
    place = "the only combination" if len(ranking.ranked) == 1 else \
        f"the best of {len(ranking.ranked)} combinations"
    sentences = [f"By {chosen.monitor}, {place}: {plans.shown(chosen.values)}; {chosen.monitor} "
                 f"{spread(chosen.score, '.4f')} ({chosen.trials})."]
    test = ranking.chosen_scores[TEST]
    if test:
        accuracy, interval = figure_of(test, "accuracy"), interval_of(test, "accuracy")
        limits = f" (95%: {interval[0]:.1%} to {interval[1]:.1%})" if interval else ""
        sentences.append(
            f"On the test part, which selected nothing, it classified {spread(accuracy, '.1%')} "
            f"of {test[0].figures.get('rows'):,} pictures correctly{limits}; always predicting "
            f"the more frequent class is correct for {percent(test[0].figures.get('majority'))}.")
    return sentences


def notes(ranking: Ranking) -> list[str]:
    """What a reader must know before reading the figures."""
    own = []
    left, diverged, failed = (ranking.unfinished, ranking.of_state(DIVERGED),
                              ranking.of_state(FAILED))
    if left:
        own.append(f"{len(left)} of {plural(len(ranking.sweep.trials), 'trial')} have no result: "
                   f"{_names(left)}. The ranking may still change")
    own += [f"Trial {result.trial.name} failed: {result.why}" for result in failed]
    if diverged:
        own.append(f"{plural(len(diverged), 'trial')} diverged ({_names(diverged)}), which is a "
                   "result: in the ranking such a trial is worse than any other")
    if ranking.chosen is not None:
        if len(ranking.ranked) > 1:
            own.append("Validation figures of the best combination are too good: of several, the "
                       "one that chance favoured on these pictures tends to win")
        if not ranking.chosen_scores[TEST]:
            own.append("There is no test part: no figure is free of that selection (preprocessing "
                       "with --split 70/10/20 makes a test part)")
        own += _at_the_edge(ranking, ranking.chosen)
    if ranking.problem:
        own.append(f"No 95% intervals: {ranking.problem}")
    ranks = {result.trial.name: number for result in ranking.results
             if (number := finite(result.of_summary("ranks"))) not in (None, ranking.sweep.ranks)}
    if ranks:
        others = ", ".join(f"trial {name} on {number:g}" for name, number in ranks.items())
        own.append(f"Not all trials ran on {plural(ranking.sweep.ranks, 'rank')}: {others}")
    return own


def _names(results: Sequence[Result]) -> str:
    names = [result.trial.name for result in results]
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _at_the_edge(ranking: Ranking, chosen: Candidate) -> list[str]:
    """A note for each number that is the best one and the lowest or highest that was tried."""
    own = []
    for name, value in chosen.values.items():
        tried = [number for candidate in ranking.ranked
                 if (number := finite(candidate.values[name])) is not None]
        if len(set(tried)) > 2 and value in (min(tried), max(tried)):
            end = "lowest" if value == min(tried) else "highest"
            own.append(f"The best {name.replace('_', '-')}, {value}, is the {end} one that was "
                       "tried: a better one may lie beyond it")
    return own


def _sections(ranking: Ranking) -> list[Section]:
    test = tables.test(ranking)
    return [Section("Ranking by validation", [tables.ranking(ranking)], captions=False),
            Section("Test part, best combination only", [test] if test else [], captions=False),
            Section("Values", charts=charts.values(ranking)),
            Section("Trials", [tables.trials(ranking)], captions=False)]


def _lines(ranking: Ranking) -> list[dict[str, Any]]:
    """A line for each trial. Without the test part: of a trial that wasn't chosen it is nobody's
    business, since whoever sees it may choose by it."""
    places = {id(candidate): number for number, candidate in enumerate(ranking.ranked, 1)}
    lines = {}
    for number, candidate in enumerate(ranking.candidates, 1):
        for result in candidate.results:
            trial = result.trial
            lines[trial.number] = {
                "trial": trial.name, "run": str(plans.path(ranking.folder, trial)),
                "combination": number, "rank": places.get(id(candidate)), "repeat": trial.repeat,
                "seed": trial.seed, "state": result.state, "reason": result.why,
                **{f"option_{name}": value for name, value in candidate.values.items()},
                "epochs": result.of_summary("epochs"),
                "best_epoch": result.of_summary("best_epoch"), "seconds": result.seconds,
                "images_per_s": result.of_summary("images_per_s"),
                **{f"val_{name}": result.figure(name) for name in ("loss", *FIGURES)}}
    return [lines[number] for number in sorted(lines)]


def _everything(ranking: Ranking, command: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """All figures, for programs."""
    chosen = ranking.chosen
    best: dict[str, Any] | None = None
    if chosen is not None:
        best = {"values": chosen.values,
                "trials": [result.trial.name for result in chosen.results],
                "runs": [str(plans.path(ranking.folder, result.trial))
                         for result in chosen.results],
                "score": _spread(chosen.score)}
        for part in (VALIDATION, TEST):
            own = ranking.chosen_scores[part]
            best[part] = {
                **{name: _spread(figure_of(own, name)) for name in ("loss", *FIGURES)},
                "intervals": {name: interval_of(own, name) for name in FIGURES},
                "rows": own[0].figures.get("rows"), "majority": own[0].figures.get("majority"),
            } if own else None
    return {"command": command, "monitor": ranking.sweep.monitor, "data": ranking.sweep.data,
            "ranks": ranking.sweep.ranks, "options": list(ranking.sweep.options), "best": best,
            "notes": notes(ranking), "combinations": [
                {"values": candidate.values, "complete": candidate.complete,
                 "score": _spread(candidate.score),
                 "trials": [result.trial.name for result in candidate.results]}
                for candidate in ranking.candidates], "trials": lines}


def _spread(value: Spread | None) -> dict[str, float] | None:
    return None if value is None else {"median": value.median, "lowest": value.low,
                                       "highest": value.high}
