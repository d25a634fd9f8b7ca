"""The charts of a comparison: losses of all methods, times, staleness."""

from __future__ import annotations

from collections.abc import Sequence

from hpc_deepfake.compare.comparison import Cell, Comparison
from hpc_deepfake.core.json_data import finite
from hpc_deepfake.metrics.spread import Spread
from hpc_deepfake.web.charts import staleness as staleness_chart
from hpc_deepfake.web.charts import whole_ticks
from hpc_deepfake.web.html import Html, join
from hpc_deepfake.web.svg import Chart, figure

_COLOURS = ("blue", "orange", "green", "violet", "grey")
_PATTERNS = ("", " dashed", " dotted")  # for more methods than colours


def style(number: int) -> str:
    """Line style of a method, by its index."""
    return _COLOURS[number % len(_COLOURS)] + _PATTERNS[number // len(_COLOURS) % len(_PATTERNS)]


def losses(comparison: Comparison) -> Html:
    """Validation and training loss against epochs and against seconds, a line for each run."""
    cells = [cell for cell in comparison.cells
             if cell.feature == comparison.base_feature and cell.results]
    legend = [(style(number), cell.on_base) for number, cell in enumerate(cells)]
    rows = [[figure(f"{title} against {axis}", _losses(cells, key, title, axis), legend)
             for axis in ("epochs", "seconds")]
            for key, title in (("val_loss", "Validation loss"), ("loss", "Training loss"))]
    return join(Html(f"<div class=grid>{join(row)}</div>") for row in rows)


def _losses(cells: Sequence[Cell], key: str, title: str, axis: str) -> Chart:
    lines = []
    for number, cell in enumerate(cells):
        for result in cell.results:
            across = result.elapsed if axis == "seconds" else \
                [finite(line.get("epoch")) for line in result.epochs]
            lines.append((style(number), result.training.name, list(zip(
                across, (finite(line.get(key)) for line in result.epochs), strict=True))))
    points = [(x, y) for *_, line in lines for x, y in line if x is not None and y is not None]
    if axis == "seconds":
        limits, marks = (0.0, max((x for x, _ in points), default=1.0)), None
    else:
        epochs = [x for x, _ in points] or [0.0, 1.0]
        limits, marks = (min(epochs), max(epochs)), whole_ticks(epochs)
    chart = Chart(f"{title} of every method against {axis}; metrics.jsonl of each run has the "
                  "values", limits, (0, max((y for _, y in points), default=1.0) * 1.03),
                  {"epochs": "epoch", "seconds": "seconds since the start"}[axis],
                  "cross-entropy", xticks=marks)
    for line_style, _, line in lines:
        chart.line(line, f"{line_style} thin" if len(lines) > len(cells) else line_style)
    for line_style, name, line in lines if len(points) <= 300 else ():
        for x, y in line:
            chart.dot(x, y, line_style.split()[0], f"{name}, {axis} {x:g}: {y:.4f}"
                      if x is not None and y is not None else "", 2)
    return chart


def durations(comparison: Comparison) -> Html:
    """Total time and images/s of each method: bars for the median, lines for the range."""
    measured = [(cell.on_base, cell.seconds, cell.images_per_s) for cell in comparison.cells
                if cell.feature == comparison.base_feature]
    bars = [(method, seconds, rate) for method, seconds, rate in measured if seconds and rate]
    if not bars:
        return Html("")
    methods = [method for method, _, _ in bars]
    figures = [_bars("Total time", "seconds", methods, [seconds for _, seconds, _ in bars]),
               _bars("Training images per second", "images/s", methods,
                     [rate for _, _, rate in bars])]
    return Html(f"<div class=grid>{join(figures)}</div>")


def _bars(title: str, label: str, methods: Sequence[str], spreads: Sequence[Spread]) -> Html:
    chart = Chart(f"{title} of each method; the table has the values", (-0.6, len(methods) - 0.4),
                  (0, max(spread.high for spread in spreads) * 1.05), "", label,
                  xticks=range(len(methods)), xform=lambda number: methods[int(number)])
    for number, (method, spread) in enumerate(zip(methods, spreads, strict=True)):
        chart.bar(number - 0.3, number + 0.3, 0, spread.median, style(number).split()[0],
                  f"{method}: {spread.median:,.1f} ({spread.low:,.1f}–{spread.high:,.1f})")
        if spread.count > 1:
            _whisker(chart, number, spread.low, spread.high)
    return figure(title, chart, caption="Median of the repeats, and their range."
                  if spreads[0].count > 1 else "")


def _whisker(chart: Chart, x: float, low: float, high: float) -> None:
    chart.line([(x, low), (x, high)], "ink thin")
    for end in (low, high):
        chart.line([(x - 0.08, end), (x + 0.08, end)], "ink thin")


def staleness(comparison: Comparison) -> Html:
    """Share of updates by staleness, over all runs of each method that recorded it."""
    figures = []
    for cell in comparison.cells:
        counts: dict[int, int] = {}
        for result in cell.results:
            for age, updates in result.staleness.items():
                counts[age] = counts.get(age, 0) + updates
        if not counts:
            continue
        figures.append(staleness_chart(counts, cell.name))
    return Html(f"<div class=grid>{join(figures)}</div>") if figures else Html("")
