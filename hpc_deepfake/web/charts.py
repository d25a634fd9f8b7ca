"""Charts used by several pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpc_deepfake.core.text import percent, plural
from hpc_deepfake.web.html import Html
from hpc_deepfake.web.svg import Chart, figure, ticks


def staleness(counts: Mapping[int, int], of: str) -> Html:
    """Chart of the share of updates by staleness, the number of other updates between reading the
    weights and changing them.

    Args:
        counts: number of updates by staleness; not empty.
        of: what the updates belong to, for the title.
    """
    total, oldest = sum(counts.values()), max(counts)
    chart = Chart(f"share of updates by staleness, {of}", (-0.6, oldest + 0.6),
                  (0, max(counts.values()) / total * 1.05), "staleness", "share of updates",
                  xticks=whole_ticks([0, max(oldest, 1)]), yform=lambda value: f"{value:.0%}")
    for age, times in sorted(counts.items()):
        chart.bar(age - 0.4, age + 0.4, 0, times / total, "blue",
                  f"staleness {age}: {plural(times, 'update')}, {percent(times / total)}")
    return figure(f"Staleness, {of}", chart, caption=f"{plural(total, 'update')}.")


def whole_ticks(epochs: Sequence[float]) -> list[float]:
    """Whole numbers for the ticks of an axis of epochs; the first and the last epoch if too few."""
    low, high = min(epochs), max(epochs)
    whole = [tick for tick in ticks(low, high, 7) if tick == round(tick)]
    return whole if len(whole) > 1 else sorted({low, high})
