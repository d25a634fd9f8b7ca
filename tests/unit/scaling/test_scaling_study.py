"""The plan of a scaling study: which runs, with which options, in which state."""

from __future__ import annotations

import shlex

import pytest
from conftest import ROOT
from scaling_records import ROWS, finished, plan

from hpc_deepfake import scaling
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.scaling import planning, study
from hpc_deepfake.scaling.records import rows


def options_of(run: study.Run) -> dict[str, str]:
    """Each word of a run's arguments with the next one."""
    return dict(zip(run.arguments, run.arguments[1:], strict=False))


@pytest.mark.parametrize(("per_node", "nodes", "expected"), [
    (1, 4, [(1, 1), (2, 2), (4, 4)]),
    (4, 3, [(1, 1), (1, 2), (1, 4), (2, 8), (3, 12)]),
    (6, 2, [(1, 1), (1, 2), (1, 4), (1, 6), (2, 12)]),
    (1, 1, [(1, 1)])])
def test_sizes(per_node, nodes, expected):
    assert study.sizes(per_node, nodes) == expected


def test_the_work_of_strong_and_weak_runs():
    """Strong: the same global batch and all rows; weak: the same of both for each rank."""
    planned = plan(["strong", "weak"], nodes=4, inputs=["real", "synthetic"])
    options = {run.name: options_of(run) for run in planned.runs}
    assert len(options) == 12
    for ranks in (1, 2, 4):
        strategy = "sequential" if ranks == 1 else "sync"
        strong = options[f"strong-real-{strategy}-n{ranks:04d}-r1"]
        assert strong["--batch-size"] == str(256 // ranks)
        assert "--rows" not in strong and strong["--strategy"] == strategy
        assert options[f"strong-synthetic-{strategy}-n{ranks:04d}-r1"]["--synthetic"] == str(ROWS)
        weak = options[f"weak-real-{strategy}-n{ranks:04d}-r1"]
        assert (weak["--batch-size"], weak["--rows"]) == ("32", str(512 * ranks))
        assert options[f"weak-synthetic-{strategy}-n{ranks:04d}-r1"]["--synthetic"] \
            == str(512 * ranks)


def test_the_run_on_one_rank_belongs_to_all_strategies_and_impossible_runs_are_skipped():
    planned = plan(nodes=2, strategies=["sync", "local-sgd", "async"])
    names = [run.name for run in planned.runs]
    assert names.count("strong-real-sequential-n0001-r1") == 1
    assert "strong-real-async-n0002-r1" in names
    [(name, why)] = planned.skipped
    assert name == "strong-real-async-n0001" and "needs a rank for each server" in why
    planned = plan(nodes=6, global_batch=32)  # 1, 2, 4, 6
    assert [name for name, _ in planned.skipped] == ["strong-real-sync-n0006"]


def test_async_workers_share_the_rows_and_an_update_keeps_its_batch():
    planned = plan(["strong", "weak"], strategies=["async"], nodes=4, arguments=["--servers", "2"])
    options = {run.name: options_of(run) for run in planned.runs}
    assert set(options) == {"strong-real-async-n0004-r1", "weak-real-async-n0004-r1"}
    assert all(own["--batch-size"] == "32" for own in options.values())
    assert options["weak-real-async-n0004-r1"]["--rows"] == str(2 * 512)


def test_micro_batches_count_in_the_global_batch():
    planned = plan(nodes=4, arguments=["--accumulate", "4"], global_batch=8)
    assert {run.ranks: options_of(run)["--batch-size"] for run in planned.runs} == {1: "2", 2: "1"}
    assert planned.skipped == (("strong-real-sync-n0004", "a global batch of 8 rows can't be "
                                "divided evenly among 4 ranks in 4 micro-batches"),)


def test_the_data_axis_of_a_mesh_grows_with_the_ranks():
    """The global batch of strong runs, and the rows per rank of weak ones, stay the same."""
    planned = plan(["strong", "weak"], nodes=4, strategies=["sync", "mesh:tensor=2,pipeline=2"],
                ranks_per_node=2, arguments=["--micro-batches", "4"])
    options = {run.name: options_of(run) for run in planned.runs}
    for kind, batches in (("strong", {4: 64, 8: 32}), ("weak", {4: 128, 8: 128})):
        for ranks, batch in batches.items():
            own = options[f"{kind}-real-mesh-tensor2-pipeline2-n{ranks:04d}-r1"]
            assert own["--strategy"] == "mesh" and own["--batch-size"] == str(batch)
            data = f"data={ranks // 4}," if ranks > 4 else ""
            assert own["--mesh"] == f"{data}tensor=2,pipeline=2"
    assert [name for name, _ in planned.skipped] == [
        f"{kind}-real-mesh-tensor2-pipeline2-n0002" for kind in ("strong", "weak")]
    assert "2 ranks can't be divided into meshes" in planned.skipped[0][1]


@pytest.mark.parametrize(("strategy", "message"), [
    ("mesh", "mesh:tensor=2"), ("sync:tensor=2", "unknown strategy"), ("mesh:", "unknown strategy"),
    ("mesh:data=2", "leave data out"), ("mesh:tensor=0", "with a number of at least 1"),
    ("nothing", "choose from sequential, sync")])
def test_strategies_that_a_study_cannot_have(strategy, message):
    with pytest.raises(InputError, match=message):
        plan(strategies=["sync", strategy])


def test_options_of_the_trainings_configuration_file_count(tmp_path):
    file = tmp_path / "train.toml"
    file.write_text("accumulate = 4\n")
    planned = plan(nodes=2, config=file)
    assert [run.arguments[run.arguments.index("--batch-size") + 1] for run in planned.runs] \
        == ["64", "32"]
    assert "--config" not in planned.runs[0].arguments  # the job adds it
    file.write_text('mesh = "tensor=2"\n')
    with pytest.raises(InputError, match="name the mesh as a strategy, like mesh:tensor=2"):
        plan(nodes=2, config=file)


def test_the_rows_of_a_rank_of_a_mesh(tmp_path):
    """Two of 4 ranks share the 128 rows of a data share, in 2 micro-batches."""
    planned = plan(["strong"], nodes=4, strategies=["mesh:pipeline=2"],
                arguments=["--micro-batches", "2"])
    study.write(tmp_path, planned)
    for run in planned.runs:
        finished(tmp_path, run, 100.0)
    assert {row.run.ranks: row.batch for row in rows(tmp_path, planned, None)} \
        == {1: 256, 2: 128, 4: 64}


def test_node_hours_and_repeats():
    planned = plan(["strong"], nodes=4, ranks_per_node=2, repeats=3)
    assert len(planned.runs) == 3 * 4
    assert planned.node_hours() == pytest.approx(3 * (1 + 1 + 2 + 4) * 0.5)


@pytest.mark.parametrize("kinds", [["preprocess"], ["preprocess", "strong"]])
def test_preprocessing_gets_the_arguments_only_if_it_is_the_only_kind(kinds):
    arguments = ["--features", "ela"] if len(kinds) == 1 else ["--epochs", "2"]
    planned = plan(kinds, nodes=2, arguments=arguments)
    for run in planned.runs:
        assert run.job == ("preprocess" if run.kind == "preprocess" else "train_cpu")
        if run.kind == "preprocess":
            assert list(run.arguments) == (arguments if len(kinds) == 1 else [])


def test_mistakes_are_reported_before_anything_is_submitted(capsys):
    with pytest.raises(InputError, match="--run and --resume are set by the study"):
        plan(arguments=["--run", "x"])
    with pytest.raises(SystemExit) as left:
        plan(arguments=["--epochs", "0"])
    assert left.value.code == 2
    with pytest.raises(InputError, match=r"none of these runs is possible:\n  strong-real-async"):
        plan(strategies=["async"], nodes=1)
    with pytest.raises(InputError, match="unknown subcommand 'reprot': give plan, report"):
        scaling.main(["reprot"])


def test_weak_runs_need_the_rows(data_file, capsys):
    """36 training rows in the file: a default that fits, or a message with the alternatives."""
    common = ["s", "--data", str(data_file), "--kinds", "weak", "--nodes", "4"]
    assert planning.main(common) == 0
    assert "--rows 36" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"need 40 training rows, and .* has 36: choose fewer"):
        planning.main([*common, "--rows-per-rank", "10"])


def test_a_plan_for_the_shell_and_for_a_person(tmp_path, capsys):
    """With the states of the runs; nothing is written without --lines."""
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
        scaling.main([*words, "--lines", "--", "--freeze", "a\nb"])


def test_a_later_plan_adds_to_the_study(tmp_path):
    study.write(tmp_path, plan(nodes=1))
    study.write(tmp_path, plan(["weak"], nodes=2))
    assert [run.kind for run in study.read(tmp_path).runs] == ["strong", "weak", "weak"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"runs": [{"name": "../x"}]}',
                                  '{"runs": [], "ranks_per_node": "x"}'])
def test_a_damaged_plan_is_reported_in_one_message(tmp_path, text):
    (tmp_path / study.NAME).write_text(text)
    with pytest.raises(InputError, match="cannot read"):
        study.read(tmp_path)
    with pytest.raises(InputError, match="holds no scaling study"):
        study.read(tmp_path / "other")
