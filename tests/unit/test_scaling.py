"""Scaling studies: the plan, the records, the laws and the report, against known answers."""

from __future__ import annotations

import csv
import json
import math
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from scaling_records import ROWS, failed, finished, plan, whole

from hpc_deepfake import scaling
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.jobs.accounting.usage import Report, Usage
from hpc_deepfake.scaling import cost, laws, planning, reporting, study
from hpc_deepfake.scaling.records import rows
from hpc_deepfake.scaling.series import series

SIZES = [1, 2, 4, 8, 16]


def amdahl_rate(serial: float, ranks: int, one: float = 100.0) -> float:
    return one / (serial + (1 - serial) / ranks)


def gustafson_rate(serial: float, ranks: int, one: float = 100.0) -> float:
    return one * (ranks + (1 - ranks) * serial)


def report(folder: Path, out: Path, *more: str) -> tuple[str, str]:
    """Markdown and HTML."""
    assert scaling.main(["report", str(folder), "--out", str(out), *more]) == 0
    return (out / "report.md").read_text(), (out / "report.html").read_text()


# --- the plan


@pytest.mark.parametrize(("per_node", "nodes", "wanted"), [
    (1, 4, [(1, 1), (2, 2), (4, 4)]),
    (4, 3, [(1, 1), (1, 2), (1, 4), (2, 8), (3, 12)]),
    (6, 2, [(1, 1), (1, 2), (1, 4), (1, 6), (2, 12)]),
    (1, 1, [(1, 1)])])
def test_sizes(per_node, nodes, wanted):
    assert study.sizes(per_node, nodes) == wanted


