"""What is emulated: strategies, numbers of ranks and links, and how much slower than real."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network.shapes import UNITS, Shapes
from hpc_deepfake.strategies import traffic
from hpc_deepfake.strategies.layout import Layout
from hpc_deepfake.strategies.mesh import check as check_mesh
from hpc_deepfake.strategies.mesh.cut import cut, operations
from hpc_deepfake.strategies.mesh.shape import Shape, grow
from hpc_deepfake.strategies.mesh.shards import BLOCKS, output_shape, parameters
from hpc_deepfake.strategies.traffic import Sizes

DATA_PARALLEL = ("sync", "sync:fp16", "hybrid", "local-sgd", "async")
STRATEGIES = (*DATA_PARALLEL, "mesh:tensor=2", "mesh:pipeline=2", "mesh:tensor=2,pipeline=2")
CYCLE = 0.002  # seconds between two wake-ups of Horovod's thread, as ``collectives.start`` sets it
_SPEEDS = {"M": 1e6, "G": 1e9}
_LOWEST = 0.1  # slow motion: much faster than real, the latency of messages would count too much
_SHARE = 0.3  # of what the machine's processors can move, that a link's rate may ask for
_FEWEST, _MOST = 2, 20  # measured steps


@dataclass(frozen=True)
class Compute:
    """Seconds of computing in a step of one rank, in this order.

    Attributes:
        forward: to the input of the large dense layer.
        product: one product with its kernel; a step has three: of the features, the kernel's
            gradient, and the features' gradient.
        head: the layers behind it, and their gradients.
        backward: from the features' gradient to the others.
        update: of the weights.
        apart: factor on all but the update in a mesh, whose blocks are computed one by one and not
            in the fused pass of the others.
    """

    forward: float
    product: float
    head: float
    backward: float
    update: float
    apart: float = 1.0

    @property
    def total(self) -> float:
        """Seconds of a step."""
        return self.forward + 3 * self.product + self.head + self.backward + self.update

    @property
    def beside(self) -> float:
        """Seconds of computing after the kernel's gradient, beside which it is reduced."""
        return self.product + self.backward

    def scaled(self, total: float) -> Compute:
        """The same shares of another step."""
        factor = total / self.total
        return Compute(self.forward * factor, self.product * factor, self.head * factor,
                       self.backward * factor, self.update * factor, self.apart)


@dataclass(frozen=True)
class Task:
    """One row of the table, as the workers get it.

    Attributes:
        strategy: of ``DATA_PARALLEL``, or a mesh by its axes other than data, which grows with the
            ranks.
        ranks: number of ranks.
        link: bits per second of each link in each direction.
        slow: slow motion: by this factor computing takes longer, and links are slower.
        steps: measured steps; of async, updates.
        batch: rows of a rank and step.
        compute: seconds of computing.
        sizes: of the network, as ``traffic.Sizes``.
        every: steps between two averages, of local-sgd.
        moments: numbers that the optimizer keeps for each weight, which local-sgd averages too.
        micro: micro-batches of a step, of meshes.
    """

    strategy: str
    ranks: int
    link: float
    slow: float
    steps: int
    batch: int
    compute: Compute
    sizes: Sizes
    every: int = 8
    moments: int = 2
    micro: int = 1

    @property
    def name(self) -> str:
        return f"{self.strategy}, {self.ranks} ranks, {speed(self.link)}"

    @property
    def workers(self) -> int:
        """Ranks that compute."""
        return self.ranks - (self.strategy == "async")

    @property
    def mesh(self) -> Shape | None:
        """Shape of a mesh; None for other strategies."""
        name, _, axes = self.strategy.partition(":")
        return grow(axes, self.ranks) if name == "mesh" else None

    @property
    def computing(self) -> tuple[float, ...]:
        """Seconds in which the ranks of each stage compute in a step; without a pipeline there is
        one stage."""
        shape = self.mesh
        if shape is None:
            return (self.compute.total,)
        costs = blocks(self.compute)
        return tuple(shape.pipeline * sum(sum(costs[block]) for block in stage)
                     + updating(self.compute, stage, shape.tensor)
                     for stage in cut(shape.pipeline))

    def as_json(self) -> dict[str, Any]:
        """For ``of_json``."""
        return {**asdict(self), "sizes": self.sizes._asdict()}

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> Task:
        """The inverse of ``as_json``."""
        return cls(**{**values, "compute": Compute(**values["compute"]),
                      "sizes": Sizes(**values["sizes"])})


