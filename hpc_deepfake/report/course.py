"""The course of a run: learning curves, and the time spent in each stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from hpc_deepfake.core.json_data import dictionary, finite, items
from hpc_deepfake.core.text import count, number, percent
from hpc_deepfake.report.answer import baselines
from hpc_deepfake.report.collect import Content
from hpc_deepfake.train.records import wall_rate
from hpc_deepfake.web.charts import staleness, whole_ticks
from hpc_deepfake.web.html import Html, details, join, paragraph, table
from hpc_deepfake.web.svg import Chart, figure

# of train.loop.STAGES: meaning and colour of each
STAGES = {"input": ("waiting for rows", "violet"),
          "compute": ("forward and backward pass", "blue"),
          "communication": ("gradients between ranks, including waits", "orange"),
          "evaluate": ("validation", "green"), "checkpoint": ("saving", "grey")}
_DOTS = 60  # maximum number of epochs that are drawn as dots too


def curves(content: Content) -> Html:
    """Loss, accuracy and AUC over the epochs."""
    lines = content.records.epochs
    if not lines:
        return paragraph("metrics.jsonl is missing, or has no complete line.")
    epochs = _epochs(lines)
    best = finite(content.records.summary.get("best_epoch")) or next(
        (line["epoch"] for line in reversed(lines) if line.get("best") is True), None)
    monitor = content.records.summary.get(
        "monitor", content.records.config.get("monitor", "val_loss"))
    validation = next((part for part in content.parts if part.name == "validation"), None)
    majority = next((value for value in _column(lines, "val_majority") if value is not None), None)
    container = finite((content.container or {}).get("accuracy"))
    container_text = "unknown" if container is None else percent(container)

    def drawn(label: str, names: Sequence[tuple[str, str]], low: float, high: float,
              levels: Sequence[tuple[float | None, str]] = (), form: str = "g") -> Chart:
        chart = Chart(f"{label} over the epochs; the table below has the values",
                      (min(epochs), max(epochs)), (low, high), "epoch", label,
                      xticks=whole_ticks(epochs), yform=lambda value: format(value, form))
        for level, style in levels:
            chart.across(level, style)
        if best is not None:
            chart.upright(best, "grey dotted thin")
        for key, style in names:
            values = _column(lines, key)
            chart.line(list(zip(epochs, values, strict=True)), style)
            for epoch, value in zip(epochs, values, strict=True) if len(lines) <= _DOTS else ():
                chart.dot(epoch, value, style.split()[0],
                          f"epoch {epoch:g}: {number(value, '.4f')}",
                          4.5 if epoch == best else 2.3)
        return chart

    losses = [value for key in ("loss", "val_loss") for value in _column(lines, key)
              if value is not None]
    shares = [value for key in ("accuracy", "val_accuracy", "val_majority")
              for value in _column(lines, key) if value is not None]
    shares += [container] if container is not None else []
    area_names = [("val_auc", "orange")]
    keys = [("orange", "validation")]
    if any("val_pixel_auc" in line for line in lines):
        area_names.append(("val_pixel_auc", "violet"))
        keys.append(("violet", "of pixels, a mean over its tampered pictures"))
    areas = [value for key, _ in area_names for value in _column(lines, key) if value is not None]
    both = [("blue", "training, during the epoch, with dropout"), ("orange", "validation")]
    figures = [
        figure("Loss", drawn("cross-entropy", [("loss", "blue"), ("val_loss", "orange")], 0,
                             max(losses, default=1.0) * 1.03), both),
        figure("Accuracy", drawn(
            "accuracy", [("accuracy", "blue"), ("val_accuracy", "orange")],
            _floor([*shares, 0.5]), 1,
            [(majority, "grey dashed thin"), (container, "violet dotted")], ".0%"),
            [*both, ("grey dashed thin", f"majority class {percent(majority)}"),
             ("violet dotted", f"container alone {container_text}")]),
        figure("ROC-AUC", drawn("area under the ROC curve", area_names,
                                _floor([*areas, 0.5]), 1, [(0.5, "grey dashed thin")], ".1f"),
               [*keys, ("grey dashed thin", "chance, 0.5")])]
    chosen = "No epoch was selected as the best." if best is None else \
        f"The dotted vertical line marks epoch {best:g}, the best by {monitor}: its weights were " \
        "kept."
    beside = "" if validation is None else \
        f" Beside the accuracies: {baselines(content, validation)}."
    return join([paragraph(chosen), Html(f"<div class=grid>{join(figures)}</div>"),
                 details("All epochs as a table", _table(lines, beside))])


def _table(lines: Sequence[dict[str, Any]], beside: str) -> Html:
    head = ("epoch", "loss", "accuracy", "validation loss", "validation accuracy",
            "majority class", "ROC-AUC", "images/s", "by the wall clock", "")
    return table(f"Figures of each epoch.{beside}", head, (
        (count(line["epoch"]), number(line.get("loss"), ".4f"), percent(line.get("accuracy")),
         number(line.get("val_loss"), ".4f"), percent(line.get("val_accuracy")),
         percent(line.get("val_majority")), number(line.get("val_auc")),
         number(line.get("images_per_s"), ",.1f"), number(wall_rate(line), ",.1f"),
         "best" if line.get("best") is True else "")
        for line in lines))


def time(content: Content) -> Html:
    """Seconds by stage, images per second, and the resources of the ranks."""
    lines = [line for line in content.records.epochs if dictionary(line.get("seconds"))]
    parts: list[object] = []
    if lines:
        ages = [dictionary(line.get("staleness")) for line in lines]
        whose = "mean of the workers" if any(ages) else "rank 0"
        parts += [_stages(lines, whose), _rates(content, lines)]
        counts: Counter[int] = Counter()
        for epoch_ages in ages:
            counts.update({int(age): int(times) for age, times in epoch_ages.items()})
        if counts:
            parts.append(staleness(counts, "all epochs"))
        parts = [Html(f"<div class=grid>{join(parts)}</div>"), _stage_table(lines, whose)]
    summary = content.records.summary
    if finite(summary.get("seconds")) is not None:
        parts.insert(0, paragraph(
            f"{count(summary.get('epochs'))} epochs of {count(summary.get('train_rows'))} pictures "
            f"in {number(summary['seconds'], ',.1f')} s since the last start; "
            f"{number(summary.get('images_per_s'), ',.1f')} images/s in training, "
            f"{number(_median(lines, wall_rate), ',.1f')} by the wall clock, with validation and "
            "saving: the medians of the epochs."))
    parts.append(_ranks(content))
    return join(parts)


def _median(lines: Sequence[dict[str, Any]],
            figure_of: Callable[[dict[str, Any]], float | None]) -> float | None:
    figures = [value for line in lines if (value := figure_of(line)) is not None]
    return median(figures) if figures else None


def _seconds(line: dict[str, Any], stage: str) -> float:
    return max(finite(line["seconds"].get(stage)) or 0.0, 0.0)


def _stages(lines: Sequence[dict[str, Any]], whose: str) -> Html:
    epochs = _epochs(lines)
    highest = max(sum(_seconds(line, stage) for stage in STAGES) for line in lines)
    chart = Chart("seconds of each epoch by stage; the table below has the values",
                  (min(epochs) - 0.5, max(epochs) + 0.5), (0, highest * 1.03), "epoch", "seconds",
                  xticks=whole_ticks(epochs))
    for epoch, line in zip(epochs, lines, strict=True):
        low = 0.0
        for stage, (_, colour) in STAGES.items():
            high = low + _seconds(line, stage)
            if high > low:
                chart.bar(epoch - 0.4, epoch + 0.4, low, high, colour,
                          f"epoch {epoch:g}, {stage}: {high - low:.3f} s")
            low = high
    return figure(f"Seconds of each epoch, {whose}", chart,
                  [(f"bar {colour}", stage) for stage, (_, colour) in STAGES.items()])


def _rates(content: Content, lines: Sequence[dict[str, Any]]) -> Html:
    epochs, rates = _epochs(lines), _column(lines, "images_per_s")
    chart = Chart("images per second of each epoch; the table of epochs has the values",
                  (min(epochs) - 0.5, max(epochs) + 0.5),
                  (0, max((rate for rate in rates if rate is not None), default=1.0) * 1.05),
                  "epoch", "images/s, all ranks", xticks=whole_ticks(epochs))
    middle = finite(content.records.summary.get("images_per_s"))
    chart.across(middle, "grey dashed thin")
    chart.line(list(zip(epochs, rates, strict=True)), "blue")
    for epoch, rate in zip(epochs, rates, strict=True) if len(lines) <= _DOTS else ():
        chart.dot(epoch, rate, "blue", f"epoch {epoch:g}: {number(rate, ',.1f')} images/s", 2.3)
    return figure("Training images per second", chart, [
        ("blue", "rows over seconds of input, compute and communication"),
        ("grey dashed thin", f"median {number(middle, ',.1f')}")])


def _stage_table(lines: Sequence[dict[str, Any]], whose: str) -> Html:
    sums = {stage: sum(_seconds(line, stage) for line in lines) for stage in STAGES}
    whole = sum(sums.values()) or 1.0
    return table(f"Seconds by stage, {whose}", ("stage", "all epochs", "per epoch", "share"), (
        (f"{stage}: {meaning}", f"{sums[stage]:,.2f}", f"{sums[stage] / len(lines):,.3f}",
         f"{sums[stage] / whole:.1%}") for stage, (meaning, _) in STAGES.items()))


def _ranks(content: Content) -> Html:
    """Ranks of the last start, with identical ones of a host in one row."""
    ranks = [dictionary(rank) for rank in items(content.records.environment.get("ranks"))]
    usage = [dictionary(used) for used in items(content.records.summary.get("usage"))]
    usage += [{}] * (len(ranks) - len(usage))
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for rank, used in zip(ranks, usage, strict=False):
        key = tuple(str(rank.get(name, "–")) for name in ("host", "device", "name", "threads",
                                                         "input"))
        alike.setdefault(key, []).append(used)
    if not alike:
        return paragraph("The ranks' hosts and devices are unknown.")

    def over(ranks: list[dict[str, Any]], name: str) -> list[float]:
        return [value for used in ranks if (value := finite(used.get(name))) is not None]

    return table("Ranks of the last start", (
        "host", "ranks", "device", "threads per rank", "input", "CPU seconds, total",
        "memory, maximum"), (
        (host, count(len(used)), f"{device} ({model})", threads, read,
         f"{sum(over(used, 'cpu_s')):,.0f}" if over(used, "cpu_s") else "–",
         f"{max(over(used, 'max_rss_mb')):,.0f} MB" if over(used, "max_rss_mb") else "–")
        for (host, device, model, threads, read), used in alike.items()))


def _epochs(lines: Sequence[dict[str, Any]]) -> list[float]:
    """The numbers of the epochs, which every line has (``records.read``)."""
    return [float(line["epoch"]) for line in lines]


def _column(lines: Sequence[dict[str, Any]], key: str) -> list[float | None]:
    return [finite(line.get(key)) for line in lines]


def _floor(values: Sequence[float]) -> float:
    """A lower limit in tenths, a little below all of them."""
    return max(0.0, int((min(values) - 0.02) * 10) / 10)
