"""The pictures of a comparison: losses of all methods in one, times, staleness."""

from __future__ import annotations

from collections.abc import Sequence

from hpc_deepfake.compare.comparison import Cell, Comparison
from hpc_deepfake.core.json_data import finite
from hpc_deepfake.web.charts import staleness as chart_of
from hpc_deepfake.web.charts import whole_ticks
from hpc_deepfake.web.html import Html, join
from hpc_deepfake.web.svg import Chart, figure

_COLOURS = ("blue", "orange", "green", "violet", "grey")
_MORE = ("", " dashed", " dotted")  # for more methods than colours


def style(number: int) -> str:
    """Of the line of a method, by its place among them."""
    return _COLOURS[number % len(_COLOURS)] + _MORE[number // len(_COLOURS) % len(_MORE)]


def losses(found: Comparison) -> Html:
    """Validation and training loss against epochs and against seconds, a line for each run."""
    cells = [cell for cell in found.cells if cell.feature == found.base and cell.results]
    keys = [(style(place), cell.method) for place, cell in enumerate(cells)]
    rows = [[figure(f"{title} against {against}", _losses(cells, key, title, against), keys)
             for against in ("epochs", "seconds")]
            for key, title in (("val_loss", "Validation loss"), ("loss", "Training loss"))]
    return join(Html(f"<div class=grid>{join(row)}</div>") for row in rows)


def _losses(cells: Sequence[Cell], key: str, title: str, against: str) -> Chart:
    lines = []
    for place, cell in enumerate(cells):
        for one in cell.results:
            across = one.elapsed if against == "seconds" else \
                [finite(line.get("epoch")) for line in one.epochs]
            lines.append((style(place), one.training.name, list(zip(
                across, (finite(line.get(key)) for line in one.epochs), strict=True))))
    points = [(x, y) for *_, line in lines for x, y in line if x is not None and y is not None]
    if against == "seconds":
        limits, marks = (0.0, max((x for x, _ in points), default=1.0)), None
    else:
        epochs = [x for x, _ in points] or [0.0, 1.0]
        limits, marks = (min(epochs), max(epochs)), whole_ticks(epochs)
    chart = Chart(f"{title} of every method against {against}; metrics.jsonl of each run has the "
                  "values", limits, (0, max((y for _, y in points), default=1.0) * 1.03),
                  {"epochs": "epoch", "seconds": "seconds since the start"}[against],
                  "cross-entropy", xticks=marks)
    for kind, _, line in lines:
        chart.line(line, f"{kind} thin" if len(lines) > len(cells) else kind)
    for kind, name, line in lines if len(points) <= 300 else ():
        for x, y in line:
            chart.dot(x, y, kind.split()[0], f"{name}, {against} {x:g}: {y:.4f}"
                      if x is not None and y is not None else "", 2)
    return chart


def durations(found: Comparison) -> Html:
    """Time to the end and images/s of each method, with bars for the median, lines for the range.
    """
    cells = [cell for cell in found.cells
             if cell.feature == found.base and cell.seconds and cell.images_per_s]
    if not cells:
        return Html("")
    figures = []
    for title, label, spreads in (
            ("Time to the end", "seconds", [cell.seconds for cell in cells]),
            ("Training images per second", "images/s", [cell.images_per_s for cell in cells])):
        chart = Chart(f"{title} of each method; the table has the values", (-0.6, len(cells) - 0.4),
                      (0, max(one.high for one in spreads) * 1.05), "", label,
                      xticks=range(len(cells)), xform=lambda at: cells[int(at)].method)
        for place, (cell, one) in enumerate(zip(cells, spreads, strict=True)):
            chart.bar(place - 0.3, place + 0.3, 0, one.middle, style(place).split()[0],
                      f"{cell.method}: {one.middle:,.1f} ({one.low:,.1f}–{one.high:,.1f})")
            if one.of > 1:
                _whisker(chart, place, one.low, one.high)
        figures.append(figure(title, chart, caption="Median of the repeats, and their range."
                              if spreads[0].of > 1 else ""))
    return Html(f"<div class=grid>{join(figures)}</div>")


def _whisker(chart: Chart, x: float, low: float, high: float) -> None:
    chart.line([(x, low), (x, high)], "ink thin")
    for end in (low, high):
        chart.line([(x - 0.08, end), (x + 0.08, end)], "ink thin")


def staleness(found: Comparison) -> Html:
    """Share of updates by staleness, of all runs of each method that has any."""
    figures = []
    for cell in found.cells:
        counts: dict[int, int] = {}
        for one in cell.results:
            for age, times in one.staleness.items():
                counts[age] = counts.get(age, 0) + times
        if not counts:
            continue
        figures.append(chart_of(counts, cell.name))
    return Html(f"<div class=grid>{join(figures)}</div>") if figures else Html("")
