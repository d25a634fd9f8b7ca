"""What is emulated: strategies, numbers of ranks and links, and how much slower than real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.strategies import traffic
from hpc_deepfake.strategies.traffic import Sizes

STRATEGIES = ("sync", "sync:fp16", "hybrid", "local-sgd", "async")
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
    """

    forward: float
    product: float
    head: float
    backward: float
    update: float

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
        return Compute(*(value * total / self.total for value in asdict(self).values()))


@dataclass(frozen=True)
class Task:
    """One row of the table, as the workers get it.

    Attributes:
        strategy: of ``STRATEGIES``.
        ranks: number of ranks.
        link: bits per second of each link in each direction.
        slow: slow motion: by this factor computing takes longer, and links are slower.
        steps: measured steps; of async, updates.
        batch: rows of a rank and step.
        compute: seconds of computing.
        sizes: of the network, as ``traffic.Sizes``.
        every: steps between two averages, of local-sgd.
        moments: numbers that the optimizer keeps for each weight, which local-sgd averages too.
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

    @property
    def name(self) -> str:
        return f"{self.strategy}, {self.ranks} ranks, {speed(self.link)}"

    @property
    def workers(self) -> int:
        """Ranks that compute."""
        return self.ranks - (self.strategy == "async")

    def as_json(self) -> dict[str, Any]:
        """For ``of_json``."""
        return {**asdict(self), "sizes": self.sizes._asdict()}

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> Task:
        """The inverse of ``as_json``."""
        return cls(**{**values, "compute": Compute(**values["compute"]),
                      "sizes": Sizes(**values["sizes"])})


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
    half = 2 if task.strategy == "sync:fp16" else 4
    return sum(traffic.sync(ranks, kernel_width=half, sizes=sizes).values())


def expected(task: Task) -> float:
    """Seconds of a step, roughly, without slow motion; of async, of an update."""
    moving, compute = sent(task) * 8 / task.link, task.compute
    if task.strategy == "async":
        return max(moving + compute.update, (compute.total + 2 * moving) / task.workers)
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


def check(strategies: Sequence[str]) -> None:
    """Raise InputError if one of them can't be emulated."""
    unknown = [name for name in strategies if name not in STRATEGIES]
    if unknown:
        raise InputError(f"--strategies {unknown[0]}: choose from {', '.join(STRATEGIES)}")
