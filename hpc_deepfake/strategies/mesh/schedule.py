"""The order in which the stages of a pipeline work on the micro-batches of a step, as lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

Kind = Literal["forward", "backward"]


class Operation(NamedTuple):
    """A stage's forward or backward pass of one micro-batch, given by number."""

    kind: Kind
    micro: int


class Span(NamedTuple):
    """An operation of a simulated stage, and when it ran."""

    stage: int
    operation: Operation
    begin: float
    end: float


def gpipe(stages: int, micro: int, stage: int) -> list[Operation]:
    """All forward passes, then all backward passes in reverse order (GPipe, Huang et al. 2019)."""
    return [*(Operation("forward", m) for m in range(micro)),
            *(Operation("backward", m) for m in reversed(range(micro)))]


def one_f_one_b(stages: int, micro: int, stage: int) -> list[Operation]:
    """As many forward passes as there are later stages, then one forward and one backward pass
    alternately, then the remaining backward passes (PipeDream-Flush, Narayanan et al. 2021)."""
    ahead = min(stages - 1 - stage, micro)
    order = [Operation("forward", m) for m in range(ahead)]
    for m in range(micro - ahead):
        order += [Operation("forward", ahead + m), Operation("backward", m)]
    return order + [Operation("backward", m) for m in range(micro - ahead, micro)]


SCHEDULES = {"gpipe": gpipe, "1f1b": one_f_one_b}


def live(order: list[Operation]) -> int:
    """Maximum number of micro-batches whose activations are held at the same time."""
    now = most = 0
    for operation in order:
        now += 1 if operation.kind == "forward" else -1
        most = max(most, now)
    return most


def most_live(name: str, stages: int, micro: int, stage: int) -> int:
    """``live`` by formula: all micro-batches with GPipe; with 1F1B at most one for this stage and
    one for each later stage."""
    return micro if name == "gpipe" else min(stages - stage, micro)


def bubble(stages: int, micro: int) -> float:
    """Share of a step in which a stage is idle, with either schedule, if all stages take the same
    time and messages take none: (P - 1)/(M + P - 1)."""
    return (stages - 1) / (micro + stages - 1)


def simulate(name: str, stages: int, micro: int, forward: float = 1.0, backward: float = 2.0,
             costs: Sequence[float] | None = None) -> list[Span]:
    """When the stages would do what, if messages took no time.

    Args:
        name: of the schedule.
        stages: number of stages.
        micro: number of micro-batches.
        forward: time of a forward pass.
        backward: time of a backward pass.
        costs: factor on both, by stage; None: 1 for each.

    Raises:
        ValueError: the stages wait for each other.
    """
    left = [SCHEDULES[name](stages, micro, stage) for stage in range(stages)]
    ended: dict[tuple[int, Operation], float] = {}
    free, spans = [0.0] * stages, list[Span]()
    while any(left):
        before = len(spans)
        for stage, order in enumerate(left):
            while order:
                operation = order[0]
                source = stage + (-1 if operation.kind == "forward" else 1)
                needed = (source, operation) if 0 <= source < stages \
                    else (stage, Operation("forward", operation.micro))
                first = needed == (stage, operation)  # the input of the first stage exists
                if not first and needed not in ended:
                    break
                begin = max(free[stage], 0.0 if first else ended[needed])
                end = begin + (costs[stage] if costs else 1) * (
                    forward if operation.kind == "forward" else backward)
                free[stage] = ended[stage, operation] = end
                spans.append(Span(stage, order.pop(0), begin, end))
        if len(spans) == before:
            raise ValueError(f"the stages of {name} wait for each other")
    return spans


def idle(spans: Sequence[Span]) -> float:
    """Share of a simulated step in which a stage is idle; the mean over the stages."""
    stages, end = 1 + max(span.stage for span in spans), max(span.end for span in spans)
    return 1 - sum(span.end - span.begin for span in spans) / (stages * end)
