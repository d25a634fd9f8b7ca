"""The order of work in a pipeline: bounds, dependencies, and the formula of the bubble."""

from __future__ import annotations

from itertools import pairwise

import pytest

from hpc_deepfake.strategies.mesh import schedule
from hpc_deepfake.strategies.mesh.schedule import (
    SCHEDULES,
    Operation,
    bubble,
    idle,
    live,
    most_live,
    simulate,
)

SIZES = [(stages, micro) for stages in range(1, 7) for micro in (1, 2, 3, 4, 7, 16)]
every = pytest.mark.parametrize(("stages", "micro"), SIZES)
each = pytest.mark.parametrize("name", SCHEDULES)


@each
@every
def test_each_micro_batch_goes_forward_once_and_then_back_once(name, stages, micro):
    for stage in range(stages):
        order = SCHEDULES[name](stages, micro, stage)
        assert len(order) == 2 * micro == len(set(order))
        for m in range(micro):
            assert order.index(Operation("forward", m)) < order.index(Operation("backward", m))


@each
@every
def test_activations_held_at_a_time(name, stages, micro):
    """GPipe holds all micro-batches; 1F1B no more than there are stages, fewer towards the end."""
    for stage in range(stages):
        held = live(SCHEDULES[name](stages, micro, stage))
        assert held == most_live(name, stages, micro, stage)
        assert held <= (micro if name == "gpipe" else stages)


@each
@every
def test_neighbours_send_in_the_order_in_which_the_others_receive(name, stages, micro):
    """So few receives, posted in turn, are enough."""
    for stage in range(stages - 1):
        orders = [SCHEDULES[name](stages, micro, one) for one in (stage, stage + 1)]
        for kind in ("forward", "backward"):
            here, there = ([one.micro for one in order if one.kind == kind] for order in orders)
            assert here == there


@each
@every
def test_nobody_waits_for_ever_and_dependencies_hold(name, stages, micro):
    spans = simulate(name, stages, micro)
    assert len(spans) == 2 * stages * micro
    when = {(span.stage, span.operation): span for span in spans}
    for (stage, operation), span in when.items():
        if operation.kind == "forward" and stage:
            assert when[stage - 1, operation].end <= span.begin
        if operation.kind == "backward" and stage < stages - 1:
            assert when[stage + 1, operation].end <= span.begin
    for stage in range(stages):
        own = sorted((span.begin, span.end) for span in spans if span.stage == stage)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(own))


@each
@every
@pytest.mark.parametrize("backward", [1, 2])
def test_idle_share_is_the_formula(name, stages, micro, backward):
    spans = simulate(name, stages, micro, 1, backward)
    end = max(span.end for span in spans)
    for stage in range(stages):
        busy = sum(span.end - span.begin for span in spans if span.stage == stage)
        assert 1 - busy / end == pytest.approx(bubble(stages, micro))


def test_unequal_stages_idle_for_longer():
    """Two stages, one of which has all but a tenth of the work: it is busy all the time but for
    its neighbour's first and last piece, and the neighbour hardly ever."""
    assert idle(simulate("gpipe", 3, 5)) == pytest.approx(bubble(3, 5))
    for name in SCHEDULES:
        share = idle(simulate(name, 2, 10, costs=[0.1, 0.9]))
        assert share == pytest.approx(1 - 30 / (2 * (0.3 + 27)))


def test_bubble_of_known_sizes():
    assert [bubble(1, 8), bubble(2, 1), bubble(4, 4), bubble(4, 12)] == [0, 1 / 2, 3 / 7, 1 / 5]


def test_a_schedule_that_cannot_work_is_found(monkeypatch):
    """A stage that wants its backward pass before the one behind had the forward pass."""
    def wrong(stages, micro, stage):
        return [Operation("forward", 0), Operation("backward", 0), Operation("forward", 1),
                Operation("backward", 1)][::1 if stage else -1]

    monkeypatch.setitem(schedule.SCHEDULES, "wrong", wrong)
    with pytest.raises(ValueError, match="wait for one another"):
        simulate("wrong", 2, 2)
