"""What an epoch costs, and which number of ranks to take."""

from __future__ import annotations

from dataclasses import dataclass

from hpc_deepfake.scaling.series import Series, Size


@dataclass(frozen=True)
class Choice:
    """Among the sizes that were run.

    Attributes:
        cheapest: fewest node hours for a row of training; of equal ones the one with more ranks.
        fastest: most images/s among those of at least the wanted efficiency. wanted: that one.
    """

    cheapest: Size
    fastest: Size
    wanted: float


def choose(series: Series, wanted: float) -> Choice:
    """Weak runs differ in their rows, so cost counts for a row."""
    enough = [size for size in series.sizes if size.efficiency >= wanted - 1e-9]
    return Choice(min(series.sizes, key=lambda size: (per_row(size), -size.ranks)),
                  max(enough, key=lambda size: size.rate), wanted)


def per_row(size: Size) -> float:
    """Node hours for a row of training, evaluation included."""
    return size.node_hours / (size.rows[0].rows or 1)
