"""Runs that belong together (one kind of scaling, one input, one strategy, all sizes): speed-up,
cost, and which number of ranks to use."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from hpc_deepfake.scaling import laws
from hpc_deepfake.scaling.records import Row
from hpc_deepfake.scaling.study import DONE

_ORDER = ("strong", "weak", "preprocess")


@dataclass(frozen=True)
class Size:
    """All repeats on one number of ranks.

    Attributes:
        ranks: number of ranks.
        nodes: number of nodes.
        rows: the repeats.
        rate: images/s by the wall clock, median of the repeats.
        low: the lowest images/s.
        high: the highest images/s.
        speedup: over the base, the smallest size.
        efficiency: parallel efficiency over the base.
        serial: serial fraction of this size alone, after Karp & Flatt (strong) or Gustafson
            (weak); None at the base.
        epoch: seconds of an epoch, median.
        node_hours: node hours of an epoch, median.
    """

    ranks: int
    nodes: int
    rows: tuple[Row, ...]
    rate: float
    low: float
    high: float
    speedup: float
    efficiency: float
    serial: float | None
    epoch: float
    node_hours: float

    @property
    def training(self) -> float:
        """Images/s without evaluation and saving, median of the repeats."""
        return statistics.median(row.training for row in self.rows if row.training is not None)

    @property
    def node_hours_per_row(self) -> float:
        """Node hours for one training row."""
        return self.node_hours / (self.rows[0].rows or 1)


@dataclass(frozen=True)
class Series:
    """Runs of one kind, input and strategy; strong and weak runs are never mixed.

    Attributes:
        kind: ``strong``, ``weak`` or ``preprocess``.
        input: ``real``, ``synthetic`` or empty.
        strategy: as of ``study.Run``.
        sizes: those with a finished run, by ranks.
        fit: Amdahl's law for strong runs and preprocessing, Gustafson's for weak ones; None with
            fewer than two sizes.
    """

    kind: str
    input: str
    strategy: str
    sizes: tuple[Size, ...]
    fit: laws.Fit | None

    @property
    def name(self) -> str:
        return ", ".join(filter(None, (self.kind, self.input, self.strategy)))

    @property
    def base(self) -> Size:
        """The smallest size."""
        return self.sizes[0]


@dataclass(frozen=True)
class Choice:
    """The recommended sizes among those that were run.

    Attributes:
        cheapest: fewest node hours per training row; of equal ones the one with more ranks.
        fastest: most images/s among those with at least the minimum efficiency.
    """

    cheapest: Size
    fastest: Size


def choose(series: Series, minimum: float) -> Choice:
    """The cheapest size, and the fastest one with at least the efficiency ``minimum``.

    Weak runs differ in their rows, so costs are compared per row.
    """
    efficient = [size for size in series.sizes if size.efficiency >= minimum - 1e-9]
    return Choice(min(series.sizes, key=lambda size: (size.node_hours_per_row, -size.ranks)),
                  max(efficient, key=lambda size: size.rate))


def all_series(rows: Sequence[Row]) -> list[Series]:
    """All series of these runs; the sequential run on one rank belongs to every strategy."""
    finished = [row for row in rows if row.state == DONE and row.rate]
    result = []
    groups = dict.fromkeys((row.run.kind, row.run.input) for row in finished)
    for kind, source in sorted(groups, key=lambda group: (_ORDER.index(group[0]), group[1])):
        group = [row for row in finished if (row.run.kind, row.run.input) == (kind, source)]
        names = list(dict.fromkeys(row.run.strategy for row in group))
        strategies = [name for name in names if name != "sequential"] or names
        for strategy in strategies:
            members = [row for row in group if row.run.strategy in (strategy, "sequential")]
            if strategy == "async":  # a server and a worker, not comparable with one rank
                members = [row for row in members if row.run.strategy == strategy]
            result.append(_series(kind, source, strategy, members))
    return result


def _series(kind: str, source: str, strategy: str, rows: Sequence[Row]) -> Series:
    """The series of these finished runs."""
    groups: dict[int, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.run.ranks, []).append(row)
    base = min(groups)
    base_rate = statistics.median(_rates(groups[base]))
    serial_fraction = laws.gustafson_fraction if kind == "weak" else laws.karp_flatt
    sizes = []
    for ranks, repeats in sorted(groups.items()):
        rates = _rates(repeats)
        rate = statistics.median(rates)
        speedup = rate / base_rate
        epoch = statistics.median(row.epoch for row in repeats if row.epoch is not None)
        nodes = repeats[0].run.nodes
        sizes.append(Size(ranks, nodes, tuple(repeats), rate, min(rates), max(rates), speedup,
                          laws.efficiency(speedup, ranks, base),
                          serial_fraction(speedup, ranks, base), epoch, epoch * nodes / 3600))
    fit = (laws.gustafson if kind == "weak" else laws.amdahl)(
        [row.run.ranks for row in rows], _rates(rows))
    return Series(kind, source, strategy, tuple(sizes), fit)


def _rates(rows: Sequence[Row]) -> list[float]:
    return [row.rate for row in rows if row.rate is not None]
