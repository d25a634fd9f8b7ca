"""Charts as inline SVG. Their colours are classes of the page's style, so that they change with its
dark mode; each chart has a text alternative."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from hpc_deepfake.web.html import Html, join, text

Point = tuple[float | None, float | None]
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 20, 10, 40  # margins, in the units of the drawing


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` round numbers from ``low`` to ``high``: steps of 1, 2 or 5 times a power of
    ten."""
    span = high - low
    if not span > 0:
        return [low]
    rough = span / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10)
                if power * factor >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


class Chart:
    """Axes, and what is drawn on them; ``svg()`` returns the whole chart.

    Args:
        label: text alternative, which says what the chart shows.
        x: limits of the horizontal axis.
        y: limits of the vertical axis.
        xlabel: name of the horizontal axis, with its unit.
        ylabel: name of the vertical axis, with its unit.
        xticks: values to label; default: round numbers.
        yticks: values to label; default: round numbers.
        xform: format of the horizontal tick labels.
        yform: format of the vertical tick labels.
        size: width and height of the drawing, about CSS pixels on a phone.
    """

    def __init__(self, label: str, x: tuple[float, float], y: tuple[float, float],
                 xlabel: str, ylabel: str, *, xticks: Sequence[float] | None = None,
                 yticks: Sequence[float] | None = None,
                 xform: Callable[[float], str] = "{:g}".format,
                 yform: Callable[[float], str] = "{:g}".format,
                 size: tuple[int, int] = (360, 240)) -> None:
        self.label, self.size = label, size
        self._x, self._y = _wide(x), _wide(y)
        self._parts: list[str] = []
        bottom, middle = size[1] - _BOTTOM, (_TOP + size[1] - _BOTTOM) / 2
        for value in ticks(*self._y) if yticks is None else yticks:
            at = self._down(value)
            self._parts.append(f'<path class="grid-line" d="M{_LEFT} {at}H{size[0] - _RIGHT}"/>'
                               f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">'
                               f"{text(yform(value))}</text>")
        for value in ticks(*self._x) if xticks is None else xticks:
            self._parts.append(f'<text x="{self._across(value)}" y="{bottom + 16}" '
                               f'text-anchor="middle">{text(xform(value))}</text>')
        self._parts.append(
            f'<text x="{(_LEFT + size[0] - _RIGHT) / 2}" y="{size[1] - 6}" text-anchor="middle">'
            f'{text(xlabel)}</text><text transform="translate(12 {middle}) rotate(-90)" '
            f'text-anchor="middle">{text(ylabel)}</text>')

    def _across(self, value: float) -> float:
        low, high = self._x
        return round(_LEFT + (value - low) / (high - low) * (self.size[0] - _LEFT - _RIGHT), 1)

    def _down(self, value: float) -> float:
        low, high = self._y
        height = self.size[1] - _TOP - _BOTTOM
        return round(_TOP + (1 - (value - low) / (high - low)) * height, 1)

    def line(self, points: Sequence[Point], style: str) -> None:
        """A line through the points, interrupted where one is not finite; a lone point is a dot."""
        run: list[tuple[float, float]] = []
        for x, y in [*points, (None, None)]:
            if x is not None and y is not None and math.isfinite(x) and math.isfinite(y):
                run.append((self._across(x), self._down(y)))
                continue
            run = _straightened(run)
            if len(run) == 1:
                self._parts.append(f'<circle class="f-{style.split()[0]}" cx="{run[0][0]}" '
                                   f'cy="{run[0][1]}" r="2.5"/>')
            elif run:
                path = "M" + "L".join(f"{across:g} {down:g}" for across, down in run)
                self._parts.append(f'<path class="line s-{style}" d="{path}"/>')
            run = []

    def across(self, y: float | None, style: str) -> None:
        """A horizontal line over the whole width."""
        if y is not None:
            self.line([(self._x[0], y), (self._x[1], y)], style)

    def upright(self, x: float, style: str) -> None:
        """A vertical line over the whole height."""
        self.line([(x, self._y[0]), (x, self._y[1])], style)

    def dot(self, x: float | None, y: float | None, style: str, title: str = "",
            radius: float = 4) -> None:
        """A point; its title is shown under the mouse pointer."""
        if x is not None and y is not None:
            inner = f"<title>{text(title)}</title>" if title else ""
            self._parts.append(f'<circle class="f-{style}" cx="{self._across(x)}" '
                               f'cy="{self._down(y)}" r="{radius:g}">{inner}</circle>')

    def bar(self, left: float, right: float, low: float, high: float, style: str,
            title: str = "") -> None:
        """A filled rectangle; its title is shown under the mouse pointer."""
        x, y = self._across(left), self._down(high)
        inner = f"<title>{text(title)}</title>" if title else ""
        self._parts.append(f'<rect class="f-{style}" x="{x:g}" y="{y:g}" '
                           f'width="{max(self._across(right) - x, 0.3):.1f}" '
                           f'height="{max(self._down(low) - y, 0):.1f}">{inner}</rect>')

    def svg(self) -> Html:
        """The chart as an ``svg`` element."""
        return Html(f'<svg viewBox="0 0 {self.size[0]} {self.size[1]}" role="img" '
                    f'aria-label="{text(self.label)}">{"".join(self._parts)}</svg>')


def _wide(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = limits
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _straightened(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Without the points inside horizontal and vertical runs; curves have a point per picture."""
    kept: list[tuple[float, float]] = []
    for point in points:
        if kept and point == kept[-1]:
            continue
        if len(kept) > 1 and any(kept[-2][axis] == kept[-1][axis] == point[axis]
                                 for axis in (0, 1)):
            kept.pop()
        kept.append(point)
    return kept


def figure(title: str, chart: Chart, keys: Sequence[tuple[str, str]] = (),
           caption: object = "", below: object = "") -> Html:
    """A chart with its title and legend.

    Args:
        title: heading of the figure.
        chart: the chart.
        keys: style and meaning of each line of the legend.
        caption: text beside the title.
        below: content below the chart.
    """
    legend = join(Html(f'<li><svg viewBox="0 0 26 10" aria-hidden="true">{_sample(style)}</svg>'
                       f"{text(meaning)}</li>") for style, meaning in keys)
    return Html(f'<figure class=chart><figcaption><b>{text(title)}</b> '
                f"{text(caption)}</figcaption>"
                f"<ul class=keys>{legend}</ul>{chart.svg()}{text(below)}</figure>")


def _sample(style: str) -> str:
    """The sample in the legend for ``bar COLOUR``, ``dot COLOUR``, or the style of a line."""
    kind, _, colour = style.partition(" ")
    if kind == "bar":
        return f'<rect class="f-{colour}" x="6" y="0" width="12" height="10"/>'
    if kind == "dot":
        return f'<circle class="f-{colour}" cx="12" cy="5" r="4"/>'
    return f'<path class="line s-{style}" d="M1 5H25"/>'