def test_strong_and_weak_runs_are_given_their_work():
    """Strong: the same global batch and all rows; weak: the same of both for each rank."""
    made = plan(["strong", "weak"], nodes=4, inputs=["real", "synthetic"])
    given = {run.name: dict(zip(run.arguments, run.arguments[1:], strict=False))
             for run in made.runs}
    assert len(given) == 12
    for ranks in (1, 2, 4):
        strategy = "sequential" if ranks == 1 else "sync"
        strong = given[f"strong-real-{strategy}-n{ranks:04d}-r1"]
        assert strong["--batch-size"] == str(256 // ranks)
        assert "--rows" not in strong and strong["--strategy"] == strategy
        assert given[f"strong-synthetic-{strategy}-n{ranks:04d}-r1"]["--synthetic"] == str(ROWS)
        weak = given[f"weak-real-{strategy}-n{ranks:04d}-r1"]
        assert (weak["--batch-size"], weak["--rows"]) == ("32", str(512 * ranks))
        assert given[f"weak-synthetic-{strategy}-n{ranks:04d}-r1"]["--synthetic"] \
            == str(512 * ranks)


def test_the_run_on_one_rank_is_every_strategys_and_what_cannot_be_is_left_out():
    made = plan(nodes=2, strategies=["sync", "local-sgd", "async"])
    names = [run.name for run in made.runs]
    assert names.count("strong-real-sequential-n0001-r1") == 1
    assert "strong-real-async-n0002-r1" in names
    [(name, why)] = made.skipped
    assert name == "strong-real-async-n0001" and "needs a rank for each server" in why
    made = plan(nodes=6, global_batch=32)  # 1, 2, 4, 6
    assert [name for name, _ in made.skipped] == ["strong-real-sync-n0006"]


def test_async_workers_share_the_rows_and_an_update_keeps_its_batch():
    made = plan(["strong", "weak"], strategies=["async"], nodes=4, arguments=["--servers", "2"])
    words = {run.name: dict(zip(run.arguments, run.arguments[1:], strict=False))
             for run in made.runs}
    assert set(words) == {"strong-real-async-n0004-r1", "weak-real-async-n0004-r1"}
    assert all(one["--batch-size"] == "32" for one in words.values())
    assert words["weak-real-async-n0004-r1"]["--rows"] == str(2 * 512)


def test_micro_batches_count_in_the_global_batch():
    made = plan(nodes=4, arguments=["--accumulate", "4"], global_batch=8)
    words = {run.ranks: dict(zip(run.arguments, run.arguments[1:], strict=False))
             for run in made.runs}
    assert {ranks: one["--batch-size"] for ranks, one in words.items()} == {1: "2", 2: "1"}
    assert made.skipped == (("strong-real-sync-n0004", "a global batch of 8 rows can't be shared "
                             "equally by 4 ranks in 4 micro-batches"),)


def test_a_meshs_data_axis_grows_with_the_ranks():
    """The global batch of strong runs, and the rows of a rank of weak ones, stay the same."""
    made = plan(["strong", "weak"], nodes=4, strategies=["sync", "mesh:tensor=2,pipeline=2"],
                ranks_per_node=2, arguments=["--micro-batches", "4"])
    words = {run.name: dict(zip(run.arguments, run.arguments[1:], strict=False))
             for run in made.runs}
    for kind, batches in (("strong", {4: 64, 8: 32}), ("weak", {4: 128, 8: 128})):
        for ranks, batch in batches.items():
            one = words[f"{kind}-real-mesh-tensor2-pipeline2-n{ranks:04d}-r1"]
            assert one["--strategy"] == "mesh" and one["--batch-size"] == str(batch)
            data = f"data={ranks // 4}," if ranks > 4 else ""
            assert one["--mesh"] == f"{data}tensor=2,pipeline=2"
    assert [name for name, _ in made.skipped] == [
        f"{kind}-real-mesh-tensor2-pipeline2-n0002" for kind in ("strong", "weak")]
    assert "2 ranks can't be divided into meshes" in made.skipped[0][1]


@pytest.mark.parametrize(("strategy", "message"), [
    ("mesh", "mesh:tensor=2"), ("sync:tensor=2", "there are"), ("mesh:", "there are"),
    ("mesh:data=2", "leave data out"), ("mesh:tensor=0", "with a number of at least 1"),
    ("nothing", "there are sequential, sync")])
def test_strategies_that_a_study_cannot_have(strategy, message):
    with pytest.raises(InputError, match=message):
        plan(strategies=["sync", strategy])


def test_what_the_trainings_configuration_says_counts(tmp_path):
    file = tmp_path / "train.toml"
    file.write_text("accumulate = 4\n")
    made = plan(nodes=2, config=file)
    assert [run.arguments[run.arguments.index("--batch-size") + 1] for run in made.runs] \
        == ["64", "32"]
    assert "--config" not in made.runs[0].arguments  # the job gives it
    file.write_text('mesh = "tensor=2"\n')
    with pytest.raises(InputError, match="name the strategy mesh:tensor=2"):
        plan(nodes=2, config=file)


def test_the_rows_of_a_meshs_rank(tmp_path):
    """Of 4 ranks two share the 128 rows of a data share, in 2 micro-batches."""
    made = plan(["strong"], nodes=4, strategies=["mesh:pipeline=2"],
                arguments=["--micro-batches", "2"])
    study.write(tmp_path, made)
    for run in made.runs:
        finished(tmp_path, run, 100.0)
    assert {row.run.ranks: row.batch for row in rows(tmp_path, made, None)} \
        == {1: 256, 2: 128, 4: 64}


def test_node_hours_and_repeats():
    made = plan(["strong"], nodes=4, ranks_per_node=2, repeats=3)
    assert len(made.runs) == 3 * 4
    assert made.node_hours() == pytest.approx(3 * (1 + 1 + 2 + 4) * 0.5)


@pytest.mark.parametrize("kinds", [["preprocess"], ["preprocess", "strong"]])
def test_preprocessing_has_the_arguments_only_if_it_is_studied_alone(kinds):
    arguments = ["--features", "ela"] if len(kinds) == 1 else ["--epochs", "2"]
    made = plan(kinds, nodes=2, arguments=arguments)
    for run in made.runs:
        assert run.job == ("preprocess" if run.kind == "preprocess" else "train_cpu")
        if run.kind == "preprocess":
            assert list(run.arguments) == (arguments if len(kinds) == 1 else [])


def test_mistakes_are_told_before_anything_is_submitted(capsys):
    with pytest.raises(InputError, match="--run and --resume are the study's own"):
        plan(arguments=["--run", "x"])
    with pytest.raises(SystemExit) as left:
        plan(arguments=["--epochs", "0"])
    assert left.value.code == 2
    with pytest.raises(InputError, match=r"none of these runs can be:\n  strong-real-async"):
        plan(strategies=["async"], nodes=1)
    with pytest.raises(InputError, match="no word 'reprot': plan, report"):
        scaling.main(["reprot"])


def test_weak_runs_need_the_rows(data_file, capsys):
    """36 training rows in the file: a default that fits, or a message that says what to take."""
    common = ["s", "--data", str(data_file), "--kinds", "weak", "--nodes", "4"]
    assert planning.main(common) == 0
    assert "--rows 36" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"need 40 training rows, and .* has 36: take fewer"):
        planning.main([*common, "--rows-per-rank", "10"])


