"""The tables of a comparison, as text cells for HTML and Markdown alike."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from hpc_deepfake.compare.comparison import Cell, Comparison, Test
from hpc_deepfake.compare.results import Result
from hpc_deepfake.core.json_data import finite
from hpc_deepfake.core.text import count, number, percent
from hpc_deepfake.metrics.spread import Spread, spread, with_interval
from hpc_deepfake.network.registry import title
from hpc_deepfake.web.tables import Table

_PIXELS = {"pixel_auc": "pixel AUC", "pixel_f1": "pixel F1"}  # of networks that say where


def between(interval: tuple[float, float] | None, form: str = ".1%") -> str:
    """An interval."""
    return "unknown" if interval is None else f"{interval[0]:{form}} to {interval[1]:{form}}"


def times(comparison: Comparison) -> Table:
    """Time and speed of each method on the base feature."""
    target = "–" if comparison.target is None else f"{comparison.target:.0%}"
    rows = [(cell.on_base, _epochs(cell.results), cell.layout.description(), spread(cell.seconds),
             spread(cell.reached(comparison.target), missing=_not_reached(cell, comparison.target)),
             spread(cell.images_per_s), spread(Spread.over(cell.speedup), ".2f"),
             _conditions(cell)) for cell in _on_base(comparison)]
    return Table(f"Time, {comparison.base_feature}", (
        _of("method", comparison), "epochs", "processes", "total time, s",
        f"time to {target} accuracy, s", "images/s", "speed-up", "conditions"), rows, (
        "Median over the repeats, with the lowest and the highest. Total time: the sum of all "
        "epochs including validation and saving, without interruptions. Images/s: by the same "
        "clock. Speed-up: sequential's total time over this method's, within the same repeat; "
        "sequential has the CPU threads of all ranks. Conditions: whether these runs had those of "
        f"{_reference(comparison)}, apart from the method."))


def layouts(comparison: Comparison) -> Table:
    """How each method uses the hardware, and how many rows an update sees."""
    rows = [(cell.on_base, cell.layout.description(), str(cell.layout.threads),
             "; ".join(dict.fromkeys(str(result.threads or "–") for result in cell.results)),
             str(cell.layout.batch), count(cell.layout.rows), _steps(cell.results),
             _hardware(cell)) for cell in _on_base(comparison)]
    return Table("How the methods use the hardware", (
        _of("method", comparison), "processes", "threads each", "threads in total", "batch size",
        "rows per update", "updates per epoch", "hardware"), rows, (
        "Rows per update: the global batch of one weight update. A method with a larger one "
        "updates the weights less often in an epoch: the same number of epochs is not the same "
        "number of steps."))


def accuracies(comparison: Comparison) -> Table:
    """Figures of merit of every method and feature, with both baselines."""
    def figure(cell: Cell, name: str, scale: int, form: str) -> tuple[str, str]:
        return with_interval(cell.figure(name), cell.interval(name), scale, form)

    where = [name for name in _PIXELS
             if any(cell.figure(name) for cell in comparison.cells if cell.results)]
    rows = [(cell.name, _epochs(cell.results),
             *figure(cell, "accuracy", 100, ".1f"), *figure(cell, "balanced_accuracy", 100, ".1f"),
             *figure(cell, "auc", 1, ".3f"), *(spread(cell.figure(name), ".3f") for name in where),
             _conditions(cell))
            for cell in comparison.cells if cell.results]
    none = ["–"] * len(where)
    container = comparison.container or {}
    rows += [("majority class", "–", number(_hundredfold(comparison.majority), ".1f"), "–", "50.0",
              "–", "0.500", "–", *none, "–"),
             ("container alone", "–", number(_hundredfold(container.get("accuracy")), ".1f"), "–",
              "–", "–", number(container.get("auc")), "–", *none, "–")]
    return Table(f"Accuracy, {comparison.part} part", (
        _of("method, feature", comparison), "epochs", "accuracy, %", "95%", "balanced, %", "95%",
        "ROC-AUC", "95%", *(_PIXELS[name] for name in where), "conditions"), rows,
        f"{_pictures(comparison)} Median over the repeats, with the lowest and the highest. 95%: "
        "bootstrap of whole groups of common source, from the lowest to the highest end of the "
        f"repeats' intervals. {container_text(comparison)}")


def features(comparison: Comparison) -> Table | None:
    """McNemar's test of the base feature against each other feature; None without any."""
    base = comparison.base_feature
    return _tests(f"With {base} and without", "features", base, [
        (_pair(base, test.second.training.feature,
               comparison.base_network and title(test.second.training.network)), test)
        for test in comparison.tests], comparison)


