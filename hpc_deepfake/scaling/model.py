"""A model of the time of a training step, for numbers of ranks that were not run.

    step = computing · (1 + bubble) + max(γ · communication − overlap · computing, 0) + input
    computing = (fixed + rows · per_row) · (1 + crowd · (d − 1))

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
- γ and overlap: how long communication takes over what the network needs for it, waiting for
  slower ranks included, and the share of the computing beside which it is hidden; fitted to the
  waiting at several numbers of ranks. From one number only γ can be known, and overlap is what the
  network's operations say: ``sync`` reduces the large kernel beside the backward pass of all before
  it. Where the network is fast enough to hide all there, what is waited for is not bandwidth: γ is
  1, and the waiting is the same on any number of ranks. From two ranks alone overlap is 0, and γ
  below 1 where some is hidden.
- a mesh computes its blocks one by one, and not in the fused pass of one rank alone: its computing
  is measured on its own.
- ``async``: the servers apply updates one by one, and a gradient arrives while weights leave.
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
from hpc_deepfake.network.shapes import Shapes
from hpc_deepfake.scaling.laws import fit_scale, fit_two
from hpc_deepfake.scaling.records import Row
from hpc_deepfake.strategies import traffic
from hpc_deepfake.strategies.mesh.cut import operations
from hpc_deepfake.strategies.mesh.shards import BLOCKS
from preprocessing.ela import SIZE

_ROUNDS = 30  # the difference that is left halves in each
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
        hidden: γ, the time that communication takes over the time that the network needs.
        overlap: share of the computing beside which communication is hidden.
        waiting: seconds per row waited for input.
        network: latency and bandwidth.
        apply: seconds in which a server applies an update, of async.
        servers: number of servers, of async.
        group: ranks that share the large kernel, of hybrid.
        every: steps between two averages, of local-sgd.
        moments: numbers that the optimizer keeps for each weight, which local-sgd averages too.
        shards: tensor-parallel ranks, of mesh.
        cuts: numbers per picture passed from each stage to the next, of mesh.
        micro: micro-batches per step, of mesh.
        uneven: computing time of the most expensive stage over the mean, of mesh.
        width: bytes of a number that is sent.
        kernel_width: bytes of a number of the large kernel's gradient.
        reads: whether rows come from files.
        crowd: share by which each additional rank of a node slows the computing.
        tail: seconds of a step that are waited for on any number of ranks.
        apart: computing of several ranks together over that of one alone, of mesh.
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
    moments: int = 2
    shards: int = 1
    cuts: tuple[int, ...] = ()
    micro: int = 1
    uneven: float = 1.0
    width: int = 4
    kernel_width: int = 4
    reads: bool = False
    crowd: float = 0.0
    overlap: float = 0.0
    tail: float = 0.0
    apart: float = 1.0
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
        if self.strategy == "local-sgd":
            reduced = traffic.local_sgd(ranks, self.every, self.moments, self.width,
                                        sizes)["allreduce"]
            return ((2 + self.moments) * _messages(ranks) * net.allreduce.alpha / self.every,
                    reduced / net.allreduce.beta)
        reduced = traffic.sync(ranks, self.width, self.kernel_width, sizes)["allreduce"]
        return 2 * _messages(ranks) * net.allreduce.alpha, reduced / net.allreduce.beta

    def terms(self, ranks: int, rows: float) -> dict[str, float]:
        """Seconds of a step by ``TERMS``, with ``rows`` rows of each rank."""
        latency, bandwidth = self.communication(ranks, rows)
        apart = self.apart if ranks > 1 else 1.0
        alone = apart * (self.fixed + self.per_row * rows)
        crowded = self.crowded(ranks)
        moving = self.hidden * (latency + bandwidth)
        exposed = max(moving - self.overlap * crowded * alone, 0.0) / moving if moving else 0.0
        seconds = {"computing rows": apart * self.per_row * rows,
                   "fixed part of a step": apart * self.fixed,
                   "sharing the node": (crowded - 1) * alone,
                   "pipeline bubble": self.bubble(ranks) * crowded * alone,
                   "latency": exposed * self.hidden * latency + self.tail * (ranks > 1),
                   "bandwidth": exposed * self.hidden * bandwidth}
        busy = sum(seconds.values())
        reading = 0.0
        if self.reads and self.network.read:
            reading = max(rows * 3 * self.size**2 * ranks / self.network.read - busy, 0.0)
        seconds["input"] = max(self.waiting * rows, reading)
        seconds["servers"] = 0.0
        if self.strategy == "async":
            workers = max(ranks - self.servers, 1)
            _, moving = self.communication(ranks, rows)
            served = workers * (moving / 2 + self.apply)  # an update of each worker, one by one
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
    fixed, per_row, crowd, apart = _computing_apart(steps) if strategy == "mesh" and separate \
        else (*_computing(steps if separate or not single else single), 1.0)
    model = Model(strategy, fixed, per_row, 1.0,
                  min(step.seconds["input"] / step.batch for step in steps), net or _unknown(),
                  apply=_apply([step.row for step in steps]),
                  reads=steps[0].row.run.input == "real", crowd=crowd, apart=apart, **facts)
    waits = []
    for step in parallel:
        computing = step.seconds["compute"] if separate else \
            apart * (fixed + per_row * step.batch) * (1 + crowd * (step.density - 1))
        exposed = step.seconds["communication"] + step.seconds["imbalance"] if separate \
            else max(sum(step.seconds.values()) - computing, 0.0)
        moving = sum(model.communication(step.ranks, step.batch))
        waits.append((moving, max(exposed - model.bubble(step.ranks) * computing, 0.0),
                      computing))
    if not any(min(moving, exposed) > 0 for moving, exposed, _ in waits):
        return model if net else replace(model, hidden=0.0)
    # two ranks have one partner and exchange with it at the same time; among more, messages wait
    # for each other, so that those say more about many
    sizes = {step.ranks for step in parallel}
    if max(sizes) > 2 and net is not None:
        waits = [wait for wait, step in zip(waits, parallel, strict=True) if step.ranks > 2]
        sizes -= {2}
    # of a size alone, or on a network that is not known, hiding can't be told from speed
    if net is not None and sizes and max(sizes) > 2 and len(sizes) == 1:
        share = _beside(model.size) if strategy == "sync" else 0.0
        if share and all(moving <= share * computing for moving, _, computing in waits):
            return replace(model, overlap=share, tail=statistics.median(
                exposed for _, exposed, _ in waits))
        return replace(model, overlap=share, hidden=fit_scale([
            moving / (exposed + share * computing) for moving, exposed, computing in waits
            if min(moving, exposed) > 0]))
    factor, overlap = _hiding(waits, net is not None and len(sizes) > 1)
    return replace(model, hidden=factor, overlap=overlap)


def _beside(size: int) -> float:
    """Share of a step's computing after the gradient of the large kernel, beside which that is
    reduced; see ``cut.operations``. Of three passes over a block two are backward; of two over the
    first one, and of the large layer the features' gradient is still to be computed."""
    costs = operations(Shapes(size))
    later = {block: 2 / 3 for block in BLOCKS[:BLOCKS.index("dense1")]} | {
        BLOCKS[0]: 1 / 2, "dense1": 1 / 3}
    return sum(share * costs[block] for block, share in later.items()) / sum(costs.values())


