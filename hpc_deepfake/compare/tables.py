"""The tables of a comparison, as text cells for HTML and Markdown alike."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

from hpc_deepfake.compare.comparison import Cell, Comparison, Spread
from hpc_deepfake.compare.results import Result
from hpc_deepfake.core.json_data import finite
from hpc_deepfake.core.text import count, number, percent


@dataclass(frozen=True)
class Table:
    """Cells as text, the first of each row its header.

    Attributes:
        about: sentences for below it. commands: those that made its numbers.
    """

    title: str
    head: Sequence[str]
    rows: list[Sequence[str]]
    about: str = ""
    commands: list[str] = field(default_factory=list)


def spread(value: Spread | None, form: str = ",.1f", nothing: str = "–") -> str:
    """Such as ``12.3 (11.9–13.0)``; without a range where there is one repeat."""
    if value is None:
        return nothing
    middle, low, high = (format(one, form) for one in (value.middle, value.low, value.high))
    return middle if value.of < 2 else f"{middle} ({low}–{high})"


def between(ends: tuple[float, float] | None, form: str = ".1%") -> str:
    """An interval."""
    return "not known" if ends is None else f"{ends[0]:{form}} to {ends[1]:{form}}"


def times(found: Comparison) -> Table:
    """Time and speed of each method on the base feature."""
    target = "–" if found.target is None else f"{found.target:.0%}"
    rows = [(cell.method, _epochs(cell.results), cell.layout.words(), spread(cell.seconds),
             spread(cell.reached(found.target), nothing=_never(cell, found.target)),
             spread(cell.images_per_s), spread(Spread.over(cell.speedup), ".2f"),
             cell.unlike or "no") for cell in _on_base(found)]
    return Table(f"Time, {found.base}", (
        "method", "epochs", "processes", "time to the end, s", f"to {target} accuracy, s",
        "images/s", "speed-up", "unlike"), rows, (
        "Median over the repeats, with the lowest and the highest. Time to the end: all epochs "
        "with validation and checkpoints, added up, interruptions left out. Speed-up: "
        "sequential's time to the end over this one's, within the same repeat; sequential has the "
        "threads of all ranks. Unlike: in what these runs are not like "
        f"{_reference(found)}."))


def layouts(found: Comparison) -> Table:
    """How each method uses the hardware, and how much one update sees."""
    rows = [(cell.method, cell.layout.words(), str(cell.layout.threads),
             "; ".join(dict.fromkeys(str(one.threads or "–") for one in cell.results)),
             str(cell.layout.batch), count(cell.layout.rows), _steps(cell.results),
             _hardware(cell)) for cell in _on_base(found)]
    return Table("How the methods use the hardware", (
        "method", "processes", "threads each", "in all", "batch size", "rows per update",
        "updates per epoch", "hardware"), rows, (
        "Rows per update: of one change of the weights, the global batch. A method with larger "
        "ones changes the weights less often in an epoch: equal epochs are not equal steps."))


def accuracies(found: Comparison) -> Table:
    """Figures of merit of every method and feature, beside both baselines."""
    def figure(cell: Cell, name: str, scale: int, form: str) -> tuple[str, str]:
        value, ends = cell.figure(name), cell.interval(name)
        return (spread(value and value.times(scale), form),
                "not known" if ends is None else
                f"{ends[0] * scale:{form}}–{ends[1] * scale:{form}}")

    rows = [(f"{cell.method}, {cell.feature}", _epochs(cell.results),
             *figure(cell, "accuracy", 100, ".1f"), *figure(cell, "balanced_accuracy", 100, ".1f"),
             *figure(cell, "auc", 1, ".3f"), cell.unlike or "no")
            for cell in found.cells if cell.results]
    container = found.container or {}
    rows += [("majority class", "–", number(_hundred(found.majority), ".1f"), "–", "50.0", "–",
              "0.500", "–", "–"),
             ("container alone", "–", number(_hundred(container.get("accuracy")), ".1f"), "–", "–",
              "–", number(container.get("auc")), "–", "–")]
    return Table(f"Accuracy, {found.part} part", (
        "method, feature", "epochs", "accuracy, %", "95%", "balanced, %", "95%", "ROC-AUC", "95%",
        "unlike"), rows, f"{_pictures(found)} Median over the repeats, with the lowest and the "
        "highest. 95%: bootstrap of whole groups of common source, from the lowest to the highest "
        f"end of the repeats' intervals. {container_words(found)}")


def features(found: Comparison) -> Table | None:
    """McNemar's test of the base feature against each other one."""
    if not found.tests:
        return None
    base = found.base
    rows = []
    for test in found.tests:
        one, first, second = test.paired, test.first, test.second
        accuracies = [finite(run.figures.get("accuracy")) or 0 for run in (first, second)]
        rows.append((f"{base} against {second.training.feature}", str(test.repeat),
                     *(f"{value:.1%}" for value in accuracies),
                     f"{(accuracies[0] - accuracies[1]) * 100:+.1f}", f"{one.both:,}",
                     f"{one.first:,}", f"{one.second:,}", f"{one.neither:,}", p_value(one.p)))
    return Table(f"With {base} against without, {found.lead}, {found.part} part", (
        "features", "repeat", f"accuracy of {base}", "of the other", "difference, points",
        "both right", f"only {base}", "only the other", "neither", "p"), rows, (
        "p: McNemar's test (1947), exact and two-sided, of the pictures that one alone judged "
        "rightly. It takes pictures as independent; those of one group of common source are not, "
        "so that the true p tends to be larger."))