def test_a_plan_for_the_shell_and_for_a_person(tmp_path, capsys):
    """What is done is told; nothing is written but with --lines."""
    folder = tmp_path / "s"
    words = ["plan", str(folder), "--nodes", "2", "--kinds", "strong", "--job", "train_cpu",
             "--limit", "1:00:00"]
    assert scaling.main([*words, "--", "--epochs", "2"]) == 0
    out = capsys.readouterr().out
    assert "2 jobs of at most 60 min, 3.00 node hours at most; 2 to be done" in out
    assert not folder.exists()
    words += ["--scripts", str(ROOT / "jobs" / "slurm"), "--ranks-per-node", "1"]
    assert scaling.main([*words, "--lines", "--", "--epochs", "2"]) == 0
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == [
        "strong-real-sequential-n0001-r1", "strong-real-sync-n0002-r1"]
    assert lines[0][-2:] == ["--batch-size", "256"]
    runs = study.read(folder).runs
    finished(folder, runs[0], 100.0)
    assert scaling.main([*words, "--", "--epochs", "2"]) == 0
    assert "1 to be done, 2.00 node hours at most" in capsys.readouterr().out
    with pytest.raises(InputError, match="a line break"):
        scaling.main([*words, "--lines", "--", "--feature", "a\nb"])


def test_a_later_plan_adds_to_the_study(tmp_path):
    study.write(tmp_path, plan(nodes=1))
    study.write(tmp_path, plan(["weak"], nodes=2))
    assert [run.kind for run in study.read(tmp_path).runs] == ["strong", "weak", "weak"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"runs": [{"name": "../x"}]}',
                                  '{"runs": [], "ranks_per_node": "x"}'])
def test_a_damaged_plan_is_one_message(tmp_path, text):
    (tmp_path / study.NAME).write_text(text)
    with pytest.raises(InputError, match="can't be read"):
        study.read(tmp_path)
    with pytest.raises(InputError, match="holds no scaling study"):
        study.read(tmp_path / "other")


# --- the laws


@pytest.mark.parametrize("serial", [0.0, 0.003, 0.1, 0.5, 1.0])
def test_karp_flatt_and_amdahls_fit_recover_the_serial_fraction(serial):
    rates = [amdahl_rate(serial, ranks) for ranks in SIZES]
    for ranks, rate in zip(SIZES[1:], rates[1:], strict=True):
        assert laws.karp_flatt(rate / rates[0], ranks) == pytest.approx(serial, abs=1e-12)
    fit = laws.amdahl(SIZES, rates)
    assert fit.serial == pytest.approx(serial, abs=1e-9)
    assert fit.one == pytest.approx(100, rel=1e-9)
    assert fit.high - fit.low == pytest.approx(0, abs=1e-6)
    assert fit.rate(1024) == pytest.approx(amdahl_rate(serial, 1024), rel=1e-6)


