"""A model of the time of a training step, for numbers of ranks that were not run.

    step = (fixed + rows · per_row) · (1 + crowd · (d − 1)) · (1 + bubble) + γ · communication
           + input

- ``fixed`` and ``per_row``: computing a step, measured at the batch sizes of the runs; ``crowd``:
  how much each additional one of the d ranks of a node slows that down, where runs had several d.
- communication: α–β (Hockney 1994), a call with z bytes costs α per message and z/β. An allreduce
  of n ranks is a ring of 2(n − 1) messages that moves 2(n − 1)/n · z, or a tree of 2·log₂ n
  messages that moves the same (Rabenseifner's; Thakur et al. 2005), whichever has fewer messages;
  an all-to-all n − 1 messages of z/n. α and β are measured by the micro-benchmark. What the
  strategies move: ``strategies/traffic.py``.
- bubble: of a mesh with P stages and M micro-batches, (P + (M − 1)·u)/M − 1, where the most
  expensive stage computes u times as long as the mean one: the time of the schedules without
  message times (``schedule.simulate``); with u = 1 it is (P − 1)/M, GPipe's (Huang et al. 2019).
  u is measured.
- γ: the share of communication that is not hidden behind the computation, including waiting for
  slower ranks; measured at the sizes that the model is fitted to.
- input: the measured waiting for rows and, if the file system's rate is known, the time that
  reading at that rate, shared by all ranks, takes beyond the rest of the step.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.json_data import dictionary, finite, items
from hpc_deepfake.scaling.laws import fit_scale, fit_two
from hpc_deepfake.scaling.records import Row
from hpc_deepfake.strategies import traffic
from preprocessing.ela import SIZE

_MOST = 1e12  # ranks, bytes or microseconds of a micro-benchmark: more can't have been measured
TERMS = ("computing rows", "fixed part of a step", "sharing the node", "pipeline bubble", "latency",
         "bandwidth", "input", "servers")


@dataclass(frozen=True)
class Link:
    """A kind of exchange between ranks.

    Attributes:
        alpha: seconds per message.
        beta: bytes per second of each rank.
    """

    alpha: float
    beta: float


@dataclass(frozen=True)
class Network:
    """What the micro-benchmark measured.

    Attributes:
        allreduce: of sums over all ranks.
        alltoall: of all-to-all exchanges.
        sendrecv: of messages between two ranks.
        read: bytes per second of all ranks together, reading files; None if not measured.
        source: where the figures come from, for the report.
    """

    allreduce: Link
    alltoall: Link
    sendrecv: Link
    read: float | None = None
    source: str = ""


def network(bench: dict[str, Any], source: str) -> Network:
    """The network of a micro-benchmark's JSON.

    Args:
        bench: content of the JSON file.
        source: its name, for messages.

    Raises:
        InputError: it has no measurements of allreduce.
    """
    ranks = finite(bench.get("ranks")) or 0
    rows = [dictionary(row) for row in items(bench.get("rows"))]
    links = {}
    for what in ("allreduce", "alltoall", "sendrecv"):
        points = []
        for row in rows:
            size, mean = finite(row.get("size")), finite(dictionary(row.get("latency_us")).get(
                "mean"))
            if row.get("what") == what and size and mean \
                    and 0 < min(size, mean) <= max(size, mean) <= _MOST:
                points.append((size, mean / 1e6))
        if len(points) > 1 and 2 <= ranks <= _MOST:
            links[what] = link(what, int(ranks), points)
    if "allreduce" not in links:
        raise InputError(f"{source} has no measurements of allreduce on several ranks: run\n"
                         "  mpirun -np 4 hpc-deepfake scaling microbench --json FILE")
    reads = [rate for row in rows if row.get("what") == "files"
             if (rate := finite(row.get("read_mb_per_s"))) and rate > 0]
    allreduce = links["allreduce"]
    return Network(allreduce, links.get("alltoall", allreduce), links.get("sendrecv", allreduce),
                   max(reads, default=0) * 1e6 or None, source)


def link(what: str, ranks: int, points: Sequence[tuple[float, float]]) -> Link:
    """α and β by least squares of the relative errors.

    Args:
        what: ``allreduce``, ``alltoall`` or ``sendrecv``.
        ranks: number of ranks.
        points: measured (bytes, seconds) of a call.
    """
    messages, share = {"allreduce": (_messages(ranks), 2 * (ranks - 1) / ranks),
                       "alltoall": (ranks - 1, ranks - 1), "sendrecv": (1, 1)}[what]
    alpha, inverse, _, _ = fit_two([messages] * len(points),
                                   [share * size for size, _ in points],
                                   [seconds for _, seconds in points])
    return Link(alpha, 1 / inverse if inverse else math.inf)


def _messages(ranks: int) -> float:
    """Consecutive messages of an allreduce: of a ring or a tree, whichever has fewer."""
    return min(2 * (ranks - 1), 2 * math.ceil(math.log2(ranks))) if ranks > 1 else 0


@dataclass(frozen=True)
class Model:
    """The model of one strategy.

    Attributes:
        strategy: a name of ``strategies.NAMES``.
        fixed: seconds of computing a step, whatever its rows.
        per_row: seconds of computing a row.
        hidden: γ, the time waited for communication over the time that the network needs.
        waiting: seconds per row waited for input.
        network: latency and bandwidth.
        apply: seconds in which a server applies an update, of async.
        servers: number of servers, of async.
        group: ranks that share the large kernel, of hybrid.
        every: steps between two averages, of local-sgd.
        shards: tensor-parallel ranks, of mesh.
        cuts: numbers per picture passed from each stage to the next, of mesh.
        micro: micro-batches per step, of mesh.
        uneven: computing time of the most expensive stage over the mean, of mesh.
        width: bytes of a number that is sent.
        kernel_width: bytes of a number of the large kernel's gradient.
        reads: whether rows come from files.
        crowd: share by which each additional rank of a node slows the computing.
        layout: measured (ranks, ranks per node); other numbers of ranks fill nodes like the
            fullest of them.
        size: width and height of the rows.
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
    size: int = SIZE

    def crowded(self, ranks: int) -> float:
        """Factor on the computing time on this number of ranks."""
        per_node = dict(self.layout)
        fullest = max(per_node.values(), default=1)
        return 1 + self.crowd * (per_node.get(ranks, min(ranks, fullest)) - 1)

    @property
    def together(self) -> int:
        """Ranks of one data share of a mesh, which train together."""
        return self.shards * (len(self.cuts) + 1)

    def bubble(self, ranks: int) -> float:
        """Idle time of a pipeline's rank over its computing time, without message times."""
        if ranks == 1:
            return 0.0
        return (len(self.cuts) + 1 + (self.micro - 1) * self.uneven) / self.micro - 1

    def communication(self, ranks: int, rows: float) -> tuple[float, float]:
        """Seconds of latency and of bandwidth in a step, with nothing hidden.

        Args:
            ranks: number of ranks.
            rows: rows of each rank.
        """
        net, sizes = self.network, traffic.table(self.size)
        if ranks == 1:
            return 0.0, 0.0
        if self.strategy == "async":
            size = sizes.kernel * self.kernel_width + sizes.rest * self.width
            return 4 * net.sendrecv.alpha, 2 * size / net.sendrecv.beta / self.servers
        if self.strategy == "hybrid":
            group = max(min(self.group, ranks), 1)
            moved = traffic.hybrid(ranks, group, rows, self.width, self.width, sizes=sizes)
            calls = _messages(ranks // group) + _messages(ranks)
            return (calls * net.allreduce.alpha + 4 * (group - 1) * net.alltoall.alpha,
                    moved["allreduce"] / net.allreduce.beta
                    + (moved["alltoall"] + moved["allgather"]) / net.alltoall.beta)
        if self.strategy == "mesh":
            stages = len(self.cuts) + 1
            moved = traffic.mesh(ranks, self.shards, stages, rows, self.cuts, self.width, sizes)
            # for each micro-batch: five reductions and gathers of the shards; a message each way
            calls = 5 * self.micro * _messages(self.shards) + 2 * _messages(ranks // self.together)
            passed = 2 * (self.micro + stages - 1) if stages > 1 else 0
            return (calls * net.allreduce.alpha + passed * net.sendrecv.alpha,
                    (moved["allreduce"] + moved["tensor"]) / net.allreduce.beta
                    + moved["point_to_point"] / net.sendrecv.beta)
        reduced = traffic.sync(ranks, self.width, self.kernel_width, sizes)["allreduce"]
        return (2 * _messages(ranks) * net.allreduce.alpha / self.every,
                reduced / net.allreduce.beta / self.every)

    def terms(self, ranks: int, rows: float) -> dict[str, float]:
        """Seconds of a step by ``TERMS``, with ``rows`` rows of each rank."""
        latency, bandwidth = self.communication(ranks, rows)
        alone = self.fixed + self.per_row * rows
        crowded = self.crowded(ranks)
        seconds = {"computing rows": self.per_row * rows, "fixed part of a step": self.fixed,
                   "sharing the node": (crowded - 1) * alone,
                   "pipeline bubble": self.bubble(ranks) * crowded * alone,
                   "latency": self.hidden * latency, "bandwidth": self.hidden * bandwidth}
        busy = sum(seconds.values())
        reading = 0.0
        if self.reads and self.network.read:
            reading = max(rows * 3 * self.size**2 * ranks / self.network.read - busy, 0.0)
        seconds["input"] = max(self.waiting * rows, reading)
        seconds["servers"] = 0.0
        if self.strategy == "async":
            workers = max(ranks - self.servers, 1)
            _, moving = self.communication(ranks, rows)
            served = workers * (moving + self.apply)  # an update of each worker, one by one
            seconds["servers"] = max(served - busy - seconds["input"], 0.0)
        return seconds

    def rate(self, ranks: int, rows: float) -> float:
        """Images/s of all ranks, with ``rows`` rows of each rank and step."""
        workers = max(ranks - self.servers, 1) if self.strategy == "async" else ranks
        return workers * rows / sum(self.terms(ranks, rows).values())

    def computing(self, factor: float) -> Model:
        """The same model with ``factor`` times the computing time."""
        return replace(self, fixed=self.fixed * factor, per_row=self.per_row * factor)


@dataclass(frozen=True)
class _Step:
    """A measured step, the mean over an epoch.

    Attributes:
        row: the run.
        batch: rows of a rank.
        density: ranks per node.
        seconds: by stage (``records.STAGES``).
    """

    row: Row
    batch: float
    density: float
    seconds: dict[str, float]

    @property
    def ranks(self) -> int:
        return self.row.run.ranks


def fit(strategy: str, rows: Sequence[Row], net: Network | None, **facts: Any) -> Model:
    """A model fitted to the finished runs of one strategy and input, strong and weak ones together:
    a step is a step.

    Args:
        strategy: a name of ``strategies.NAMES``.
        rows: the runs.
        net: latency and bandwidth; None: the bandwidth is the one that explains the runs, and the
            latency is unknown, 0.
        facts: known attributes of the model: servers, group, every, widths and the like.

    Raises:
        InputError: no run recorded the computing time of a step.
    """
    steps = [_Step(row, row.batch, density(row), _per_step(row, row.steps)) for row in rows
             if row.steps and row.batch and row.seconds.get("compute")]
    if not steps:
        raise InputError("none of these runs recorded the computing time of its steps, so no "
                         "model can be fitted to them: run the study again")
    parallel = [step for step in steps if step.ranks > 1]
    measured = [step.seconds for step in parallel if step.seconds["compute"]]
    if strategy == "mesh" and measured:
        facts["uneven"] = statistics.median(1 + seconds["imbalance"] / seconds["compute"]
                                            for seconds in measured)
    separate = any(step.seconds["communication"] + step.seconds["imbalance"] > 0
                   for step in parallel)
    single = [step for step in steps if step.ranks == 1]
    # on a GPU, communication is part of compute: then one rank shows the computing time
    fixed, per_row, crowd = _computing(steps if separate or not single else single)
    model = Model(strategy, fixed, per_row, 1.0,
                  min(step.seconds["input"] / step.batch for step in steps), net or _unknown(),
                  apply=_apply([step.row for step in steps]),
                  reads=steps[0].row.run.input == "real", crowd=crowd, **facts)
    ratios = []
    for step in parallel:
        computing = step.seconds["compute"] if separate else \
            (fixed + per_row * step.batch) * (1 + crowd * (step.density - 1))
        exposed = step.seconds["communication"] + step.seconds["imbalance"] if separate \
            else max(sum(step.seconds.values()) - computing, 0.0)
        exposed -= model.bubble(step.ranks) * computing
        moving = sum(model.communication(step.ranks, step.batch))
        if exposed > 0 and moving > 0:
            ratios.append(moving / exposed)
    if not ratios:
        return model if net else replace(model, hidden=0.0)
    return replace(model, hidden=fit_scale(ratios))


def density(row: Row) -> float:
    """Ranks per node, as the run recorded them."""
    return row.run.ranks / (row.hosts or row.run.nodes)


def _computing(steps: Sequence[_Step]) -> tuple[float, float, float]:
    """``fixed``, ``per_row`` and ``crowd`` of these steps; the smallest crowding that explains them
    as well as any other."""
    several = len({step.density for step in steps}) > 1
    best, least = (0.0, 0.0, 0.0), math.inf
    for percent in range(200 if several else 1):
        factors = [1 + percent / 100 * (step.density - 1) for step in steps]
        fixed, per_row, errors, _ = fit_two(
            factors, [factor * step.batch for factor, step in zip(factors, steps, strict=True)],
            [step.seconds["compute"] for step in steps])
        error = float(errors @ errors)
        if error < least * 0.999 - 1e-12:
            best, least = (fixed, per_row, percent / 100), error
    return best


def _per_step(row: Row, steps: float) -> dict[str, float]:
    """Seconds of a step by stage; of an async worker, which takes a part of the ``steps``."""
    if row.run.strategy == "async":
        steps /= max(row.run.ranks - row.config.get("servers", 1), 1)
    return {stage: row.seconds.get(stage, 0.0) / steps
            for stage in ("input", "compute", "communication", "imbalance")}


def _apply(rows: Sequence[Row]) -> float:
    """Seconds in which a server applies an update; the lowest measured."""
    return min((row.applying / row.steps for row in rows if row.applying and row.steps),
               default=0.0)


def _unknown() -> Network:
    """A bandwidth of 1 byte per second: γ then is its inverse."""
    unit = Link(0.0, 1.0)
    return Network(unit, unit, unit, None, "the runs themselves, without latency")