def networks(comparison: Comparison) -> Table | None:
    """McNemar's test of the base network against each other network; None without any."""
    base = comparison.base_network
    return _tests("Networks", "networks", base, [
        (_pair(base, title(test.second.training.network), test.second.training.feature), test)
        for test in comparison.network_tests], comparison)


def _pair(first: str, second: str, both: str) -> str:
    """What is tested, and what both have in common."""
    return f"{first} against {second}" + (f", {both}" if both else "")


def _tests(caption: str, names: str, base: str, tests: Sequence[tuple[str, Test]],
           comparison: Comparison) -> Table | None:
    rows = []
    for name, test in tests:
        paired, first, second = test.paired, test.first, test.second
        accuracies = [finite(run.figures.get("accuracy")) or 0 for run in (first, second)]
        rows.append((name, str(test.repeat),
                     *(f"{value:.1%}" for value in accuracies),
                     f"{(accuracies[0] - accuracies[1]) * 100:+.1f}", f"{paired.both:,}",
                     f"{paired.first:,}", f"{paired.second:,}", f"{paired.neither:,}",
                     p_value(paired.p)))
    if not rows:
        return None
    return Table(f"{caption}, {comparison.feature_method}, {comparison.part} part", (
        names, "repeat", f"accuracy of {base}", "accuracy of the other", "difference, points",
        "both correct", f"only {base}", "only the other", "neither", "p"), rows, (
        "p: McNemar's test (1947), exact and two-sided, on the pictures that only one of the two "
        "classified correctly. It assumes independent pictures; those of one group of common "
        "source are not independent, so the true p tends to be larger."))


def staleness(comparison: Comparison) -> Table | None:
    """Age of the weights from which updates were computed; None if no run recorded it."""
    rows = []
    for result in comparison.results:
        counts = result.staleness
        if counts:
            updates = sum(counts.values())
            rows.append((result.training.name, f"{updates:,}",
                         f"{sum(age * n for age, n in counts.items()) / updates:.2f}",
                         *(str(quantile(counts, share)) for share in (0.5, 0.95, 1))))
    return Table("Staleness", ("run", "updates", "mean", "median", "95th percentile", "maximum"),
                 rows, "Staleness of an update: how many other updates were applied between "
                 "reading the weights for it and applying it.") if rows else None


def runs(comparison: Comparison) -> Table:
    """A line for each training."""
    rows = [(result.training.name, str(result.training.seed), _epochs([result]),
             number(result.records.summary.get("best_epoch"), ".0f"),
             number(result.seconds, ",.1f"), number(result.images_per_s, ",.1f"),
             percent(result.figures.get("accuracy")), number(result.figures.get("auc")),
             result.hosts, "–" if result.threads is None else str(result.threads))
            for result in comparison.results]
    rows += [(name, "–", "–", "–", "–", "–", "–", "–", "not finished", "–")
             for name in comparison.missing]
    return Table("Trainings", ("run", "seed", "epochs", "best epoch", "seconds", "images/s",
                               "accuracy", "ROC-AUC", "hardware", "threads in total"), rows,
                 "Hardware and threads are those of a run's last start.")


def originals(comparison: Comparison, launcher: str) -> list[Table]:
    """The three tables that this project's predecessor showed, each with its commands."""
    base, part = comparison.base_feature, comparison.part
    sequential, parallel = comparison.cell("sequential", base), _parallel(comparison)
    columns = [cell for cell in (sequential, parallel) if cell is not None]
    tables = []
    if columns:
        commands = _commands(columns, launcher)
        tables.append(Table("Training time, sequential and parallel",
                            ("", *(_title(cell) for cell in columns)), [
            ("training time, s", *(spread(cell.seconds) for cell in columns)),
            ("epochs", *(_epochs(cell.results) for cell in columns)),
            ("processes × threads", *(f"{cell.layout.description()} × {cell.layout.threads}"
                                      for cell in columns)),
            ("hardware", *(_hardware(cell) for cell in columns)), *_marks(columns)],
            commands=commands))
        names = {"sequential": "Non-HPC"}
        tables.append(Table(f"Accuracy, HPC and non-HPC, {part} part", (
            "", *(f"{names.get(cell.method, 'HPC')} ({_title(cell)})" for cell in columns)),
            [*_accuracy(columns), *_marks(columns), *_baselines(comparison, len(columns))],
            commands=commands))
    columns = [cell for cell in comparison.cells if cell.method == comparison.feature_method
               and cell.network == comparison.base_network and cell.results]
    if any(cell.feature == base for cell in columns) and len(columns) > 1:
        name = {"ela": "ELA"}.get(base, base)
        tables.append(Table(f"Accuracy with and without {name}, {part} part", ("", *(
            f"with {name}" if cell.feature == base else f"without ({cell.feature})"
            for cell in columns)),
            [*_accuracy(columns), *_marks(columns), *_baselines(comparison, len(columns))],
            commands=_commands(columns, launcher)))
    return tables


