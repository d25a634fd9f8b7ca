"""The tables of a sweep's report."""

from __future__ import annotations

from collections.abc import Sequence

from hpc_deepfake.core.json_data import finite
from hpc_deepfake.core.text import count, number, percent
from hpc_deepfake.metrics.spread import Spread, spread, with_interval
from hpc_deepfake.sweep.plan import DONE, ENDED, value_text
from hpc_deepfake.sweep.results import (
    TEST,
    Candidate,
    Ranking,
    Result,
    figure_of,
    interval_of,
)
from hpc_deepfake.web.tables import Table

_COLUMNS = ("val_loss", "val_accuracy", "val_auc")  # figures that every network has


def ranking(own: Ranking) -> Table:
    """The combinations, the best first, with the majority class beside them."""
    monitor, varied = own.sweep.monitor, own.sweep.varied
    further = _further(own)
    rows = [(str(place) if candidate in own.ranked else "–", *_values(candidate, varied),
             _done(candidate), spread(candidate.figure("loss"), ".4f"),
             spread(_hundredfold(candidate.figure("accuracy")), ".1f"),
             spread(candidate.figure("auc"), ".3f"), *(spread(candidate.score, ".3f")
                                                       for _ in further),
             _epochs(candidate.results),
             spread(_seconds(candidate.results)))
            for place, candidate in enumerate(own.candidates, 1)]
    majority = next((result.figure("majority") for result in own.results
                     if result.figure("majority") is not None), None)
    rows.append(("majority class", *("–" for _ in varied), "–", "–",
                 "–" if majority is None else f"{majority * 100:.1f}", "0.500",
                 *("–" for _ in further), "–", "–"))
    return Table("Ranking by validation", (
        "rank", *(name.replace("_", "-") for name in varied), "trials with a result", "val_loss",
        "val_accuracy, %", "val_auc", *further, "best epoch", "seconds"), rows, (
        f"Ranked by {monitor}: {'lower' if monitor == 'val_loss' else 'higher'} is better. Median "
        "over the repeats, with the lowest and the highest. A repeat that diverged counts as worse "
        "than any other."))


def test(own: Ranking) -> Table | None:
    """The figures of the best combination on the test part; None without such a part."""
    scores, chosen = own.chosen_scores[TEST], own.chosen
    if not scores or chosen is None:
        return None
    cells = [cell for name, scale, form in (("accuracy", 100, ".1f"),
                                            ("balanced_accuracy", 100, ".1f"), ("auc", 1, ".3f"))
             for cell in with_interval(figure_of(scores, name), interval_of(scores, name), scale,
                                       form)]
    majority = finite(scores[0].figures.get("majority"))
    return Table("Test part, best combination only", (
        "", "accuracy, %", "95%", "balanced, %", "95%", "ROC-AUC", "95%"), [
        (chosen.trials, *cells),
        ("majority class", number(majority and majority * 100, ".1f"), "–", "50.0", "–", "0.500",
         "–")],
        f"{count(scores[0].figures.get('rows'))} pictures that selected nothing: neither epochs "
        "nor combinations. Only the combination chosen by validation is shown. If the test part "
        "of all combinations were shown, the best of them could be chosen by it, and then its "
        "figure would be too good as well. 95%: bootstrap of whole groups of common source, from "
        "the lowest to the highest end of the repeats' intervals.")


def trials(own: Ranking) -> Table:
    """A line for each trial."""
    varied, further = own.sweep.varied, _further(own)
    rows = [(result.trial.name, *(value_text(result.trial.settings[name]) for name in varied),
             str(result.trial.seed), result.state, count(result.of_summary("epochs")),
             count(result.of_summary("best_epoch")), number(result.figure("loss"), ".4f"),
             percent(result.figure("accuracy")), number(result.figure("auc")),
             *(number(result.figure(name.removeprefix("val_"))) for name in further),
             number(result.seconds, ",.1f"), result.why)
            for result in own.results]
    return Table("Trials", ("trial", *(name.replace("_", "-") for name in varied), "seed", "state",
                            "epochs", "best epoch", "val_loss", "val_accuracy", "val_auc",
                            *further, "seconds", "reason"), rows)


def _further(own: Ranking) -> list[str]:
    """The figure that ranks, where not every network has it."""
    return [] if own.sweep.monitor in _COLUMNS else [own.sweep.monitor]


def _values(candidate: Candidate, varied: Sequence[str]) -> list[str]:
    return [value_text(candidate.values[name]) for name in varied]


def _done(candidate: Candidate) -> str:
    ended = [result.state for result in candidate.results if result.state in ENDED]
    diverged = len(ended) - ended.count(DONE)
    return f"{len(ended)} of {len(candidate.results)}" + (
        f", {diverged} diverged" if diverged else "")


def _epochs(results: Sequence[Result]) -> str:
    return ", ".join(count(result.of_summary("best_epoch")) for result in results
                     if result.state == DONE) or "–"


def _seconds(results: Sequence[Result]) -> Spread | None:
    return Spread.over(result.seconds for result in results if result.state == DONE)


def _hundredfold(value: Spread | None) -> Spread | None:
    return value and value.times(100)
