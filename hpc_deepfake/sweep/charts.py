"""The charts of a sweep's report: what each trial reached, by the value of each option."""

from __future__ import annotations

import math

from hpc_deepfake.core.json_data import finite
from hpc_deepfake.sweep.plan import DONE, value_text
from hpc_deepfake.sweep.results import Ranking
from hpc_deepfake.web.html import Html, join
from hpc_deepfake.web.svg import Chart, figure

_LOGARITHMIC = 20  # ratio of the largest to the smallest value from which an axis is


def values(own: Ranking) -> Html:
    """A chart for each option that has several values."""
    figures = [_chart(own, name) for name in own.sweep.varied
               if len({str(candidate.values[name]) for candidate in own.ranked}) > 1]
    return Html(f"<div class=grid>{join(figures)}</div>") if figures else Html("")


def _chart(own: Ranking, name: str) -> Html:
    monitor, title = own.sweep.monitor, name.replace("_", "-")
    tried = sorted({candidate.values[name] for candidate in own.ranked},
                   key=lambda value: (finite(value) is None, finite(value) or 0, str(value)))
    numbers = [number for value in tried if (number := finite(value)) is not None]
    log = len(numbers) == len(tried) and numbers[0] > 0 \
        and numbers[-1] / numbers[0] >= _LOGARITHMIC
    names = len(numbers) < len(tried)

    def across(value: object) -> float:
        number = finite(value) or 0.0
        return float(tried.index(value)) if names else math.log10(number) if log else number

    points = [(candidate, result, score) for candidate in own.ranked
              for result in candidate.results if result.state == DONE
              and (score := result.figure(monitor.removeprefix("val_"))) is not None]
    xs, ys = [across(value) for value in tried], [score for *_, score in points]
    margin = (max(xs) - min(xs)) * 0.05
    height = (max(ys) - min(ys) or abs(ys[0]) or 1) * 0.08
    few = xs if len(xs) <= 6 else None
    if log and not few:
        few = [float(power) for power in range(math.ceil(min(xs)), math.floor(max(xs)) + 1)] or None

    def label(place: float) -> str:
        return value_text(tried[round(place)]) if names else \
            f"{10 ** place if log else place:.3g}"

    chart = Chart(f"{monitor} of every trial by its {title}; report.csv has the values",
                  (min(xs) - margin, max(xs) + margin), (min(ys) - height, max(ys) + height),
                  f"{title}{', logarithmic' if log else ''}", monitor, xticks=few, xform=label,
                  yform="{:.3g}".format)
    for candidate, result, score in points:
        chart.dot(across(candidate.values[name]), score,
                  "orange" if candidate is own.chosen else "blue",
                  f"trial {result.trial.name}: {value_text(candidate.values[name])}, {score:.4g}")
    return figure(f"{monitor} by {title}", chart,
                  [("dot blue", "trial"), ("dot orange", "best combination")])
