"""Charts of report and prediction: inline SVG for the pages, and pictures as PNG and SVG files."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from hpc_deepfake.core.files import whole
from hpc_deepfake.core.text import plural
from hpc_deepfake.scaling.records import STAGES
from hpc_deepfake.scaling.series import Series
from hpc_deepfake.web.html import Html, join
from hpc_deepfake.web.svg import Chart, figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("blue", "orange", "green", "violet", "grey")
_HEX = {"blue": "#1763a6", "orange": "#b5460f", "green": "#1d7044", "violet": "#7443b8",
        "grey": "#6b7682"}
_STAGE_COLOURS = {"input": "violet", "compute": "blue", "communication": "orange",
                  "imbalance": "grey", "evaluate": "green"}
_CURVE = 40  # segments of a fitted curve


def _levels(values: Sequence[float]) -> list[float]:
    """Powers of two around all values: ticks of a logarithmic axis."""
    low, high = math.floor(math.log2(min(values))), math.ceil(math.log2(max(values)))
    step = max(1, (high - low) // 8)
    return [float(power) for power in range(low, high + step, step)]


def _power(value: float) -> str:
    """2 to the power of ``value``, as the label of a tick; 16k is 16,384."""
    number = 2**value
    for size, mark in ((2**20, "M"), (2**10, "k")):
        if number >= 8 * size:
            return f"{number / size:,.0f}{mark}"
    return f"{number:,.0f}" if number >= 1 else f"{number:.3g}"


def speedup(group: Sequence[Series]) -> Html:
    """Speed-up over ranks of the series of one kind, with their fits and bands, log-log."""
    sizes = [size for series in group for size in series.sizes]
    ranks = [size.ranks for size in sizes]
    top = max(*(size.speedup * series.base.ranks for series in group for size in series.sizes),
              *ranks)
    ticks = _levels([*ranks, *([] if len(set(ranks)) > 1 else [2 * ranks[0]])])
    chart = Chart("speed-up over the number of ranks; the tables have the values",
                  (ticks[0] - 0.2, ticks[-1] + 0.2), (_levels([1, top])[0] - 0.2,
                                                     math.log2(top) + 0.3),
                  "ranks", "speed-up", xticks=ticks, yticks=_levels([1, top]), xform=_power,
                  yform=_power)
    chart.line([(power, power) for power in ticks], "grey dashed thin")
    legend = [("grey dashed thin", "proportional")]
    for series, colour in zip(group, COLOURS, strict=False):
        base = series.base.ranks
        if series.fit is not None:
            across = [ticks[0] + (ticks[-1] - ticks[0]) * step / _CURVE
                      for step in range(_CURVE + 1)]
            scale = series.base.rate / base / series.fit.single_rate
            chart.line([(x, _log(series.fit.speedup(2**x) / scale)) for x in across],
                       f"{colour} thin")
            bands = [(x, band) for x in across if (band := series.fit.band(2**x)) is not None]
            for side in (0, 1) if bands else ():
                chart.line([(x, _log(band[side] / scale)) for x, band in bands],
                           f"{colour} dotted thin")
        for size in series.sizes:
            chart.dot(math.log2(size.ranks), _log(size.speedup * base), colour,
                      f"{series.name}, {plural(size.ranks, 'rank')}: {size.speedup:.2f} over "
                      f"{base}, efficiency {size.efficiency:.1%}")
        legend.append((f"dot {colour}",
                       series.name + (f"; line: {series.fit.law}" if series.fit else "")))
    return figure("Speed-up", chart, legend, "over one rank's share of the smallest size; dotted: "
                  "95% bands of the fits.")


def efficiency(group: Sequence[Series]) -> Html:
    """Parallel efficiency over ranks of the series of one kind."""
    ranks = [size.ranks for series in group for size in series.sizes]
    top = max(1.05, *(size.efficiency * 1.05 for series in group for size in series.sizes))
    ticks = _levels([*ranks, *([] if len(set(ranks)) > 1 else [2 * ranks[0]])])
    chart = Chart("parallel efficiency over the number of ranks; the tables have the values",
                  (ticks[0] - 0.2, ticks[-1] + 0.2), (0, top), "ranks", "efficiency", xticks=ticks,
                  xform=_power, yform="{:.0%}".format)
    chart.across(1, "grey dashed thin")
    for series, colour in zip(group, COLOURS, strict=False):
        chart.line([(math.log2(size.ranks), size.efficiency) for size in series.sizes], colour)
        for size in series.sizes:
            chart.dot(math.log2(size.ranks), size.efficiency, colour,
                      f"{series.name}, {plural(size.ranks, 'rank')}: {size.efficiency:.1%}", 3)
    return figure("Efficiency", chart,
                  [(colour, series.name) for series, colour in zip(group, COLOURS, strict=False)])


def stages(series: Series) -> Html:
    """Seconds of an epoch by stage, a bar for each size."""
    bars = []
    for size in series.sizes:
        seconds = {stage: statistics.median(row.seconds.get(stage, 0.0) for row in size.rows)
                   for stage in _stages_of(series)}
        seconds["evaluate"] = statistics.median(row.evaluate or 0.0 for row in size.rows)
        bars.append(seconds)
    highest = max(sum(seconds.values()) for seconds in bars) or 1.0
    chart = Chart(f"{series.name}: seconds of an epoch by stage; the tables have the values",
                  (-0.6, len(bars) - 0.4), (0, highest * 1.05), "ranks", "seconds of an epoch",
                  xticks=list(range(len(bars))),
                  xform=lambda number: str(series.sizes[int(number)].ranks))
    colours: dict[str, str] = {}
    for number, seconds in enumerate(bars):
        low = 0.0
        for place, (stage, value) in enumerate(seconds.items()):
            colour = _STAGE_COLOURS.get(stage, COLOURS[place % len(COLOURS)])
            if value > 0:
                chart.bar(number - 0.35, number + 0.35, low, low + value, colour,
                          f"{plural(series.sizes[number].ranks, 'rank')}, {stage}: {value:.3f} s")
                colours[stage] = colour
            low += value
    return figure(series.name, chart,
                  [(f"bar {colour}", stage) for stage, colour in colours.items()])


def _stages_of(series: Series) -> list[str]:
    names = dict.fromkeys(name for size in series.sizes for row in size.rows
                          for name in row.seconds)
    return [name for name in STAGES if name in names] + [name for name in names
                                                         if name not in STAGES]


def grid(charts: Sequence[Html]) -> Html:
    return Html(f"<div class=grid>{join(charts)}</div>")


def _log(value: float) -> float | None:
    return math.log2(value) if value > 0 else None


def _save(sheet: Figure, paths: Sequence[Path]) -> None:
    """Write a drawing to files of these names, each whole."""
    with ExitStack() as stack:
        for path in paths:
            sheet.savefig(stack.enter_context(whole(path)), dpi=110)


def picture(groups: Sequence[Series], paths: Sequence[Path]) -> None:
    """Speed-up and efficiency of all series, a row for each kind, to these files."""
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(series.kind for series in groups))
    sheet = Figure(figsize=(9, 3.4 * len(kinds)), layout="constrained")
    axes = sheet.subplots(len(kinds), 2, squeeze=False)
    for (left, right), kind in zip(axes, kinds, strict=True):
        group = [series for series in groups if series.kind == kind]
        ticks = sorted({size.ranks for series in group for size in series.sizes})
        left.plot(ticks, ticks, "--", color=_HEX["grey"], linewidth=1, label="proportional")
        for series, colour in zip(group, COLOURS, strict=False):
            label = ", ".join(filter(None, (series.input, series.strategy))) or kind
            base, shade = series.base.ranks, _HEX[colour]
            left.plot([size.ranks for size in series.sizes],
                      [size.speedup * base for size in series.sizes], "o", color=shade, label=label)
            right.plot([size.ranks for size in series.sizes],
                       [size.efficiency for size in series.sizes], "o-", color=shade, label=label)
            if series.fit is not None and len(ticks) > 1:
                across = [ticks[0] * (ticks[-1] / ticks[0]) ** (step / _CURVE)
                          for step in range(_CURVE + 1)]
                scale = series.base.rate / base / series.fit.single_rate
                left.plot(across, [series.fit.speedup(x) / scale for x in across], color=shade,
                          linewidth=1, label=f"{series.fit.law}, s = {series.fit.serial:.2%}")
                bands = [(x, *band) for x in across if (band := series.fit.band(x)) is not None]
                if bands:
                    left.fill_between([x for x, *_ in bands],
                                      [low / scale for _, low, _ in bands],
                                      [high / scale for *_, high in bands], color=shade,
                                      alpha=0.15, linewidth=0)
        for axis, title in ((left, "speed-up"), (right, "efficiency")):
            axis.set(xscale="log", xlabel="ranks", title=f"{kind}: {title}")
            axis.set_xticks(ticks, [f"{ranks:,}" for ranks in ticks])
            axis.minorticks_off()
            axis.grid(alpha=0.3)
        left.set(yscale="log")
        left.set_yticks(ticks, [f"{ranks:,}" for ranks in ticks])
        left.minorticks_off()
        left.legend(fontsize="x-small", loc="upper left")
        right.set_ylim(0, None)
        right.axhline(1, linestyle="--", color=_HEX["grey"], linewidth=1)
    _save(sheet, paths)


# a series with its points: (ranks, predicted images/s), (ranks, measured images/s), and (ranks,
# lower and upper end of the prediction's band)
Curve = tuple[Series, Sequence[tuple[int, float]], Sequence[tuple[int, float | None]],
              Sequence[tuple[int, float, float]]]


def panels(curves: Sequence[Curve]) -> list[list[Curve]]:
    """The curves of each chart: of one kind and input, no more than there are colours."""
    groups: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves:
        groups.setdefault((curve[0].kind, curve[0].input), []).append(curve)
    return [group[at:at + len(COLOURS)] for group in groups.values()
            for at in range(0, len(group), len(COLOURS))]


def prediction(curves: Sequence[Curve]) -> Html:
    """Images per second over ranks, log-log: predicted lines, measured dots."""
    ranks = [count for _, points, *_ in curves for count, _ in points]
    rates = [rate for _, points, *_ in curves for _, rate in points]
    across, up = _levels([*ranks, 2 * min(ranks)]), _levels(rates)
    chart = Chart("predicted and measured images per second over the number of ranks; the tables "
                  "have the values", (across[0] - 0.2, across[-1] + 0.2),
                  (up[0] - 0.2, up[-1] + 0.3), "ranks", "images/s", xticks=across, yticks=up,
                  xform=_power, yform=_power, size=(520, 320))
    legend = []
    for (series, points, measured, bands), colour in zip(curves, COLOURS, strict=False):
        chart.line([(_log(x), _log(y)) for x, y in points], colour)
        for side in (1, 2) if bands else ():
            chart.line([(_log(band[0]), _log(band[side])) for band in bands],
                       f"{colour} dashed thin")
        for x, rate in measured:
            if rate is not None:
                chart.dot(_log(x), _log(rate), colour,
                          f"{series.name}, {plural(x, 'rank')}: {rate:,.1f} images/s")
        ideal = points[0][1] / points[0][0]
        chart.line([(_log(x), _log(ideal * x)) for x, _ in points], f"{colour} dotted thin")
        legend.append((colour, series.name))
    return figure("Images per second", chart, legend,
                  "Lines: predicted; dashed: 95% bands; dots: measured; dotted: proportional to "
                  "the ranks.")


def prediction_picture(curves: Sequence[Curve], paths: Sequence[Path]) -> None:
    """The same as files, a panel for each kind and input."""
    from matplotlib.figure import Figure

    groups = panels(curves)
    columns = min(len(groups), 2)
    lines = -(-len(groups) // columns)
    sheet = Figure(figsize=(5.2 * columns, 3.8 * lines), layout="constrained")
    sheet.suptitle("predicted (lines), measured (dots), proportional (dotted)", fontsize="medium")
    axes = sheet.subplots(lines, columns, squeeze=False).flat
    for group, axis in zip(groups, axes, strict=False):  # groups first: no axis is skipped
        for (series, points, measured, bands), colour in zip(group, COLOURS, strict=False):
            shade, ranks = _HEX[colour], [x for x, _ in points]
            axis.plot(ranks, [y for _, y in points], color=shade, label=series.strategy)
            axis.fill_between([x for x, *_ in bands], [low for _, low, _ in bands],
                              [high for *_, high in bands], color=shade, alpha=0.15, linewidth=0)
            axis.plot([x for x, y in measured if y is not None],
                      [y for _, y in measured if y is not None], "o", color=shade)
            axis.plot(ranks, [points[0][1] / points[0][0] * x for x in ranks], ":", color=shade,
                      linewidth=1)
        ticks = sorted({x for _, points, *_ in group for x, _ in points})
        axis.set(xscale="log", yscale="log", xlabel="ranks", ylabel="images/s",
                 title=f"{group[0][0].kind}, {group[0][0].input}")
        axis.set_xticks(ticks, [f"{count:,}" for count in ticks], rotation=45)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small", loc="upper left")
    for axis in axes:  # the last one of an odd number of panels
        axis.set_visible(False)
    _save(sheet, paths)