def blocks(compute: Compute) -> dict[str, tuple[float, float]]:
    """Seconds of the forward and the backward pass of each block of ``table`` in a mesh, for the
    rows of ``compute``.

    Passes of the convolutions and normalisations are divided among them as ``cut.operations``
    estimates; of three passes one is forward, of two of the first convolution as well."""
    estimates = operations()
    before = BLOCKS[:BLOCKS.index("dense1")]
    forward = {block: estimates[block] / (2 if block == BLOCKS[0] else 3) for block in before}
    backward = {block: estimates[block] - forward[block] for block in before}
    of_all, back = sum(forward.values()), sum(backward.values())
    costs = {block: (compute.forward * forward[block] / of_all,
                     compute.backward * backward[block] / back) for block in before}
    costs["dense1"] = compute.product, 2 * compute.product
    costs["dense2"] = compute.head / 3, 2 * compute.head / 3
    return {block: (compute.apart * first, compute.apart * second)
            for block, (first, second) in costs.items()}


def updating(compute: Compute, stage: Sequence[str], shards: int) -> float:
    """Seconds in which a rank updates its weights: one of ``shards`` of each of a stage's blocks.
    """
    trained = [weight for weight in parameters() if weight.trainable]
    own = sum(weight.size for weight in trained if weight.block in stage)
    return compute.update * own / shards / sum(weight.size for weight in trained)


def sent(task: Task) -> float:
    """Bytes that the busiest rank sends in a step, or in an update of async; as many are received.
    """
    sizes, ranks = task.sizes, task.ranks
    if task.strategy == "hybrid":
        return sum(traffic.hybrid(ranks, ranks, task.batch, sizes=sizes).values())
    if task.strategy == "local-sgd":
        return sum(traffic.local_sgd(ranks, task.every, task.moments, sizes=sizes).values())
    if task.strategy == "async":
        return 4.0 * (sizes.kernel + sizes.small)
    if shape := task.mesh:
        return max(_sent_by(shape, number, 4.0 * task.batch * shape.tensor * shape.pipeline)
                   for number in range(shape.pipeline))
    half = 2 if task.strategy == "sync:fp16" else 4
    return sum(traffic.sync(ranks, kernel_width=half, sizes=sizes).values())


def _sent_by(shape: Shape, number: int, width: float) -> float:
    """Bytes that a rank of a stage sends, where a number for each row of a step has ``width``
    bytes: sums and gathers within layers, activations and their gradients, and weights."""
    stages, outputs, shards = cut(shape.pipeline), Shapes().outputs, shape.tensor
    stage, total = stages[number], 0.0
    if "conv2" in stage:  # its input is gathered, and the gradient of that summed
        size = width * math.prod(outputs["bn1"])
        total += traffic.all_to_all(size, shards) + traffic.allreduce(size, shards)
    for block in {"dense1", "dense2"} & set(stage):
        total += traffic.allreduce(width * math.prod(outputs[block]), shards)
    if "dense2" in stage:
        total += traffic.all_to_all(width * UNITS, shards)
    ends = [*stages[number - 1][-1:] * (number > 0), *stage[-1:] * (stage is not stages[-1])]
    total += sum(width * math.prod(output_shape(block, "row", 0, shards)) for block in ends)
    held = sum(weight.size for weight in parameters() if weight.block in stage)
    return total + traffic.allreduce(4 * held / shards, shape.data)


