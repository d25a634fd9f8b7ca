"""The runs that belong together: one way of scaling, one input, one strategy, all sizes."""

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
        rate: median images/s; low, high: of the repeats. serial: of this size by itself, after Karp
        & Flatt (strong) or Gustafson (weak); None at the base. epoch, node_hours: of an epoch,
        medians.
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


@dataclass(frozen=True)
class Series:
    """Strong and weak runs are never in the same one.

    Attributes:
        sizes: by ranks, those with a finished run. fit: Amdahl's law of strong runs and of
        preprocessing, Gustafson's of weak ones; None with fewer than two sizes.
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
        return self.sizes[0]


def series(rows: Sequence[Row]) -> list[Series]:
    """All series of some rows; the sequential run on one rank belongs to each strategy."""
    done = [row for row in rows if row.state == DONE and row.rate]
    found = []
    groups = dict.fromkeys((row.run.kind, row.run.input) for row in done)
    for kind, source in sorted(groups, key=lambda group: (_ORDER.index(group[0]), group[1])):
        some = [row for row in done if (row.run.kind, row.run.input) == (kind, source)]
        names = list(dict.fromkeys(row.run.strategy for row in some))
        own = [name for name in names if name != "sequential"] or names
        for name in own:
            belongs = [row for row in some if row.run.strategy in (name, "sequential")]
            if name == "async":  # a server and a worker at least: another thing than one rank
                belongs = [row for row in belongs if row.run.strategy == name]
            found.append(one(kind, source, name, belongs))
    return found


def one(kind: str, source: str, strategy: str, rows: Sequence[Row]) -> Series:
    """The series of these finished rows."""
    groups: dict[int, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.run.ranks, []).append(row)
    base = min(groups)
    base_rate = statistics.median(row.rate for row in groups[base])
    single = laws.gustafson_fraction if kind == "weak" else laws.karp_flatt
    sizes = []
    for ranks, some in sorted(groups.items()):
        rates = [row.rate for row in some]
        speedup = statistics.median(rates) / base_rate
        epoch = statistics.median(row.epoch for row in some)
        nodes = some[0].run.nodes
        sizes.append(Size(ranks, nodes, tuple(some), statistics.median(rates), min(rates),
                          max(rates), speedup, laws.efficiency(speedup, ranks, base),
                          single(speedup, ranks, base), epoch, epoch * nodes / 3600))
    fit = (laws.gustafson if kind == "weak" else laws.amdahl)(
        [row.run.ranks for row in rows], [row.rate for row in rows])
    return Series(kind, source, strategy, tuple(sizes), fit)
