"""The report's charts: inline SVG for the page, and one picture as PNG and SVG files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from hpc_deepfake.scaling.records import STAGES
from hpc_deepfake.scaling.series import Series
from hpc_deepfake.web.html import Html, join
from hpc_deepfake.web.svg import Chart, figure

COLOURS = ("blue", "orange", "green", "violet", "grey")
_HEX = {"blue": "#1763a6", "orange": "#b5460f", "green": "#1d7044", "violet": "#7443b8",
        "grey": "#6b7682"}
_STAGE_COLOURS = {"input": "violet", "compute": "blue", "communication": "orange",
                  "imbalance": "grey", "evaluate": "green"}
_CURVE = 40  # points of a fitted curve


def _levels(values: Sequence[float]) -> list[float]:
    """Powers of two around all values: ticks of a logarithmic axis."""
    low, high = math.floor(math.log2(min(values))), math.ceil(math.log2(max(values)))
    step = max(1, (high - low) // 8)
    return [float(one) for one in range(low, high + step, step)]


def _power(value: float) -> str:
    """2 to the value as the text of a tick; 16k is 16,384."""
    found = 2**value
    for size, mark in ((2**20, "M"), (2**10, "k")):
        if found >= 8 * size:
            return f"{found / size:,.0f}{mark}"
    return f"{found:,.0f}" if found >= 1 else f"{found:.3g}"


def speedup(group: Sequence[Series]) -> Html:
    """Speed-up over ranks of the series of one kind, with their fits and bands, log-log."""
    sizes = [size for one in group for size in one.sizes]
    ranks = [size.ranks for size in sizes]
    top = max(*(size.speedup * one.base.ranks for one in group for size in one.sizes), *ranks)
    ticks = _levels([*ranks, *([] if len(set(ranks)) > 1 else [2 * ranks[0]])])
    chart = Chart("speed-up over the number of ranks; the tables have the values",
                  (ticks[0] - 0.2, ticks[-1] + 0.2), (_levels([1, top])[0] - 0.2,
                                                     math.log2(top) + 0.3),
                  "ranks", "speed-up", xticks=ticks, yticks=_levels([1, top]), xform=_power,
                  yform=_power)
    chart.line([(one, one) for one in ticks], "grey dashed thin")
    keys = [("grey dashed thin", "in proportion")]
    for one, colour in zip(group, COLOURS, strict=False):
        base = one.base.ranks
        if one.fit is not None:
            across = [ticks[0] + (ticks[-1] - ticks[0]) * at / _CURVE for at in range(_CURVE + 1)]
            scale = one.base.rate / base / one.fit.one
            chart.line([(x, _log(one.fit.speedup(2**x) / scale)) for x in across], f"{colour} thin")
            if one.fit.band(2) is not None:
                for side in (0, 1):
                    chart.line([(x, _log(one.fit.band(2**x)[side] / scale)) for x in across],
                               f"{colour} dotted thin")
        for size in one.sizes:
            chart.dot(math.log2(size.ranks), _log(size.speedup * base), colour,
                      f"{one.name}, {size.ranks} ranks: {size.speedup:.2f} over {base}, "
                      f"efficiency {size.efficiency:.1%}")
        keys.append((f"dot {colour}", one.name + (f"; line: {one.fit.law}" if one.fit else "")))
    return figure("Speed-up", chart, keys, "over one rank's share of the smallest size; dotted: "
                  "the fits' 95% bands.")


def efficiency(group: Sequence[Series]) -> Html:
    ranks = [size.ranks for one in group for size in one.sizes]
    top = max(1.05, *(size.efficiency * 1.05 for one in group for size in one.sizes))
    ticks = _levels([*ranks, *([] if len(set(ranks)) > 1 else [2 * ranks[0]])])
    chart = Chart("parallel efficiency over the number of ranks; the tables have the values",
                  (ticks[0] - 0.2, ticks[-1] + 0.2), (0, top), "ranks", "efficiency", xticks=ticks,
                  xform=_power, yform="{:.0%}".format)
    chart.across(1, "grey dashed thin")
    for one, colour in zip(group, COLOURS, strict=False):
        chart.line([(math.log2(size.ranks), size.efficiency) for size in one.sizes], colour)
        for size in one.sizes:
            chart.dot(math.log2(size.ranks), size.efficiency, colour,
                      f"{one.name}, {size.ranks} ranks: {size.efficiency:.1%}", 3)
    return figure("Efficiency", chart,
                  [(colour, one.name) for one, colour in zip(group, COLOURS, strict=False)])


def stages(one: Series) -> Html:
    """Seconds of an epoch by stage, a bar for each size."""
    bars = []
    for size in one.sizes:
        seconds = {stage: _median([row.seconds.get(stage, 0.0) for row in size.rows])
                   for stage in _stages_of(one)}
        seconds["evaluate"] = _median([row.evaluate or 0.0 for row in size.rows])
        bars.append(seconds)
    highest = max(sum(seconds.values()) for seconds in bars) or 1.0
    chart = Chart(f"{one.name}: seconds of an epoch by stage; the tables have the values",
                  (-0.6, len(bars) - 0.4), (0, highest * 1.05), "ranks", "seconds of an epoch",
                  xticks=list(range(len(bars))),
                  xform=lambda at: str(one.sizes[int(at)].ranks))
    used: dict[str, str] = {}
    for at, seconds in enumerate(bars):
        low = 0.0
        for number, (stage, value) in enumerate(seconds.items()):
            colour = _STAGE_COLOURS.get(stage, COLOURS[number % len(COLOURS)])
            if value > 0:
                chart.bar(at - 0.35, at + 0.35, low, low + value, colour,
                          f"{one.sizes[at].ranks} ranks, {stage}: {value:.3f} s")
                used[stage] = colour
            low += value
    return figure(one.name, chart, [(f"bar {colour}", stage) for stage, colour in used.items()])


def _stages_of(one: Series) -> list[str]:
    names = dict.fromkeys(name for size in one.sizes for row in size.rows for name in row.seconds)
    return [name for name in STAGES if name in names] + [name for name in names
                                                         if name not in STAGES]


def grid(charts: Sequence[Html]) -> Html:
    return Html(f"<div class=grid>{join(charts)}</div>")


def _log(value: float) -> float | None:
    return math.log2(value) if value > 0 else None


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def picture(found: Sequence[Series], files: Sequence[Path]) -> None:
    """Speed-up and efficiency of all series, a row for each kind, to these files."""
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(one.kind for one in found))
    sheet = Figure(figsize=(9, 3.4 * len(kinds)), layout="constrained")
    axes = sheet.subplots(len(kinds), 2, squeeze=False)
    for (left, right), kind in zip(axes, kinds, strict=True):
        group = [one for one in found if one.kind == kind]
        ticks = sorted({size.ranks for one in group for size in one.sizes})
        left.plot(ticks, ticks, "--", color=_HEX["grey"], linewidth=1, label="in proportion")
        for one, colour in zip(group, COLOURS, strict=False):
            label = ", ".join(filter(None, (one.input, one.strategy))) or kind
            base, shade = one.base.ranks, _HEX[colour]
            left.plot([size.ranks for size in one.sizes],
                      [size.speedup * base for size in one.sizes], "o", color=shade, label=label)
            right.plot([size.ranks for size in one.sizes],
                       [size.efficiency for size in one.sizes], "o-", color=shade, label=label)
            if one.fit is not None and len(ticks) > 1:
                across = [ticks[0] * (ticks[-1] / ticks[0]) ** (at / _CURVE)
                          for at in range(_CURVE + 1)]
                scale = one.base.rate / base / one.fit.one
                left.plot(across, [one.fit.speedup(x) / scale for x in across], color=shade,
                          linewidth=1, label=f"{one.fit.law}, s = {one.fit.serial:.2%}")
                if one.fit.band(2) is not None:
                    bands = [one.fit.band(x) for x in across]
                    left.fill_between(across, [low / scale for low, _ in bands],
                                      [high / scale for _, high in bands], color=shade, alpha=0.15,
                                      linewidth=0)
        for axis, title in ((left, "speed-up"), (right, "efficiency")):
            axis.set(xscale="log", xlabel="ranks", title=f"{kind}: {title}")
            axis.set_xticks(ticks, [f"{one:,}" for one in ticks])
            axis.minorticks_off()
            axis.grid(alpha=0.3)
        left.set(yscale="log")
        left.set_yticks(ticks, [f"{one:,}" for one in ticks])
        left.minorticks_off()
        left.legend(fontsize="x-small", loc="upper left")
        right.set_ylim(0, None)
        right.axhline(1, linestyle="--", color=_HEX["grey"], linewidth=1)
    for file in files:
        sheet.savefig(file, dpi=110)


# series; (ranks, predicted) and (ranks, measured) images/s
Curve = tuple[Series, Sequence[tuple[int, float]], Sequence[tuple[int, float | None]]]


def panels(curves: Sequence[Curve]) -> list[list[Curve]]:
    """Those that belong into one chart: of a kind and an input, as many as there are colours."""
    groups: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves:
        groups.setdefault((curve[0].kind, curve[0].input), []).append(curve)
    return [group[at:at + len(COLOURS)] for group in groups.values()
            for at in range(0, len(group), len(COLOURS))]


def prediction(curves: Sequence[Curve]) -> Html:
    """Images per second over ranks, log-log: predicted lines, measured dots."""
    ranks = [one for _, points, _ in curves for one, _ in points]
    rates = [rate for _, points, _ in curves for _, rate in points]
    across, up = _levels([*ranks, 2 * min(ranks)]), _levels(rates)
    chart = Chart("predicted and measured images per second over the number of ranks; the tables "
                  "have the values", (across[0] - 0.2, across[-1] + 0.2),
                  (up[0] - 0.2, up[-1] + 0.3), "ranks", "images/s", xticks=across, yticks=up,
                  xform=_power, yform=_power, size=(520, 320))
    keys = []
    for (one, points, measured), colour in zip(curves, COLOURS, strict=False):
        chart.line([(_log(x), _log(y)) for x, y in points], colour)
        for x, y in measured:
            if y is not None:
                chart.dot(_log(x), _log(y), colour, f"{one.name}, {x} ranks: {y:,.1f} images/s")
        ideal = points[0][1] / points[0][0]
        chart.line([(_log(x), _log(ideal * x)) for x, _ in points], f"{colour} dotted thin")
        keys.append((colour, one.name))
    return figure("Images per second", chart, keys,
                  "Lines: predicted; dots: measured; dotted: in proportion.")


def prediction_picture(curves: Sequence[Curve], files: Sequence[Path]) -> None:
    """The same as files, a panel for each kind and input."""
    from matplotlib.figure import Figure

    groups = panels(curves)
    columns = min(len(groups), 2)
    lines = -(-len(groups) // columns)
    sheet = Figure(figsize=(5.2 * columns, 3.8 * lines), layout="constrained")
    sheet.suptitle("predicted (lines), measured (dots), in proportion (dotted)", fontsize="medium")
    axes = sheet.subplots(lines, columns, squeeze=False).flat
    for axis, group in zip(axes, groups, strict=False):
        for (one, points, measured), colour in zip(group, COLOURS, strict=False):
            shade, ranks = _HEX[colour], [x for x, _ in points]
            axis.plot(ranks, [y for _, y in points], color=shade, label=one.strategy)
            axis.plot([x for x, y in measured if y is not None],
                      [y for _, y in measured if y is not None], "o", color=shade)
            axis.plot(ranks, [points[0][1] / points[0][0] * x for x in ranks], ":", color=shade,
                      linewidth=1)
        ticks = sorted({x for _, points, _ in group for x, _ in points})
        axis.set(xscale="log", yscale="log", xlabel="ranks", ylabel="images/s",
                 title=f"{group[0][0].kind}, {group[0][0].input}")
        axis.set_xticks(ticks, [f"{one:,}" for one in ticks], rotation=45)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small", loc="upper left")
    for axis in axes:  # of an odd number of panels
        axis.set_visible(False)
    for file in files:
        sheet.savefig(file, dpi=110)
