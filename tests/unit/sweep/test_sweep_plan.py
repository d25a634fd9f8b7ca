"""What a sweep varies, its plan, and the states of its trials."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from data_files import make_data
from sweep_records import certain, ended, finish

from hpc_deepfake import sweep
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.sweep import plan as plans
from hpc_deepfake.sweep import search
from hpc_deepfake.train.options import parser as train_parser
from hpc_deepfake.train.recipes import RECIPES


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return make_data(tmp_path / "features.h5")


def planned(*words: str, grid: tuple[str, ...] = ("learning-rate=1e-4,3e-4", "batch-size=8,16"),
            ) -> plans.Sweep:
    """Plan a sweep in ``s`` and read it again."""
    assert sweep.main(["plan", "s", "--data", "features.h5", "--grid", *grid, *words]) == 0
    return plans.read(Path("s"))


# --- what is varied ----------------------------------------------------------------------------


def test_a_grid_has_every_combination_of_its_values():
    grid = search.read_grid(["learning-rate=1e-4,3e-4", "sync-bn=true,false",
                             "mesh=data=2,tensor=2;tensor=2"])
    assert list(grid) == ["learning_rate", "sync_bn", "mesh"]
    combined = list(search.combinations(grid, {}, 1, 0))
    assert len(combined) == 8 == len({str(one) for one in combined})
    assert combined[0] == {"learning_rate": 1e-4, "sync_bn": True, "mesh": "data=2,tensor=2"}


def test_draws_keep_to_their_ranges_and_the_first_ones_do_not_depend_on_their_number():
    words = ["learning-rate=log:1e-5:1e-2", "dropout=0.2:0.6", "batch-size=log:4:64",
             "epochs=3:4", "optimizer=adam,sgd"]
    drawn = search.read_random(words)
    many = list(search.combinations({}, drawn, 200, 7))
    assert list(search.combinations({}, drawn, 5, 7)) == many[:5]
    assert list(search.combinations({}, drawn, 5, 8)) != many[:5]
    rates = [one["learning_rate"] for one in many]
    assert all(1e-5 <= rate <= 1e-2 for rate in rates)
    # uniform by the logarithm: half of them below the geometric mean
    assert 70 < sum(rate < math.sqrt(1e-5 * 1e-2) for rate in rates) < 130
    assert all(0.2 <= one["dropout"] <= 0.6 for one in many)
    assert {one["epochs"] for one in many} == {3, 4}
    sizes = [one["batch_size"] for one in many]
    assert min(sizes) < 8 and max(sizes) > 48 and all(type(size) is int for size in sizes)
    assert {one["optimizer"] for one in many} == {"adam", "sgd"}
    assert all(rate == float(f"{rate:.3g}") for rate in rates)  # readable


def test_each_combination_of_a_grid_is_trained_with_each_draw():
    grid, drawn = search.read_grid(["epochs=2,3"]), search.read_random(["dropout=0:0.9"])
    combined = list(search.combinations(grid, drawn, 3, 0))
    assert [one["epochs"] for one in combined] == [2, 3] * 3
    assert len({one["dropout"] for one in combined}) == 3
    with pytest.raises(InputError, match="epochs is in both"):
        list(search.combinations(grid, search.read_random(["epochs=1:3"]), 2, 0))
    with pytest.raises(InputError, match="--trials 3: after 2 draws no other"):
        list(search.combinations({}, search.read_random(["epochs=1:2"]), 3, 0))


@pytest.mark.parametrize(("option", "word", "message"), [
    ("grid", "learning-rate", "give NAME=VALUES"),
    ("grid", "learning_rat=1", r"no option --learning-rat \(did you mean learning-rate\?\)"),
    ("grid", "batch-size=8,0", "--grid batch-size=8,0: argument --batch-size: .*at least 1, not 0|"
                               "--grid batch-size=8,0: must be at least 1, not 0"),
    ("grid", "batch-size=8,8", "give different values"),
    ("grid", "optimizer=rmsprop", "invalid choice"),
    ("grid", "sync-bn=yes", "give true"),
    ("grid", "seed=1,2", "use --repeats"),
    ("grid", "monitor=val_auc", "ranked by it"),
    ("grid", "recipe=best,original", "stands for other options"),
    ("grid", "device=cpu,gpu", "give it after --"),
    ("random", "dropout=0.5:0.1", "lower end of the range first"),
    ("random", "decay=log:0:0.1", "begins above 0"),
    ("random", "dropout=0:2", "from 0 to 0.99, not 2"),
    ("random", "optimizer=a:b", "invalid choice")])
def test_mistakes_in_what_is_varied(option, word, message):
    with pytest.raises(InputError, match=message):
        getattr(search, f"read_{option}")([word])


# --- the plan ----------------------------------------------------------------------------------


def test_repeats_are_outermost_with_consecutive_seeds_and_all_else_is_equal(data, capsys):
    own = planned("--repeats", "2", "--seed", "5", "--", "--epochs", "3", "--device", "cpu")
    assert [(trial.seed, trial.varied["learning_rate"], trial.varied["batch_size"])
            for trial in own.trials] == [
        (seed, rate, size) for seed in (5, 6) for rate in (1e-4, 3e-4) for size in (8, 16)]
    assert [trial.name for trial in own.trials] == [f"00{number}" for number in range(1, 9)]
    for trial in own.trials:
        options = train_parser().parse(own.arguments(Path("s"), trial))
        assert (options.epochs, options.strategy, options.patience) == (3, "sequential", 5)
        assert (options.run, options.data) == (Path(f"s/trials/{trial.name}"), data)
        assert options.resume and options.no_report and options.seed == trial.seed
        assert options.learning_rate == trial.varied["learning_rate"]
    assert own.device == "cpu" and own.monitor == "val_loss"
    out = capsys.readouterr().out
    assert "008  missing   seed 6  learning-rate 0.0003, batch-size 16" in out
    assert "8 trials on 1 rank: 8 missing" in out


def test_a_dry_run_writes_nothing(data, capsys):
    assert sweep.main(["plan", "s", "--data", "features.h5", "--grid", "dropout=0,0.5",
                       "--dry-run"]) == 0
    assert "2 trials on 1 rank" in capsys.readouterr().out and not Path("s").exists()


def test_more_values_and_repeats_are_added_and_numbers_stay(data):
    first = planned(grid=("batch-size=8,16",))
    more = planned("--repeats", "2", grid=("batch-size=16,32", "dropout=0.5,0.1"))
    assert more.trials[:2] == first.trials
    # batch size 16 with the default dropout is there; its second repeat isn't
    settings = [(trial.settings["batch_size"], trial.settings["dropout"], trial.seed)
                for trial in more.trials]
    assert settings == [(8, 0.5, 0), (16, 0.5, 0), (16, 0.1, 0), (32, 0.5, 0), (32, 0.1, 0),
                        (16, 0.5, 1), (16, 0.1, 1), (32, 0.5, 1), (32, 0.1, 1)]
    assert [trial.number for trial in more.trials] == list(range(1, 10))
    assert more.varied == ["batch_size", "dropout"]


def test_a_plan_of_an_earlier_version_may_have_its_words_in_another_order(data):
    common = ("--", "--epochs", "7", "--sync-bn")
    first = planned(*common, grid=("batch-size=8,16",))
    stored = json.loads(Path("s/sweep.json").read_text())
    stored["options"] = ["--sync-bn", "--epochs", "7"]
    stored["trials"][0]["arguments"] = ["--strategy", "sequential", "--sync-bn", "--batch-size",
                                        "8", "--epochs", "7"]
    Path("s/sweep.json").write_text(json.dumps(stored))
    more = planned(*common, grid=("batch-size=16,32",))
    assert more.trials[1:2] == first.trials[1:]
    assert [trial.settings["batch_size"] for trial in more.trials] == [8, 16, 32]
    assert [trial.number for trial in planned(*common, grid=("batch-size=8",)).trials] == [1, 2, 3]


@pytest.mark.parametrize(("words", "message"), [
    (["--grid", "dropout=0.1", "--", "--epochs", "4"], "was planned without options after --: "),
    (["--grid", "dropout=0.1", "--", "--dropout", "0.3"], "the sweep varies --dropout, and "),
    (["--grid", "dropout=0.1", "--ranks", "2"], "was planned with --ranks 1"),
    (["--ranks", "2"], "--ranks belongs to the plan of a sweep: .*has its plan already"),
    (["--", "--epochs", "4"], "-- belongs to the plan"),
    (["--trials", "2", "--grid", "dropout=0.1"], "--trials is the number of draws of --random")])
def test_what_all_trials_share_cannot_change(data, words, message):
    planned()
    before = Path("s/sweep.json").read_text()
    with pytest.raises(InputError, match=message):
        sweep.main(["plan", "s", *words[:words.index("--") if "--" in words else None],
                    *(["--data", "features.h5"] if "--grid" in words else []),
                    *(words[words.index("--"):] if "--" in words else [])])
    assert Path("s/sweep.json").read_text() == before


def test_another_state_of_the_data_file_is_refused(data):
    planned()
    data.unlink()
    make_data(data, seed=6)
    with pytest.raises(InputError, match="another state of"):
        planned(grid=("dropout=0.1",))
    with pytest.raises(InputError, match="has changed since the sweep was planned"):
        sweep.main(["run", "s"])


@pytest.mark.parametrize(("words", "message"), [
    (["--grid", "feature=ela,wavelets"], "no feature 'wavelets'; it has ela, raw"),
    (["--grid", "strategy=sync,sequential", "--ranks", "2"],
     "strategy sequential on 2 ranks: --strategy sequential runs on one rank"),
    (["--grid", "dropout=0.1", "--ranks", "3", "--nodes", "2"], "can't be divided evenly"),
    (["--grid", "epochs=2,3", "--", "--run", "x"], "--run after -- .* each trial has its own"),
    (["--grid", "epochs=2,3", "--", "--seed", "3"], "give --seed before the --"),
    (["--grid", "epochs=2,3", "--repeats", "5001"], "10,002 trials, and at most 10,000")])
def test_impossible_trials_are_refused_before_anything_is_written(data, words, message):
    at = words.index("--") if "--" in words else len(words)
    with pytest.raises(InputError, match=message):
        sweep.main(["plan", "s", *words[:at], "--data", "features.h5", *words[at:]])
    assert not Path("s").exists()


def test_a_mistake_in_the_common_options_ends_like_that_of_train(data, capsys):
    with pytest.raises(SystemExit) as left:
        sweep.main(["plan", "s", "--data", "features.h5", "--grid", "dropout=0", "--",
                    "--epochs", "0"])
    assert left.value.code == 2 and not Path("s").exists()


def test_options_whose_values_depend_on_others(data, monkeypatch):
    """A network's own dropout is not that of the default network; a recipe's values are recorded,
    and an explicit value wins, also where it is the plain default."""
    monkeypatch.setitem(RECIPES, "best", {"patience": 12, "ema": 0.5})
    own = planned("--", "--recipe", "best", "--patience", "5", grid=("network=table,meso4",))
    assert [trial.arguments for trial in own.trials] == [
        ("--ema", "0.5", "--strategy", "sequential"),
        ("--network", "meso4", "--ema", "0.5", "--strategy", "sequential")]
    assert [trial.settings["dropout"] for trial in own.trials] == [0.5, None]


def test_options_of_a_configuration_file_are_part_of_the_plan(data):
    """The file itself is not needed later, and may change."""
    Path("own.toml").write_text("epochs = 7\nsync-bn = true\n")
    own = planned("--", "--config", "own.toml", grid=("dropout=0.1,0.2",))
    Path("own.toml").unlink()
    assert own.options == ("--epochs", "7", "--sync-bn")
    assert plans.read(Path("s")).trials[0].settings["sync_bn"] is True


def test_synthetic_pictures_need_no_data_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["plan", "s", "--grid", "dropout=0,0.5", "--", "--synthetic", "64"]
    assert sweep.main(words) == 0
    own = plans.read(Path("s"))
    assert own.data == "" and "--data" not in own.arguments(Path("s"), own.trials[0])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"trials": []}', '{"trials": [{"number": 1}]}'])
def test_a_damaged_plan_is_reported_in_one_message(tmp_path, text):
    (tmp_path / plans.NAME).write_text(text)
    with pytest.raises(InputError, match=r"cannot read .*Move it away and plan"):
        plans.read(tmp_path)
    with pytest.raises(InputError, match="holds no sweep"):
        plans.read(tmp_path / "other")


def test_unknown_subcommands_and_help(capsys):
    with pytest.raises(InputError, match="unknown subcommand 'rnu': give plan, run, submit"):
        sweep.main(["rnu"])
    for words in (["--help"], ["plan", "--help"], ["run", "--help"], ["submit", "--help"],
                  ["report", "--help"]):
        with pytest.raises(SystemExit) as left:
            sweep.main(words)
        assert left.value.code == 0
    assert "--at-once K" in capsys.readouterr().out


# --- states ------------------------------------------------------------------------------------


def test_the_state_of_each_trial(data, capsys):
    """Done and diverged ones have their results; all others are missing."""
    own = planned("--repeats", "2")
    folder = Path("s")
    finish(folder, 1, certain(0.9), device="cpu")  # the job decides on the device
    ended(folder, 2, 3, "error: the training diverged: loss is not finite")
    ended(folder, 3, 75)
    ended(folder, 4, 137, "error: out of memory\nmore")
    run = ended(folder, 5, 0)
    (run / "jobs" / "outcome").unlink()
    (run / "config.json").write_text(json.dumps(own.trial(5).settings))
    run = ended(folder, 6, 1)
    (run / "diverged.json").write_text('{"message": "diverged in step 3"}')
    states = plans.states(folder, own)
    assert [state for state, _ in states] == [
        "done", "diverged", "stopped", "failed", "started", "diverged", "missing", "missing"]
    assert states[1][1].startswith("error: the training diverged")
    assert states[3][1] == "exit code 137: error: out of memory"
    assert states[5][1] == "diverged in step 3"
    assert sweep.main(["plan", "s"]) == 0
    out = capsys.readouterr().out
    assert "8 trials on 1 rank: 1 done, 2 diverged, 1 stopped, 1 failed, 1 started, 2 missing" \
        in out
    assert "finished trials took 4.5 s (median); 5 left: about 0.01 hours" in out
    # for a job script: the first that is missing, then those after it
    assert sweep.main(["next", "s"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["3", "s/trials/003", "1"]
    assert lines[3:] == own.arguments(folder, own.trial(3))
    for words, number in ((["--after", "5"], "7"), (["8"], "8")):
        assert sweep.main(["next", "s", *words]) == 0
        assert capsys.readouterr().out.startswith(f"{number}\n")
    for words in (["1"], ["2"], ["--after", "8"]):
        assert sweep.main(["next", "s", *words]) == 0
        assert capsys.readouterr().out == ""
    with pytest.raises(InputError, match="there is no trial 9: the sweep has 8 trials"):
        sweep.main(["next", "s", "9"])


def test_a_run_with_other_options_is_refused(data):
    planned()
    finish(Path("s"), 2, certain(0.9), learning_rate=0.5)
    for words in (["plan", "s"], ["report", "s"], ["run", "s"]):
        with pytest.raises(InputError, match=r"s/trials/002 holds a run with --learning-rate 0.5, "
                                             "unlike trial 2 of the sweep: move it away"):
            sweep.main(words)
