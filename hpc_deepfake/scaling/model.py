"""A model of a training step's time, for numbers of ranks that were not run.

    step = (fixed + rows · per_row) · (1 + crowd · (d − 1)) · (1 + bubble) + γ · communication
           + input

- ``fixed`` and ``per_row``: computing a step, measured at the batch sizes of the runs; ``crowd``:
  by how much each further one of the d ranks of a node slows that, where runs had several d.
- communication: α–β (Hockney 1994), a call of z bytes costs α a message and z/β. An allreduce of n
  ranks is a ring of 2(n − 1) messages that moves 2(n − 1)/n · z, or a tree of 2·log₂ n messages
  that moves the same (Rabenseifner's; Thakur et al. 2005), whichever is less; an all-to-all n − 1
  messages of z/n. α and β are measured by the micro-benchmark. What the strategies move:
  ``traffic.py``.
- bubble: of a mesh with P stages and M micro-batches, (P + (M − 1)·u)/M − 1 for one whose costliest
  stage computes u times as long as the mean one: what the schedules take if messages take no time
  (``schedule.simulate``); with u = 1 it is (P − 1)/M, GPipe's (Huang et al. 2019). u is measured.
- γ: the share of it that isn't hidden behind the computation, and waiting for slower ranks;
  measured at the sizes that the model is fitted to.
- input: the waiting for rows that was measured and, where the file system's rate is known, what
  reading at that rate, shared by all ranks, takes longer than the rest of the step.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.json_data import dictionary, finite, items
from hpc_deepfake.scaling import fitting
from hpc_deepfake.scaling.records import Row
from hpc_deepfake.strategies import traffic

ROW_BYTES = 128 * 128 * 3
TERMS = ("computing rows", "fixed part of a step", "sharing the node", "pipeline bubble", "latency",
         "bandwidth", "input", "servers")


@dataclass(frozen=True)
class Link:
    """Seconds of a message, and bytes in a second of each rank."""

    alpha: float
    beta: float


@dataclass(frozen=True)
class Network:
    """What the micro-benchmark measured; ``read``: bytes in a second of all ranks together."""

    allreduce: Link
    alltoall: Link
    sendrecv: Link
    read: float | None = None
    source: str = ""


def network(found: dict[str, Any], source: str) -> Network:
    """From the micro-benchmark's JSON.

    Raises:
        InputError: it lacks what is needed.
    """
    ranks = finite(found.get("ranks")) or 0
    rows = [dictionary(one) for one in items(found.get("rows"))]
    links = {}
    for what in ("allreduce", "alltoall", "sendrecv"):
        points = [(finite(row.get("size")), finite(dictionary(row.get("latency_us")).get("mean")))
                  for row in rows if row.get("what") == what]
        points = [(size, mean / 1e6) for size, mean in points if size and mean]
        if len(points) > 1:
            links[what] = link(what, int(ranks), points)
    if "allreduce" not in links:
        raise InputError(f"{source} has no measurements of allreduce on several ranks: run\n"
                         "  mpirun -np 4 hpc-deepfake scaling microbench --json FILE")
    reads = [rate for row in rows if row.get("what") == "files"
             if (rate := finite(row.get("read_mb_per_s")))]
    one = links["allreduce"]
    return Network(one, links.get("alltoall", one), links.get("sendrecv", one),
                   max(reads, default=0) * 1e6 or None, source)


def link(what: str, ranks: int, points: Sequence[tuple[float, float]]) -> Link:
    """α and β of measured (bytes, seconds), by least squares of the relative errors."""
    messages, share = {"allreduce": (_messages(ranks), 2 * (ranks - 1) / ranks),
                       "alltoall": (ranks - 1, ranks - 1), "sendrecv": (1, 1)}[what]
    alpha, inverse, _, _ = fitting.two([messages] * len(points),
                                       [share * size for size, _ in points],
                                       [seconds for _, seconds in points])
    return Link(alpha, 1 / inverse if inverse else math.inf)


def _messages(ranks: int) -> float:
    """Of an allreduce, one after the other: of a ring or a tree, the fewer."""
    return min(2 * (ranks - 1), 2 * math.ceil(math.log2(ranks))) if ranks > 1 else 0


@dataclass(frozen=True)
class Model:
    """Of one strategy.

    Attributes:
        strategy: of ``strategies.NAMES``. fixed, per_row: seconds of computing. hidden: γ.
        waiting: seconds a row that input was waited for. apply: seconds in which a server applies
        an update, of async. group: ranks that share the large kernel, of hybrid. every: steps
        between averages, of local-sgd. shards, cuts, micro, uneven: of mesh; ``cuts`` are numbers
        of a picture that go from each stage to the next, ``uneven`` is the costliest stage's
        computing over the mean one's. width, kernel_width: bytes of a number, and of one of the
        large kernel's gradient. reads: whether rows come from files. crowd: share by which each
        further rank of a node slows the computing. layout: (ranks, ranks of a node) as known;
        others fill nodes as the fullest of them.
    """

    strategy: str
    fixed: float
    per_row: float
    hidden: float
    waiting: float
    network: Network
    apply: float = 0.0
    servers: int = 1
    group: int = 1
    every: int = 1
    shards: int = 1
    cuts: tuple[int, ...] = ()
    micro: int = 1
    uneven: float = 1.0
    width: int = 4
    kernel_width: int = 4
    reads: bool = False
    crowd: float = 0.0
    layout: tuple[tuple[int, float], ...] = ()

    def crowded(self, ranks: int) -> float:
        """Factor on the computing of so many ranks."""
        known = dict(self.layout)
        fullest = max(known.values(), default=1)
        return 1 + self.crowd * (known.get(ranks, min(ranks, fullest)) - 1)

    @property
    def together(self) -> int:
        """Ranks that can't do without one another: of one data share of a mesh."""
        return self.shards * (len(self.cuts) + 1)

    def bubble(self, ranks: int) -> float:
        """What a rank of a pipeline idles, over what it computes, if messages take no time."""
        if ranks == 1:
            return 0.0
        return (len(self.cuts) + 1 + (self.micro - 1) * self.uneven) / self.micro - 1

    def communication(self, ranks: int, rows: float) -> tuple[float, float]:
        """Seconds of latency and of bandwidth of a step, nothing hidden."""
        net = self.network
        if ranks == 1:
            return 0.0, 0.0
        if self.strategy == "async":
            size = traffic.KERNEL * self.kernel_width + traffic.REST * self.width
            return 4 * net.sendrecv.alpha, 2 * size / net.sendrecv.beta / self.servers
        if self.strategy == "hybrid":
            group = max(min(self.group, ranks), 1)
            moved = traffic.hybrid(ranks, group, rows, self.width, self.width)
            calls = _messages(ranks // group) + _messages(ranks)
            return (calls * net.allreduce.alpha + 4 * (group - 1) * net.alltoall.alpha,
                    moved["allreduce"] / net.allreduce.beta
                    + (moved["alltoall"] + moved["allgather"]) / net.alltoall.beta)
        if self.strategy == "mesh":
            stages = len(self.cuts) + 1
            moved = traffic.mesh(ranks, self.shards, stages, rows, self.cuts, self.width)
            # for each micro-batch: five sums and gatherings of the shards; a message each way
            calls = 5 * self.micro * _messages(self.shards) + 2 * _messages(ranks // self.together)
            passed = 2 * (self.micro + stages - 1) if stages > 1 else 0
            return (calls * net.allreduce.alpha + passed * net.sendrecv.alpha,
                    (moved["allreduce"] + moved["tensor"]) / net.allreduce.beta
                    + moved["point_to_point"] / net.sendrecv.beta)
        moved = traffic.sync(ranks, self.width, self.kernel_width)["allreduce"]
        return (2 * _messages(ranks) * net.allreduce.alpha / self.every,
                moved / net.allreduce.beta / self.every)

    def terms(self, ranks: int, rows: float) -> dict[str, float]:
        """Seconds of a step with ``rows`` rows of each rank, by ``TERMS``."""
        latency, bandwidth = self.communication(ranks, rows)
        alone = self.fixed + self.per_row * rows
        crowded = self.crowded(ranks)
        found = {"computing rows": self.per_row * rows, "fixed part of a step": self.fixed,
                 "sharing the node": (crowded - 1) * alone,
                 "pipeline bubble": self.bubble(ranks) * crowded * alone,
                 "latency": self.hidden * latency, "bandwidth": self.hidden * bandwidth}
        busy = sum(found.values())
        reading = 0.0
        if self.reads and self.network.read:
            reading = max(rows * ROW_BYTES * ranks / self.network.read - busy, 0.0)
        found["input"] = max(self.waiting * rows, reading)
        found["servers"] = 0.0
        if self.strategy == "async":
            workers = max(ranks - self.servers, 1)
            _, moving = self.communication(ranks, rows)
            served = workers * (moving + self.apply)  # an update of each worker, one by one
            found["servers"] = max(served - busy - found["input"], 0.0)
        return found

    def rate(self, ranks: int, rows: float) -> float:
        """Images a second of all ranks."""
        workers = max(ranks - self.servers, 1) if self.strategy == "async" else ranks
        return workers * rows / sum(self.terms(ranks, rows).values())

    def computing(self, factor: float) -> Model:
        """The same with the computation taking ``factor`` times as long."""
        return replace(self, fixed=self.fixed * factor, per_row=self.per_row * factor)


def fit(strategy: str, rows: Sequence[Row], net: Network | None, **facts: Any) -> Model:
    """A model of these finished runs of one strategy and input, strong and weak ones: a step is a
    step.

    Without ``net`` the bandwidth is that which explains the runs, and the latency is unknown: 0.

    Args:
        facts: of the model: servers, group, every, widths.

    Raises:
        InputError: the runs lack what is needed.
    """
    known = [row for row in rows if row.steps and row.batch and row.seconds.get("compute")]
    if not known:
        raise InputError("none of these runs says how long a step computes: they have no figures "
                         "to fit a model to")
    every = [(row, _per_step(row)) for row in known]
    shared = [step for row, step in every if row.run.ranks > 1 and step["compute"]]
    if strategy == "mesh" and shared:
        facts["uneven"] = statistics.median(1 + step["imbalance"] / step["compute"]
                                            for step in shared)
    told = any(step["communication"] + step["imbalance"] > 0
               for row, step in every if row.run.ranks > 1)
    alone = [pair for pair in every if pair[0].run.ranks == 1]
    # a GPU doesn't tell communication apart: then one rank shows what computing takes
    basis = every if told or not alone else alone
    fixed, per_row, crowd = _computing(basis)
    waiting = [step["input"] / row.batch for row, step in every]
    model = Model(strategy, fixed, per_row, 1.0, min(waiting), net or _unknown(),
                  apply=_apply(known), reads=known[0].run.input == "real", crowd=crowd, **facts)
    ratios, exposed = [], []
    for row, step in every:
        if row.run.ranks > 1:
            computing = step["compute"] if told else (fixed + per_row * row.batch) \
                * (1 + crowd * (density(row) - 1))
            lost = step["communication"] + step["imbalance"] if told \
                else max(sum(step.values()) - computing, 0.0)
            lost -= model.bubble(row.run.ranks) * computing
            moved = sum(model.communication(row.run.ranks, row.batch))
            if lost > 0 and moved > 0:
                ratios.append(moved / lost)
                exposed.append(lost)
    if not ratios:
        return model if net else replace(model, hidden=0.0)
    return replace(model, hidden=fitting.scale(ratios))


def density(row: Row) -> float:
    """Ranks of a node, as it ran."""
    return row.run.ranks / (row.hosts or row.run.nodes)


def _computing(steps: Sequence[tuple[Row, dict[str, float]]]) -> tuple[float, float, float]:
    """``fixed``, ``per_row`` and ``crowd`` of these runs and their seconds of a step; the least
    crowding that explains them as well as any."""
    best = None
    several = len({density(row) for row, _ in steps}) > 1
    for percent in range(200 if several else 1):
        factors = [1 + percent / 100 * (density(row) - 1) for row, _ in steps]
        fixed, per_row, off, _ = fitting.two(
            factors, [factor * row.batch for factor, (row, _) in zip(factors, steps, strict=True)],
            [step["compute"] for _, step in steps])
        error = float(off @ off)
        if best is None or error < best[0] * 0.999 - 1e-12:
            best = error, fixed, per_row, percent / 100
    return best[1:]


def _per_step(row: Row) -> dict[str, float]:
    """Seconds of a step by stage; those of an async worker, which does a part of the steps."""
    steps = row.steps
    if row.run.strategy == "async":
        steps /= max(row.run.ranks - row.config.get("servers", 1), 1)
    return {stage: row.seconds.get(stage, 0.0) / steps
            for stage in ("input", "compute", "communication", "imbalance")}


def _apply(rows: Sequence[Row]) -> float:
    """Seconds of a server for an update; the least that was seen."""
    return min((row.applying / row.steps for row in rows if row.applying and row.steps),
               default=0.0)


def _unknown() -> Network:
    """A bandwidth of 1 byte in a second: γ then says what it was."""
    return Network(*[Link(0.0, 1.0)] * 3, None, "the runs themselves: no latency known")