def staleness(found: Comparison) -> Table | None:
    """How old the weights were from which updates were computed."""
    rows = []
    for one in found.results:
        counts = one.staleness
        if counts:
            whole = sum(counts.values())
            rows.append((one.training.name, f"{whole:,}",
                         f"{sum(age * n for age, n in counts.items()) / whole:.2f}",
                         *(str(quantile(counts, share)) for share in (0.5, 0.95, 1))))
    return Table("Staleness", ("run", "updates", "mean", "median", "95th percentile", "largest"),
                 rows, "Staleness of an update: how many others changed the weights between their "
                 "being read for it and its being applied.") if rows else None


def runs(found: Comparison) -> Table:
    """A line for each training."""
    rows = [(one.training.name, str(one.training.seed), _epochs([one]),
             number(one.records.summary.get("best_epoch"), ".0f"), number(one.seconds, ",.1f"),
             number(one.images_per_s, ",.1f"), percent(one.figures.get("accuracy")),
             number(one.figures.get("auc")), one.hosts,
             "–" if one.threads is None else str(one.threads)) for one in found.results]
    rows += [(name, *("–",) * 7, "not finished", "–") for name in found.missing]
    return Table("Trainings", ("run", "seed", "epochs", "best", "seconds", "images/s", "accuracy",
                               "ROC-AUC", "hardware", "threads in all"), rows,
                 "Hardware and threads are those of a run's last start.")


def originals(found: Comparison, launcher: str) -> list[Table]:
    """The three tables that this project's predecessor showed, each with its commands."""
    alone, together = found.cell("sequential", found.base), _parallel(found)
    columns = [cell for cell in (alone, together) if cell is not None]
    tables = []
    if columns:
        head = [_title(cell) for cell in columns]
        mark = [("unlike", *(cell.unlike or "no" for cell in columns))] \
            if any(cell.unlike for cell in columns) else []
        commands = _commands(columns, launcher)
        tables.append(Table("Training time, sequential and parallel", ("", *head), [
            ("training time, s", *(spread(cell.seconds) for cell in columns)),
            ("epochs", *(_epochs(cell.results) for cell in columns)),
            ("processes × threads", *(f"{cell.layout.words()} × {cell.layout.threads}"
                                      for cell in columns)),
            ("hardware", *(_hardware(cell) for cell in columns)), *mark],
            commands=commands))
        words = {"sequential": "Non-HPC"}
        tables.append(Table(f"Accuracy, HPC and non-HPC, {found.part} part", (
            "", *(f"{words.get(cell.method, 'HPC')} ({_title(cell)})" for cell in columns)),
            [*_accuracy(columns), *mark, *_baselines(found, len(columns))], commands=commands))
    others = [cell for cell in found.cells if cell.method == found.lead and cell.results]
    if any(cell.feature == found.base for cell in others) and len(others) > 1:
        name = {"ela": "ELA"}.get(found.base, found.base)
        mark = [("unlike", *(cell.unlike or "no" for cell in others))] \
            if any(cell.unlike for cell in others) else []
        tables.append(Table(f"Accuracy with and without {name}, {found.part} part", ("", *(
            f"with {name}" if cell.feature == found.base else f"without ({cell.feature})"
            for cell in others)), [*_accuracy(others), *mark, *_baselines(found, len(others))],
            commands=_commands(others, launcher)))
    return tables


