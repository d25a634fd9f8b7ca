"""The report of a comparison: its sentences and sections."""

from __future__ import annotations

from hpc_deepfake.compare import charts, tables
from hpc_deepfake.compare.comparison import Comparison
from hpc_deepfake.core.text import percent, plural
from hpc_deepfake.metrics.spread import Spread, spread
from hpc_deepfake.web.report import Report, Section


def answer(comparison: Comparison) -> list[str]:
    """The most important figures in sentences."""
    sentences = []
    for cell in comparison.cells:
        if cell.method == "sequential" or not cell.speedup \
                or cell.feature != comparison.base_feature:
            continue
        epochs = plural(cell.results[0].training.settings["epochs"], "epoch")
        conditions = (f" (not under the same conditions: {cell.deviations})" if cell.deviations
                      else " on the same hardware")
        sentences.append(
            f"{cell.method} on {cell.layout.description()} processes trained {epochs} in "
            f"{spread(cell.seconds)} s, "
            f"{spread(Spread.over(cell.speedup), '.2f')} times as fast as sequential "
            f"training{conditions}.")
    for cell in comparison.cells:
        accuracy = cell.figure("accuracy")
        if accuracy and cell.method == comparison.feature_method:
            network = f" with {cell.network}" if cell.network else ""
            sentences.append(f"{cell.method} on {cell.feature}{network} classified "
                             f"{spread(accuracy, '.1%')} of the {comparison.part} pictures "
                             "correctly.")
    if sentences:
        sentences.append("Always predicting the more frequent class is correct for "
                         f"{percent(comparison.majority)}. {tables.container_text(comparison)}")
    return sentences or ["No training is finished yet."]


def report(comparison: Comparison, command: str, launcher: str) -> Report:
    """The report.

    Args:
        comparison: the figures.
        command: the command that repeats the comparison.
        launcher: command that starts several ranks.
    """
    sections: list[Section] = []
    if comparison.results:
        features, networks = tables.features(comparison), tables.networks(comparison)
        ages = tables.staleness(comparison)
        sections = [
            Section("Time", [tables.times(comparison), tables.layouts(comparison)],
                    charts.durations(comparison)),
            Section("Accuracy", [tables.accuracies(comparison)]),
            Section(f"With {comparison.base_feature} and without", [features] if features else []),
            Section("Networks", [networks] if networks else []),
            Section("Loss", charts=charts.losses(comparison)),
            Section("Staleness", [ages] if ages else [], charts.staleness(comparison)),
            Section("The original project's tables", tables.originals(comparison, launcher))]
    sections.append(Section("Trainings", [tables.runs(comparison)], captions=False))
    return Report("Training methods compared", "compare", answer(comparison), comparison.notes,
                  sections, command)
