"""In which order a pipeline's stages work on the micro-batches of a step: pure lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

Kind = Literal["forward", "backward"]


class Operation(NamedTuple):
    kind: Kind
    micro: int


class Span(NamedTuple):
    """An operation of a simulated stage, and when it ran."""

    stage: int
    operation: Operation
    begin: float
    end: float


def gpipe(stages: int, micro: int, stage: int) -> list[Operation]:
    """All forward passes, then all backward passes, last first (GPipe, Huang et al. 2019)."""
    return [*(Operation("forward", m) for m in range(micro)),
            *(Operation("backward", m) for m in reversed(range(micro)))]


def one_f_one_b(stages: int, micro: int, stage: int) -> list[Operation]:
    """As many forward passes as there are stages behind, then one forward and one backward in
    turn, then the backward passes that are left (PipeDream-Flush, Narayanan et al. 2021)."""
    ahead = min(stages - 1 - stage, micro)
    order = [Operation("forward", m) for m in range(ahead)]
    for m in range(micro - ahead):
        order += [Operation("forward", ahead + m), Operation("backward", m)]
    return order + [Operation("backward", m) for m in range(micro - ahead, micro)]


SCHEDULES = {"gpipe": gpipe, "1f1b": one_f_one_b}


def live(order: list[Operation]) -> int:
    """The most micro-batches whose activations are held at a time."""
    now = most = 0
    for operation in order:
        now += 1 if operation.kind == "forward" else -1
        most = max(most, now)
    return most


def most_live(name: str, stages: int, micro: int, stage: int) -> int:
    """The bound of ``live``: all micro-batches with GPipe, with 1F1B at most one for this stage
    and each behind it."""
    return micro if name == "gpipe" else min(stages - stage, micro)


def bubble(stages: int, micro: int) -> float:
    """Share of a step in which a stage idles, of either schedule, if all stages take the same
    time and messages none: (P - 1)/(M + P - 1)."""
    return (stages - 1) / (micro + stages - 1)


def simulate(name: str, stages: int, micro: int, forward: float = 1.0, backward: float = 2.0,
             costs: Sequence[float] | None = None) -> list[Span]:
    """What the stages would do if messages took no time; ``costs`` of the stages, None for 1 each.

    Raises:
        ValueError: the stages wait for one another.
    """
    left = [SCHEDULES[name](stages, micro, stage) for stage in range(stages)]
    ended: dict[tuple[int, Operation], float] = {}
    free, spans = [0.0] * stages, []
    while any(left):
        before = len(spans)
        for stage, order in enumerate(left):
            while order:
                operation = order[0]
                giver = stage + (-1 if operation.kind == "forward" else 1)
                needed = (giver, operation) if 0 <= giver < stages \
                    else (stage, Operation("forward", operation.micro))
                first = needed == (stage, operation)  # the first stage's input is there
                if not first and needed not in ended:
                    break
                begin = max(free[stage], 0.0 if first else ended[needed])
                end = begin + (costs[stage] if costs else 1) * (
                    forward if operation.kind == "forward" else backward)
                free[stage] = ended[stage, operation] = end
                spans.append(Span(stage, order.pop(0), begin, end))
        if len(spans) == before:
            raise ValueError(f"the stages of {name} wait for one another")
    return spans


def idle(spans: Sequence[Span]) -> float:
    """Share of a simulated step in which a stage idles, the mean of the stages."""
    stages, end = 1 + max(span.stage for span in spans), max(span.end for span in spans)
    return 1 - sum(span.end - span.begin for span in spans) / (stages * end)