def _hiding(waits: Sequence[tuple[float, float, float]], several: bool) -> tuple[float, float]:
    """γ and ``overlap`` of (seconds of moving, of waiting, of computing); the smallest overlap that
    explains them as well as any other, 0 unless ``several`` sizes are known."""
    best, least = (0.0, 0.0), math.inf
    for percent in range(101 if several else 1):
        share = percent / 100
        factor = fit_scale([moving / (exposed + share * computing)
                            for moving, exposed, computing in waits
                            if min(moving, exposed) > 0])
        error = sum(((max(factor * moving - share * computing, 0.0) - exposed)
                     / (computing + exposed)) ** 2 for moving, exposed, computing in waits)
        if error < least * 0.99 - 1e-9:
            best, least = (factor, share), error
    return best


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


def _computing_apart(steps: Sequence[_Step]) -> tuple[float, float, float, float]:
    """``fixed``, ``per_row``, ``crowd`` and ``apart`` of a mesh's steps and those of one rank: the
    first three are fitted with the last one known, and that by them, until all stay."""
    apart = 1.0
    for _ in range(_ROUNDS):
        fixed, per_row, crowd = _computing([step if step.ranks == 1 else replace(
            step, seconds={**step.seconds, "compute": step.seconds["compute"] / apart})
            for step in steps])
        ratios = [step.seconds["compute"] / (1 + crowd * (step.density - 1))
                  / (fixed + per_row * step.batch) for step in steps if step.ranks > 1]
        if not ratios or not any(step.ranks == 1 for step in steps):
            break
        apart = statistics.median(ratios)
    return fixed, per_row, crowd, apart


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