def expected(task: Task) -> float:
    """Seconds of a step, roughly, without slow motion; of async, of an update."""
    moving, compute = sent(task) * 8 / task.link, task.compute
    if task.strategy == "async":
        return max(moving + compute.update, (compute.total + 2 * moving) / task.workers)
    if shape := task.mesh:  # the most expensive stage, until it has its first rows and after it
        ahead = (task.micro + shape.pipeline - 1) / task.micro
        return max(task.computing) * ahead + moving
    hidden = compute.beside if task.strategy.startswith("sync") else 0.0
    return compute.total + max(moving - hidden, 0.0)


def slow_motion(ends: int, link: float, capacity: float) -> float:
    """The factor by which all must be slower, so that the links and not the processors of this
    machine limit the messages: at it, all links that are busy at once carry ``_SHARE`` of what this
    machine can move. It is the same share for all rows, since moving and adding up numbers takes
    the processors time that adds to the links' own.

    Args:
        ends: number of links that are busy at once, see ``busy``.
        link: bits per second of each.
        capacity: bytes per second that this machine moves.
    """
    return max(ends * link / 8 / (_SHARE * capacity), _LOWEST)


def busy(strategy: str, ranks: int) -> int:
    """Links that are busy at the same time; of async the server's and a worker's."""
    return 2 if strategy == "async" else ranks


def load(task: Task, capacity: float) -> float:
    """Share of what this machine can move that the links ask for at the same time."""
    return busy(task.strategy, task.ranks) * task.link / 8 / task.slow / capacity


def steps(step: float, slow: float, seconds: float, period: int = 1) -> int:
    """Number of steps that take about ``seconds``: whole periods, of at least ``_FEWEST`` steps.

    Args:
        step: seconds of a step without slow motion.
        slow: slow motion.
        seconds: for the row.
        period: a number of steps that are measured together.
    """
    count = min(max(round(seconds / (step * slow)), _FEWEST), _MOST)
    return max(round(count / period), 1) * period


def parse_speed(text: str) -> float:
    """Bits per second of a text like ``100M`` or ``2.5G``.

    Raises:
        ValueError: it is none.
    """
    number, unit = text[:-1], text[-1:].upper()
    rate = float(number) * _SPEEDS[unit] if unit in _SPEEDS else -1.0
    if not 1e6 <= rate <= 1e12:
        raise ValueError(text)
    return rate


def speed(rate: float) -> str:
    """Bits per second as a text, like ``1 Gbit/s``."""
    return f"{rate / 1e9:g} Gbit/s" if rate >= 1e9 else f"{rate / 1e6:g} Mbit/s"


def check(strategies: Sequence[str], rows: int, micro: int) -> None:
    """Raise InputError if one of them can't be emulated.

    Args:
        strategies: names.
        rows: of a rank and step.
        micro: micro-batches of a step of a pipeline.
    """
    for name in strategies:
        kind, _, axes = name.partition(":")
        if name in DATA_PARALLEL:
            continue
        if kind != "mesh" or not axes:
            raise InputError(f"--strategies {name}: choose from {', '.join(DATA_PARALLEL)}, or "
                             "give a mesh without its data axis, which grows with the ranks: "
                             "mesh:tensor=2, mesh:pipeline=2, mesh:tensor=2,pipeline=2")
        shape = grow(axes, 0)
        check_mesh(Layout(mesh=str(shape._replace(data=1))), shape.tensor * shape.pipeline)
        together = rows * shape.tensor * shape.pipeline
        if together % micro_batches(name, micro):
            raise InputError(f"--micro-batches {micro}: the {together} rows of a step of {name} "
                             "can't be divided into so many equal parts; choose a divisor")


def micro_batches(strategy: str, micro: int) -> int:
    """Micro-batches of a step: ``micro`` of a mesh with stages; others gain nothing by several."""
    return micro if "pipeline" in strategy else 1


def possible(strategy: str, ranks: int) -> bool:
    """Whether so many ranks can be divided into meshes of this kind."""
    name, _, axes = strategy.partition(":")
    if name != "mesh":
        return True
    shape = grow(axes, 0)
    return ranks % (shape.tensor * shape.pipeline) == 0