def p_value(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"


def quantile(counts: dict[int, int], share: float) -> int:
    """The smallest value that at least this share of the counted items does not exceed."""
    needed, cumulated = math.ceil(share * sum(counts.values())), 0
    for value, times_counted in sorted(counts.items()):
        cumulated += times_counted
        if cumulated >= needed:
            return value
    return max(counts)


def container_text(comparison: Comparison) -> str:
    """A sentence on the container baseline."""
    if comparison.container is None:
        return f"Container alone: unknown, {comparison.no_container}."
    where = "" if comparison.part == "validation" else " of the validation part"
    return (f"Container alone, a prediction from the files' {comparison.container.get('fact')} "
            "without any pixel, is correct for "
            f"{percent(comparison.container.get('accuracy'))}{where}.")


def _of(names: str, comparison: Comparison) -> str:
    """Head of a column of names of cells."""
    return f"{names}, network" if comparison.base_network else names


def _conditions(cell: Cell) -> str:
    return cell.deviations or "same"


def _marks(cells: Sequence[Cell]) -> list[Sequence[str]]:
    """A row for the conditions, if they are not the same."""
    if not any(cell.deviations for cell in cells):
        return []
    return [("conditions", *(_conditions(cell) for cell in cells))]


def _parallel(comparison: Comparison) -> Cell | None:
    """What represents parallel training: sync, else the first other method with results."""
    names = ["sync", *(cell.method for cell in comparison.cells if cell.method != "sequential")]
    return next((cell for name in names
                 if (cell := comparison.cell(name, comparison.base_feature))), None)


def _title(cell: Cell) -> str:
    if cell.layout.processes == 1:
        return f"{cell.method}, 1 process"
    return f"{cell.method}, {cell.layout.description()} processes"


def _accuracy(cells: Sequence[Cell]) -> list[Sequence[str]]:
    return [("accuracy", *(spread(cell.figure("accuracy"), ".1%") for cell in cells)),
            ("95% interval", *(between(cell.interval("accuracy")) for cell in cells)),
            ("epochs", *(_epochs(cell.results) for cell in cells))]


def _baselines(comparison: Comparison, columns: int) -> list[Sequence[str]]:
    container = comparison.container or {}
    return [("majority class", *(percent(comparison.majority),) * columns),
            ("container alone", *(percent(container.get("accuracy")),) * columns)]


def _commands(cells: Sequence[Cell], launcher: str) -> list[str]:
    return [shlex.join(result.training.command(launcher, ("python",)))
            for cell in cells for result in cell.results]


def _hardware(cell: Cell) -> str:
    return "; ".join(dict.fromkeys(result.hosts for result in cell.results))


def _epochs(results: Sequence[Result]) -> str:
    return "; ".join(dict.fromkeys(count(result.records.summary.get("epochs"))
                                   for result in results))


def _steps(results: Sequence[Result]) -> str:
    return "; ".join(dict.fromkeys(number(result.steps_per_epoch, ",g") for result in results))


def _not_reached(cell: Cell, target: float | None) -> str:
    if target is None or not cell.results:
        return "–"
    reached = sum(result.reached(target) is not None for result in cell.results)
    return f"not reached in {len(cell.results) - reached} of {len(cell.results)}"


def _reference(comparison: Comparison) -> str:
    return comparison.results[0].training.name if comparison.results else "the first run"


def _pictures(comparison: Comparison) -> str:
    rows = next((result.figures.get("rows") for result in comparison.results), None)
    use = ("Nothing was selected with them." if comparison.part == "test"
           else "They also selected each run's best epoch.")
    return f"{count(rows)} pictures of the {comparison.part} part. {use}"


def _on_base(comparison: Comparison) -> list[Cell]:
    return [cell for cell in comparison.cells
            if cell.feature == comparison.base_feature and cell.results]


def _hundredfold(value: object) -> float | None:
    fraction = finite(value)
    return None if fraction is None else fraction * 100
