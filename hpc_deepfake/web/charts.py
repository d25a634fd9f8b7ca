"""Charts that several pages show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpc_deepfake.web.html import Html
from hpc_deepfake.web.svg import Chart, figure, ticks


def staleness(counts: Mapping[int, int], of: str) -> Html:
    """Share of the updates by staleness: how many others came between reading the weights and
    changing them."""
    whole, oldest = sum(counts.values()), max(counts)
    chart = Chart(f"share of updates by staleness, {of}", (-0.6, oldest + 0.6),
                  (0, max(counts.values()) / whole * 1.05), "staleness", "share of updates",
                  xticks=whole_ticks([0, max(oldest, 1)]), yform=lambda value: f"{value:.0%}")
    for age, times in sorted(counts.items()):
        chart.bar(age - 0.4, age + 0.4, 0, times / whole, "blue",
                  f"staleness {age}: {times:,} updates, {times / whole:.1%}")
    return figure(f"Staleness, {of}", chart, caption=f"{whole:,} updates.")


def whole_ticks(epochs: Sequence[float]) -> list[float]:
    """Epochs to name below the axis."""
    low, high = min(epochs), max(epochs)
    found = [one for one in ticks(low, high, 7) if one == round(one)]
    return found if len(found) > 1 else sorted({low, high})
