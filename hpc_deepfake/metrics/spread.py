"""A figure over several repeats of the same training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Spread:
    """A figure over the repeats.

    Attributes:
        median: of the repeats.
        low: of the repeats, the lowest.
        high: of the repeats, the highest.
        count: number of repeats.
    """

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def over(cls, values: Iterable[float | None]) -> Spread | None:
        """Median, lowest and highest value; None unless every repeat has one."""
        numbers: list[float] = []
        for value in values:
            if value is None:
                return None
            numbers.append(value)
        if not numbers:
            return None
        return cls(median(numbers), min(numbers), max(numbers), len(numbers))

    def times(self, factor: float) -> Spread:
        return Spread(self.median * factor, self.low * factor, self.high * factor, self.count)


def spread(value: Spread | None, form: str = ",.1f", missing: str = "–") -> str:
    """Such as ``12.3 (11.9–13.0)``; without a range if there is one repeat."""
    if value is None:
        return missing
    median, low, high = (format(end, form) for end in (value.median, value.low, value.high))
    return median if value.count < 2 else f"{median} ({low}–{high})"


def with_interval(value: Spread | None, interval: tuple[float, float] | None, scale: float,
                  form: str) -> tuple[str, str]:
    """A figure and its interval as two cells, such as ``80.7 (77.3–84.7)`` and ``70.0–89.6``.

    Args:
        value: over the repeats.
        interval: as of ``widest``.
        scale: factor of both.
        form: format of all numbers.
    """
    return (spread(value and value.times(scale), form), "unknown" if interval is None else
            f"{interval[0] * scale:{form}}–{interval[1] * scale:{form}}")


def widest(intervals: Iterable[tuple[float, float] | None]) -> tuple[float, float] | None:
    """From the lowest to the highest end of the repeats' intervals; None unless every repeat has
    one."""
    ends: list[tuple[float, float]] = []
    for interval in intervals:
        if interval is None:
            return None
        ends.append(interval)
    return (min(low for low, _ in ends), max(high for _, high in ends)) if ends else None
