"""The order of work in a pipeline: bounds, dependencies, and the formula for the bubble."""

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
for_all_sizes = pytest.mark.parametrize(("stages", "micro"), SIZES)
for_each_schedule = pytest.mark.parametrize("name", SCHEDULES)


@for_each_schedule
@for_all_sizes
def test_each_micro_batch_has_a_forward_and_then_a_backward_pass(name, stages, micro):
    for stage in range(stages):
        order = SCHEDULES[name](stages, micro, stage)
        assert len(order) == 2 * micro == len(set(order))
        for m in range(micro):
            assert order.index(Operation("forward", m)) < order.index(Operation("backward", m))


@for_each_schedule
@for_all_sizes
def test_number_of_micro_batches_held(name, stages, micro):
    """GPipe holds all micro-batches; 1F1B at most one per stage, and fewer in later stages."""
    for stage in range(stages):
        held = live(SCHEDULES[name](stages, micro, stage))
        assert held == most_live(name, stages, micro, stage)
        assert held <= (micro if name == "gpipe" else stages)


@for_each_schedule
@for_all_sizes
def test_neighbours_send_in_the_order_in_which_the_others_receive(name, stages, micro):
    """So it is enough to post a few receives at a time."""
    for stage in range(stages - 1):
        orders = [SCHEDULES[name](stages, micro, index) for index in (stage, stage + 1)]
        for kind in ("forward", "backward"):
            first, second = ([operation.micro for operation in order if operation.kind == kind]
                             for order in orders)
            assert first == second


@for_each_schedule
@for_all_sizes
def test_no_stage_waits_for_ever_and_dependencies_hold(name, stages, micro):
    spans = simulate(name, stages, micro)
    assert len(spans) == 2 * stages * micro
    by_operation = {(span.stage, span.operation): span for span in spans}
    for (stage, operation), span in by_operation.items():
        if operation.kind == "forward" and stage:
            assert by_operation[stage - 1, operation].end <= span.begin
        if operation.kind == "backward" and stage < stages - 1:
            assert by_operation[stage + 1, operation].end <= span.begin
    for stage in range(stages):
        own = sorted((span.begin, span.end) for span in spans if span.stage == stage)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(own))


@for_each_schedule
@for_all_sizes
@pytest.mark.parametrize("backward", [1, 2])
def test_idle_share_follows_the_formula(name, stages, micro, backward):
    spans = simulate(name, stages, micro, 1, backward)
    end = max(span.end for span in spans)
    for stage in range(stages):
        busy = sum(span.end - span.begin for span in spans if span.stage == stage)
        assert 1 - busy / end == pytest.approx(bubble(stages, micro))


def test_unequal_stages_are_idle_for_longer():
    """One of two stages has nine tenths of the work: it is always busy except during the other's
    first and last operation, and the other hardly ever is."""
    assert idle(simulate("gpipe", 3, 5)) == pytest.approx(bubble(3, 5))
    for name in SCHEDULES:
        share = idle(simulate(name, 2, 10, costs=[0.1, 0.9]))
        assert share == pytest.approx(1 - 30 / (2 * (0.3 + 27)))


def test_bubble_of_some_sizes():
    assert [bubble(1, 8), bubble(2, 1), bubble(4, 4), bubble(4, 12)] == [0, 1 / 2, 3 / 7, 1 / 5]


def test_an_impossible_schedule_is_detected(monkeypatch):
    """A stage whose backward pass comes before the forward pass that the next stage needs."""
    def wrong(stages, micro, stage):
        return [Operation("forward", 0), Operation("backward", 0), Operation("forward", 1),
                Operation("backward", 1)][::1 if stage else -1]

    monkeypatch.setitem(schedule.SCHEDULES, "wrong", wrong)
    with pytest.raises(ValueError, match="wait for each other"):
        simulate("wrong", 2, 2)