@pytest.mark.parametrize("serial", [0.0, 0.05, 0.4, 1.0])
def test_gustafsons_fit_recovers_the_serial_fraction(serial):
    rates = [gustafson_rate(serial, ranks) for ranks in SIZES]
    for ranks, rate in zip(SIZES[1:], rates[1:], strict=True):
        assert laws.gustafson_fraction(rate / rates[0], ranks) == pytest.approx(serial, abs=1e-12)
    fit = laws.gustafson(SIZES, rates)
    assert fit.serial == pytest.approx(serial, abs=1e-9)
    assert fit.one == pytest.approx(100, rel=1e-9)


def test_fractions_over_a_base_of_several_ranks():
    """From 4 ranks on, the 4 are the unit: a curve whose unit has s = 0.1 gives 0.1 back."""
    for ranks in (8, 16):
        speedup = amdahl_rate(0.1, ranks // 4) / 100
        assert laws.karp_flatt(speedup, ranks, 4) == pytest.approx(0.1)
        assert laws.efficiency(speedup, ranks, 4) == pytest.approx(speedup * 4 / ranks)
    assert laws.karp_flatt(1.0, 4, 4) is None and laws.gustafson_fraction(1.0, 4, 4) is None


def test_two_points_have_no_band_and_one_size_no_fit():
    fit = laws.amdahl([1, 2], [100, 180])
    assert (fit.low, fit.high, fit.band(4)) == (None, None, None)
    assert fit.rate(2) == pytest.approx(180)
    assert laws.amdahl([2, 2, 2], [1, 2, 3]) is None
    assert laws.gustafson([4], [1.0]) is None


@pytest.mark.parametrize(("fit", "rate"), [(laws.amdahl, amdahl_rate),
                                           (laws.gustafson, gustafson_rate)])
def test_the_95_percent_band_holds_the_truth_in_95_percent(fit, rate):
    """Noise of 2%, 3 repeats of 5 sizes, 2,000 studies."""
    rng = np.random.default_rng(0)
    ranks = SIZES * 3
    inside = 0
    for _ in range(2000):
        rates = [rate(0.08, one) * (1 + 0.02 * rng.standard_normal()) for one in ranks]
        found = fit(ranks, rates)
        inside += found.low <= 0.08 <= found.high
    assert 0.93 < inside / 2000 < 0.97


def test_a_super_linear_speedup_has_no_negative_fraction():
    fit = laws.amdahl([1, 2, 4], [100, 210, 450])
    assert fit.serial == 0 and fit.low == 0
    assert laws.karp_flatt(2.1, 2) < 0  # told as it is


# --- records and series


def test_a_row_has_the_first_epoch_apart(tmp_path):
    """Known seconds in, the same seconds out; imbalance is taken out of the communication."""
    made = plan(nodes=2)
    study.write(tmp_path, made)
    finished(tmp_path, made.runs[1], 200.0, imbalance=0.5, seconds={
        "input": 1.0, "compute": 8.0, "communication": 2.0})
    row = rows(tmp_path, made, None)[1]
    assert (row.rate, row.rows, row.batch) == (200.0, ROWS, 128)
    assert row.seconds == {"input": 1.0, "compute": 8.0, "communication": 1.5, "imbalance": 0.5}
    assert row.first_epoch == 3 * 11.0
    assert row.first_step == pytest.approx(1.5 * ROWS / 200)
    assert (row.evaluate, row.checkpoint) == (0.5, 0.25)
    assert row.steps == ROWS / 256
    assert row.epoch == ROWS / 200 + 0.5
    assert row.node_hours == pytest.approx(2 * row.epoch / 3600)
    assert row.memory == 801 * 2**20


def test_records_of_older_runs_lack_the_ranks(tmp_path):
    made = plan(nodes=1)
    finished(tmp_path, made.runs[0], 100.0)
    file = tmp_path / made.runs[0].name / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        del line["ranks"]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"half')
    [row] = rows(tmp_path, made, None)
    assert row.rate == 100.0 and row.seconds["imbalance"] == 0


def test_a_resumed_runs_other_first_step_is_left_out_too(tmp_path):
    made = plan(nodes=1)
    finished(tmp_path, made.runs[0], 100.0)
    file = tmp_path / made.runs[0].name / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[1].update(images_per_s=1.0)
    lines[1]["ranks"]["first_step"] = {"min": 1, "mean": 1, "max": 1}
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert rows(tmp_path, made, None)[0].rate == 100.0


def test_one_epoch_only_is_noted(tmp_path):
    made = plan(nodes=1)
    finished(tmp_path, made.runs[0], 100.0, epochs=1)
    [row] = rows(tmp_path, made, None)
    assert "one epoch only" in row.notes[0]


def test_strong_and_weak_are_never_mixed(tmp_path):
    made = plan(["strong", "weak"], nodes=4, inputs=["real", "synthetic"],
                strategies=["sync", "local-sgd"])
    whole(tmp_path, made, lambda run: 100.0 * run.ranks)
    found = series(rows(tmp_path, made, None))
    assert len(found) == 2 * 2 * 2
    for one in found:
        assert {row.run.kind for size in one.sizes for row in size.rows} == {one.kind}
        assert {row.run.input for size in one.sizes for row in size.rows} == {one.input}
        assert {row.run.strategy for size in one.sizes for row in size.rows} \
            == {one.strategy, "sequential"}
        assert one.fit.law == ("Gustafson" if one.kind == "weak" else "Amdahl")


def test_speedup_efficiency_and_cost_of_a_known_curve(tmp_path):
    """s = 0.1: S(2) = 1.818, S(4) = 3.077. With no evaluation, node hours are nodes over rate."""
    made = plan(nodes=4, repeats=3)
    noise = {1: 0.9, 2: 1.0, 3: 1.2}  # the median is the curve
    whole(tmp_path, made, lambda run: amdahl_rate(0.1, run.ranks) * noise[run.repeat])
    [one] = series(rows(tmp_path, made, None))
    assert [size.ranks for size in one.sizes] == [1, 2, 4]
    for size, speedup in zip(one.sizes, (1, 1 / 0.55, 1 / 0.325), strict=True):
        assert size.speedup == pytest.approx(speedup)
        assert size.efficiency == pytest.approx(speedup / size.ranks)
        assert size.low == pytest.approx(0.9 * size.rate)
        assert size.high == pytest.approx(1.2 * size.rate)
        assert size.node_hours == pytest.approx(size.nodes * (ROWS / size.rate + 0.5) / 3600)
    assert [size.serial for size in one.sizes] == [None, pytest.approx(0.1), pytest.approx(0.1)]


@pytest.mark.parametrize(("wanted", "fastest"), [(1.0, 1), (0.9, 2), (0.77, 2), (0.75, 4), (0, 4)])
def test_the_choice_of_ranks(tmp_path, wanted, fastest):
    """Efficiencies 1, 0.909 and 0.769."""
    made = plan(nodes=4)
    whole(tmp_path, made, lambda run: amdahl_rate(0.1, run.ranks))
    [one] = series(rows(tmp_path, made, None))
    choice = cost.choose(one, wanted)
    assert (choice.cheapest.ranks, choice.fastest.ranks) == (1, fastest)


def test_more_ranks_of_the_same_node_are_cheaper(tmp_path):
    """4 ranks of one node cost the node as much as 1: the best is the whole node."""
    made = plan(nodes=2, ranks_per_node=4)
    whole(tmp_path, made, lambda run: amdahl_rate(0.1, run.ranks))
    [one] = series(rows(tmp_path, made, None))
    assert cost.choose(one, 0.5).cheapest.ranks == 4


# --- the report


@pytest.fixture
def failing(tmp_path):
    """Strong and weak at 1, 2 and 4 ranks; one failed, one was stopped, one is missing."""
    folder = tmp_path / "study"
    made = plan(["strong", "weak"], nodes=4)
    whole(folder, made, lambda run: amdahl_rate(0.1, run.ranks) if run.kind == "strong"
          else gustafson_rate(0.2, run.ranks))
    for run in made.runs:
        if run.kind == "weak" and run.ranks > 1:
            for file in (folder / run.name).iterdir():
                file.unlink()
    failed(folder, made.runs[4], 2, "error: there is no data file <b>x|y</b>\nmore")
    failed(folder, made.runs[5], 75)
    for file in (folder / made.runs[2].name).iterdir():
        file.unlink()
    return folder


def test_failed_and_missing_runs_are_listed_and_in_no_figure(failing, tmp_path):
    markdown, page = report(failing, tmp_path / "out")
    assert "3 of 6 runs are finished; 3 failed or are missing" in markdown
    assert "| weak-real-sync-n0002-r1 | failed | 2 | 2 | exit code 2: error: there is no data " \
        "file &lt;b>x\\|y&lt;/b> |" in markdown
    assert "weak-real-sync-n0004-r1 | stopped" in markdown
    assert "strong-real-sync-n0004-r1 | missing" in markdown
    assert "<b>x|y</b>" not in page and "&lt;b&gt;x|y&lt;/b&gt;" in page
    assert "weak, real, sequential: on 1 rank only, so nothing can be said" in markdown
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == [
        "report.html", "report.md", "runs.csv", "scaling.png", "scaling.svg", "sizes.csv"]


def test_the_reports_numbers(tmp_path):
    made = plan(["strong", "weak"], nodes=4)
    whole(tmp_path, made, lambda run: amdahl_rate(0.1, run.ranks) if run.kind == "strong"
          else gustafson_rate(0.2, run.ranks))
    markdown, page = report(tmp_path, tmp_path / "out", "--efficiency", "0.75")
    assert "| 4 | 4 | 1 | 307.7 | 307.7–307.7 | 3.077 | 76.9% | 0.1000 |" in markdown
    assert "| 4 | 4 | 1 | 340.0 | 340.0–340.0 | 3.400 | 85.0% | 0.2000 |" in markdown
    assert "| strong, real, sync | Amdahl | 0.1000 | 0.1000–0.1000 | 100.0 | 0.0% | 3 | 10 |" \
        in markdown
    assert "| weak, real, sync | Gustafson | 0.2000 |" in markdown
    assert "fastest at 75% efficiency or more: 4 ranks" in markdown
    assert "<script" not in page and "http://" not in page.replace("http://www.w3.org", "")
    with open(tmp_path / "out" / "sizes.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["kind"], line["ranks"]) for line in lines] == [
        (kind, ranks) for kind in ("strong", "weak") for ranks in "124"]
    assert float(lines[2]["speedup"]) == pytest.approx(1 / 0.325)
    with open(tmp_path / "out" / "runs.csv", newline="") as file:
        runs = list(csv.DictReader(file))
    assert len(runs) == 6 and float(runs[1]["images_per_s"]) == pytest.approx(100 / 0.55)
    assert (tmp_path / "out" / "scaling.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "out" / "scaling.svg").read_text()


def test_nothing_finished_is_a_report_too(tmp_path):
    study.write(tmp_path, plan(nodes=2))
    markdown, page = report(tmp_path, tmp_path / "out")
    assert "0 of 2 runs are finished" in markdown and "not run" in page
    assert not (tmp_path / "out" / "scaling.png").exists()


def test_odd_names_do_no_harm(tmp_path):
    """The study's folder has a name that HTML and Markdown would take for their own."""
    folder = tmp_path / "<img src=x> | \u202e & 'a'"
    whole(folder, plan(nodes=2), lambda run: 100.0)
    markdown, page = report(folder, tmp_path / "out")
    assert "<img" not in page and "\u202e" not in page
    assert "<img" not in markdown and "\u202e" not in markdown


@pytest.mark.parametrize("damage", [
    lambda folder: (folder / "metrics.jsonl").write_text(""),
    lambda folder: (folder / "config.json").write_text("{"),
    lambda folder: (folder / "metrics.jsonl").write_text('{"epoch": 1, "seconds": {"input": "x"}, '
                                                         '"step": 1, "images_per_s": 1}\n'),
    lambda folder: (folder / "summary.json").write_text('{"ranks": 2, "train_rows": []}')])
def test_damaged_records_are_a_failed_run(tmp_path, damage):
    made = plan(nodes=2)
    whole(tmp_path, made, lambda run: 100.0)
    damage(tmp_path / made.runs[1].name)
    markdown, _ = report(tmp_path, tmp_path / "out")
    assert "1 of 2 runs are finished" in markdown
    assert f"| {made.runs[1].name} | failed |" in markdown


def test_the_schedulers_accounting_is_joined(tmp_path):
    """Its elapsed time, efficiency and GPU hours win over the run's own; of a failed run its
    state is told."""
    made = plan(nodes=2)
    whole(tmp_path, made, lambda run: 100.0)
    for file in (tmp_path / made.runs[1].name).iterdir():
        file.unlink()
    failed(tmp_path, made.runs[1], 137)

    def ask(subject: str) -> Report:
        state = "OUT_OF_MEMORY" if made.runs[1].name in subject else "COMPLETED"
        return Report(subject, [Usage("1", "x", state, "sacct", elapsed=100.0, cpu=150.0, cpus=2,
                                      gpus=4, nodes=1)])

    good, bad = rows(tmp_path, made, ask)
    assert (good.elapsed, good.cpu_efficiency, good.source) == (100.0, 0.75, "sacct")
    assert good.gpu_hours == pytest.approx(400 / 3600)
    assert bad.state == "failed" and bad.why == "exit code 137; the scheduler says OUT_OF_MEMORY"


def test_preprocessing_runs(tmp_path):
    made = plan(["preprocess"], nodes=4)
    study.write(tmp_path, made)
    for run in made.runs:
        folder = tmp_path / run.name
        folder.mkdir()
        wall = 100 * (0.2 + 0.8 / run.ranks)
        (folder / "features.h5.json").write_text(json.dumps(
            {"ranks": run.ranks, "images": 1000, "seconds": {
                "wall": wall, "by_rank": [{"read": wall / 4, "ela": wall / 2}] * run.ranks}}))
    found = rows(tmp_path, made, None)
    assert [row.rate for row in found] == pytest.approx([10, 1000 / 60, 25])
    [one] = series(found)
    assert one.fit.serial == pytest.approx(0.2)
    assert found[2].seconds == {"read": 10.0, "ela": 20.0, "imbalance": 0.0}
    markdown, _ = report(tmp_path, tmp_path / "out")
    assert "## Scaling: preprocess" in markdown and "2.500" in markdown


def test_help_needs_no_mpi():
    for word in ("plan", "report", "predict", "microbench"):
        done = subprocess.run([sys.executable, "-m", "hpc_deepfake.cli", "scaling", word, "--help"],
                              text=True, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"usage: hpc-deepfake scaling {word}")
        assert "examples:" in done.stdout


def test_report_options_are_checked(tmp_path):
    whole(tmp_path, plan(nodes=1), lambda run: 1.0)
    with pytest.raises(SystemExit):
        reporting.main([str(tmp_path), "--efficiency", "2"])
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write the report"):
        reporting.main([str(tmp_path), "--out", str(tmp_path / "file" / "x")])
    assert math.isclose(1.0, rows(tmp_path, study.read(tmp_path), None)[0].rate)
