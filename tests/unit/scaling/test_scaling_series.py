"""Records of runs, and the series, costs and choices from them, against known answers."""

from __future__ import annotations

import json

import pytest
from scaling_records import ROWS, amdahl_rate, finished, plan, whole

from hpc_deepfake.scaling import study
from hpc_deepfake.scaling.records import rows
from hpc_deepfake.scaling.series import all_series, choose


def test_a_row_keeps_the_first_epoch_separate(tmp_path):
    """The recorded seconds unchanged; imbalance is taken out of the communication."""
    planned = plan(nodes=2)
    study.write(tmp_path, planned)
    finished(tmp_path, planned.runs[1], 200.0, imbalance=0.5, seconds={
        "input": 1.0, "compute": 8.0, "communication": 2.0})
    row = rows(tmp_path, planned, None)[1]
    assert (row.rate, row.rows, row.batch) == (200.0, ROWS, 128)
    assert row.seconds == {"input": 1.0, "compute": 8.0, "communication": 1.5, "imbalance": 0.5}
    assert row.first_epoch == 3 * 11.0
    assert row.first_step == pytest.approx(1.5 * ROWS / 200)
    assert (row.evaluate, row.checkpoint) == (0.5, 0.25)
    assert row.steps == ROWS / 256
    assert row.epoch == ROWS / 200
    assert row.node_hours == pytest.approx(2 * row.epoch / 3600)
    assert row.memory == 801 * 2**20


def test_the_rate_is_that_of_the_wall_clock(tmp_path):
    """Speed-up counts evaluation and saving; what predictions are compared with does not. Records
    of version 0.1 give the seconds of each stage."""
    planned = plan(nodes=1)
    finished(tmp_path, planned.runs[0], 100.0)
    file = tmp_path / planned.runs[0].name / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for recorded, expected in ((80.0, 80.0), (None, ROWS / (ROWS / 100 + 0.5 + 0.25))):
        for line in lines:
            line.pop("wall_images_per_s", None)
            if recorded is not None:
                line["wall_images_per_s"] = recorded
        file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        made = rows(tmp_path, planned, None)
        assert (made[0].rate, made[0].training) == (pytest.approx(expected), 100.0)
        size, = all_series(made)[0].sizes
        assert (size.rate, size.training) == (made[0].rate, 100.0)


def test_records_of_older_runs_without_ranks(tmp_path):
    planned = plan(nodes=1)
    finished(tmp_path, planned.runs[0], 100.0)
    file = tmp_path / planned.runs[0].name / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        del line["ranks"]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"half')
    [row] = rows(tmp_path, planned, None)
    assert row.rate == 100.0 and row.seconds["imbalance"] == 0


def test_the_first_epoch_after_resuming_is_left_out_too(tmp_path):
    planned = plan(nodes=1)
    finished(tmp_path, planned.runs[0], 100.0)
    file = tmp_path / planned.runs[0].name / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[1].update(images_per_s=1.0)
    lines[1]["ranks"]["first_step"] = {"min": 1, "mean": 1, "max": 1}
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert rows(tmp_path, planned, None)[0].rate == 100.0


def test_a_single_epoch_is_noted(tmp_path):
    planned = plan(nodes=1)
    finished(tmp_path, planned.runs[0], 100.0, epochs=1)
    [row] = rows(tmp_path, planned, None)
    assert "only one epoch" in row.notes[0]


def test_strong_and_weak_are_never_mixed(tmp_path):
    planned = plan(["strong", "weak"], nodes=4, inputs=["real", "synthetic"],
                strategies=["sync", "local-sgd"])
    whole(tmp_path, planned, lambda run: 100.0 * run.ranks)
    groups = all_series(rows(tmp_path, planned, None))
    assert len(groups) == 2 * 2 * 2
    for group in groups:
        assert {row.run.kind for size in group.sizes for row in size.rows} == {group.kind}
        assert {row.run.input for size in group.sizes for row in size.rows} == {group.input}
        assert {row.run.strategy for size in group.sizes for row in size.rows} \
            == {group.strategy, "sequential"}
        assert group.fit.law == ("Gustafson" if group.kind == "weak" else "Amdahl")


def test_speedup_efficiency_and_cost_of_a_known_curve(tmp_path):
    """s = 0.1: S(2) = 1.818, S(4) = 3.077. With no evaluation, node hours are nodes over rate."""
    planned = plan(nodes=4, repeats=3)
    noise = {1: 0.9, 2: 1.0, 3: 1.2}  # the median is the curve
    whole(tmp_path, planned, lambda run: amdahl_rate(0.1, run.ranks) * noise[run.repeat])
    [series] = all_series(rows(tmp_path, planned, None))
    assert [size.ranks for size in series.sizes] == [1, 2, 4]
    for size, speedup in zip(series.sizes, (1, 1 / 0.55, 1 / 0.325), strict=True):
        assert size.speedup == pytest.approx(speedup)
        assert size.efficiency == pytest.approx(speedup / size.ranks)
        assert size.low == pytest.approx(0.9 * size.rate)
        assert size.high == pytest.approx(1.2 * size.rate)
        assert size.node_hours == pytest.approx(size.nodes * ROWS / size.rate / 3600)
    assert [size.serial for size in series.sizes] == [None, pytest.approx(0.1), pytest.approx(0.1)]


@pytest.mark.parametrize(("minimum", "fastest"), [(1.0, 1), (0.9, 2), (0.77, 2), (0.75, 4), (0, 4)])
def test_the_choice_of_ranks(tmp_path, minimum, fastest):
    """Efficiencies 1, 0.909 and 0.769."""
    planned = plan(nodes=4)
    whole(tmp_path, planned, lambda run: amdahl_rate(0.1, run.ranks))
    [series] = all_series(rows(tmp_path, planned, None))
    choice = choose(series, minimum)
    assert (choice.cheapest.ranks, choice.fastest.ranks) == (1, fastest)


def test_more_ranks_of_the_same_node_are_cheaper(tmp_path):
    """4 ranks of a node are charged the same node as 1: the cheapest is the full node."""
    planned = plan(nodes=2, ranks_per_node=4)
    whole(tmp_path, planned, lambda run: amdahl_rate(0.1, run.ranks))
    [series] = all_series(rows(tmp_path, planned, None))
    assert choose(series, 0.5).cheapest.ranks == 4