def p_value(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"


def quantile(counts: dict[int, int], share: float) -> int:
    """The smallest value that at least this share doesn't exceed."""
    wanted, so_far = math.ceil(share * sum(counts.values())), 0
    for value, times_seen in sorted(counts.items()):
        so_far += times_seen
        if so_far >= wanted:
            return value
    return max(counts)


def container_words(found: Comparison) -> str:
    """About the container baseline."""
    if found.container is None:
        return f"Container alone: not known, {found.no_container}."
    where = "" if found.part == "validation" else " of the validation part"
    return (f"Container alone, a guess from the files' {found.container.get('fact')} without any "
            f"pixel, is right in {percent(found.container.get('accuracy'))}{where}.")


def _parallel(found: Comparison) -> Cell | None:
    """What stands for parallel training: sync, else the first other method."""
    names = ["sync", *(cell.method for cell in found.cells if cell.method != "sequential")]
    return next((cell for name in names if (cell := found.cell(name, found.base))), None)


def _title(cell: Cell) -> str:
    if cell.layout.processes == 1:
        return f"{cell.method}, 1 process"
    return f"{cell.method}, {cell.layout.words()} processes"


def _accuracy(cells: Sequence[Cell]) -> list[Sequence[str]]:
    return [("accuracy", *(spread(cell.figure("accuracy"), ".1%") for cell in cells)),
            ("95% interval", *(between(cell.interval("accuracy")) for cell in cells)),
            ("epochs", *(_epochs(cell.results) for cell in cells))]


def _baselines(found: Comparison, columns: int) -> list[Sequence[str]]:
    return [("majority class", *(percent(found.majority),) * columns),
            ("container alone", *(percent((found.container or {}).get("accuracy")),) * columns)]


def _commands(cells: Sequence[Cell], launcher: str) -> list[str]:
    return [shlex.join(one.training.command(launcher, ("python",)))
            for cell in cells for one in cell.results]


def _hardware(cell: Cell) -> str:
    return "; ".join(dict.fromkeys(one.hosts for one in cell.results))


def _epochs(results: Sequence[Result]) -> str:
    return "; ".join(dict.fromkeys(count(one.records.summary.get("epochs")) for one in results))


def _steps(results: Sequence[Result]) -> str:
    return "; ".join(dict.fromkeys(number(one.steps_per_epoch, ",g") for one in results))


def _never(cell: Cell, target: float | None) -> str:
    if target is None or not cell.results:
        return "–"
    there = sum(one.reached(target) is not None for one in cell.results)
    return f"not reached in {len(cell.results) - there} of {len(cell.results)}"


def _reference(found: Comparison) -> str:
    return found.results[0].training.name if found.results else "the first run"


def _pictures(found: Comparison) -> str:
    rows = next((one.figures.get("rows") for one in found.results), None)
    chose = "It chose nothing." if found.part == "test" else "It also chose each run's epoch."
    return f"{count(rows)} pictures of the {found.part} part. {chose}"


def _on_base(found: Comparison) -> list[Cell]:
    return [cell for cell in found.cells if cell.feature == found.base and cell.results]


def _hundred(value: object) -> float | None:
    known = finite(value)
    return None if known is None else known * 100
