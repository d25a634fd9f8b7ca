"""The options of training, on the command line and in a file."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network.settings import OPTIMIZERS, RATE_SCHEDULES, Settings
from hpc_deepfake.train import planned
from hpc_deepfake.train.options import check, parser
from hpc_deepfake.train.recipes import RECIPES


def test_every_setting_is_an_option_with_the_same_default():
    """``Settings`` holds what a resumed run must share; a user can set all of it."""
    assert Settings.of(parser().parse([])) == Settings()


def test_settings_from_a_file_and_the_command_line(tmp_path):
    """Every setting can come from the TOML file; the command line overrides it."""
    values = {"feature": "raw", "batch_size": 7, "accumulate": 3, "optimizer": "sgd",
              "learning_rate": 0.5, "decay": 0.25, "scale_rate": "sqrt", "warmup_steps": 9,
              "clip_norm": 2.5, "dropout": 0.1, "sync_bn": True, "precision": "bfloat16",
              "compression": "fp16", "monitor": "val_auc", "seed": 11, "rows": 5,
              "label_smoothing": 0.25, "class_weight": "balanced", "ema": 0.5, "momentum": 0.9,
              "nesterov": True, "weight_decay": 0.125, "rate_schedule": "step", "rate_epochs": 3,
              "rate_factor": 0.5, "network": "meso4", "augment": "flip",
              "freeze": "conv*"}
    assert set(values) == {field.name for field in fields(Settings)}
    file = tmp_path / "run.toml"
    file.write_text("".join(f"{name.replace('_', '-')} = {json.dumps(value)}\n"
                            for name, value in values.items()) + 'epochs = 4\ndata = "x.h5"\n')
    options = parser().parse(["--config", str(file), "--seed", "12", "--dropout", "0"])
    assert Settings.of(options).as_dict() == {**values, "seed": 12, "dropout": 0.0}
    assert (options.epochs, str(options.data), options.patience) == (4, "x.h5", 5)


def test_micro_batches_is_an_alias_of_accumulate(tmp_path):
    """On the command line and in the file, so that a run on a mesh can be resumed without one."""
    assert parser().parse(["--micro-batches", "3"]).accumulate == 3
    file = tmp_path / "run.toml"
    file.write_text('micro-batches = 5\nmesh = "pipeline=2"\n')
    options = parser().parse(["--config", str(file)])
    assert (options.accumulate, options.mesh) == (5, "pipeline=2")


@pytest.mark.parametrize(("line", "message"), [
    ("epoch = 3", "unknown option 'epoch'; valid options: accumulate, allreduce, augment"),
    ("epochs = 0", "epochs: must be at least 1, not 0"),
    ("epochs = 1.5", "epochs"),
    ("epochs = '3'", "epochs must be a number"),
    ("dropout = 1", "dropout: must be from 0 to 0.99"),
    ("learning-rate = nan", "learning-rate: must be above 0 and at most 10"),
    ("learning-rate = 0", "learning-rate: must be above 0 and at most 10"),
    ("monitor = 'loss'", "monitor: invalid choice: 'loss' (choose from 'val_loss'"),
    ("precision = 'float16'", "precision: invalid choice"),
    ("sync-bn = 1", "sync-bn must be true or false"),
    ("data = 3", "data must be a string"),
    ("strategy = ['sync']", "strategy must be one value")])
def test_a_bad_training_file_is_rejected(tmp_path, capsys, line, message):
    """Unknown keys, wrong types and impossible values: exit code 2, with the valid ones listed."""
    file = tmp_path / "run.toml"
    file.write_text(line)
    with pytest.raises(SystemExit) as left:
        parser().parse(["--config", str(file)])
    assert left.value.code == 2
    err = capsys.readouterr().err
    assert err.count("error:") == 1 and message in err and "run.toml" in err


@pytest.mark.parametrize("arguments", [
    ["--epochs", "0"], ["--dropout", "1"], ["--batch-size", "-1"], ["--learning-rate", "nan"],
    ["--seed", "-1"], ["--accumulate", "0"], ["--keep", "0"], ["--epochs", "1e3"], ["x"],
    ["--strategy", "none"], ["--device", "tpu"], ["--checkpoint-minutes", "inf"],
    ["--seed", str(2**32)], ["--seed", "9" * 5000], ["--threads", "99999"],
    ["--batch-size", str(10**30)], ["--accumulate", str(10**9)], ["--warmup-steps", "9" * 400],
    ["--synthetic", str(10**12)], ["--clip-norm", "-1"], ["--clip-norm", "inf"],
    ["--ema", "1"], ["--momentum", "1"], ["--rate-factor", "0"], ["--rate-epochs", "0"],
    ["--label-smoothing", "1"], ["--weight-decay", "-1"], ["--recipe", "worst"]])
def test_impossible_values_are_rejected(capsys, arguments):
    with pytest.raises(SystemExit) as left:
        parser().parse(arguments)
    assert left.value.code == 2
    assert capsys.readouterr().err.count("error:") == 1


def test_the_strategy_that_fits_a_number_of_ranks():
    from hpc_deepfake.strategies import choose

    assert [choose("auto", ranks) for ranks in (1, 2)] == ["sequential", "sync"]
    assert [choose("sync", ranks) for ranks in (1, 2)] == ["sync", "sync"]
    assert choose("sequential", 1) == "sequential"
    with pytest.raises(InputError, match="one rank, not 2"):
        choose("sequential", 2)


@pytest.mark.parametrize(("name", "ranks", "settings", "servers", "message"), [
    ("sequential", 1, {"compression": "fp16"}, 1, "exchanges nothing.*fp16 is for sync and async"),
    ("auto", 1, {"compression": "bf16"}, 1, "exchanges nothing.*bf16 for hybrid"),
    ("local-sgd", 2, {"compression": "fp16"}, 1, "averages weights"),
    ("async", 3, {"scale_rate": "linear"}, 1, "does not support --scale-rate.*--staleness-rate"),
    ("async", 1000, {}, 400, "at most 370 servers, not 400"),
    ("async", 3, {}, 3, "needs a rank for each server")])
def test_options_that_a_strategy_would_ignore_are_refused(name, ranks, settings, servers, message):
    from hpc_deepfake.strategies import choose
    from hpc_deepfake.strategies.layout import Layout

    with pytest.raises(InputError, match=message) as error:
        choose(name, ranks, Settings(**settings), Layout(servers=servers))
    assert error.value.everywhere


@pytest.mark.parametrize(("arguments", "message"), [
    ("--momentum 0.9", "--momentum 0.9: adam has its own.*--optimizer sgd"),
    ("--optimizer sgd --nesterov", "--nesterov is a form of momentum"),
    ("--weight-decay 0.1", "--optimizer adamw"),
    ("--rate-schedule cosine --decay 0.1", "--decay 0.1 is for --rate-schedule inverse-time"),
    ("--rate-epochs 3", "needs --rate-schedule cosine, step or plateau"),
    ("--schedule cosine --rate-factor 0.5", "is for --rate-schedule step and plateau"),
    ("--rate-schedule cosine --rate-epochs 8 --epochs 9", "train for at most 8 epochs"),
    ("--rate-schedule plateau --rate-epochs 5", "--patience 5 has ended the training")])
def test_options_of_the_optimizer_without_effect_are_refused(arguments, message):
    """On all ranks alike, before anything starts; with what they need they are accepted."""
    with pytest.raises(InputError, match=message) as error:
        check(parser().parse(arguments.split()), 1)
    assert error.value.everywhere
    for accepted in ("--optimizer sgd --momentum 0.9 --nesterov --weight-decay 0.1",
                     "--optimizer adam --weight-decay 0 --rate-schedule plateau --patience 0",
                     "--rate-schedule cosine --epochs 9 --momentum 0"):
        assert check(parser().parse(accepted.split()), 1) == "sequential"


def test_lamb_is_refused_where_there_are_no_layers():
    from hpc_deepfake.strategies import choose

    with pytest.raises(InputError, match=r"norm of each layer.*Use adamw"):
        choose("async", 3, Settings(optimizer="lamb"))
    assert choose("sync", 3, Settings(optimizer="lamb")) == "sync"


def test_what_the_optimizer_and_its_rate_do_without_a_value():
    """The course of a cosine is that of all epochs, and a resumed run must have the same."""
    def of(arguments: str) -> Settings:
        return Settings.of(parser().parse(arguments.split()))

    assert [of(f"--optimizer {name}").decay_of_weights for name in OPTIMIZERS] == [0, .01, 0, .01]
    assert of("--optimizer adamw --weight-decay 0").decay_of_weights == 0
    assert [of(f"--rate-schedule {name} --epochs 7").epochs_of_rate
            for name in RATE_SCHEDULES] == [0, 7, 10, 2]
    assert of("--schedule cosine --epochs 7") == of("--rate-schedule cosine --epochs 7") \
        != of("--rate-schedule cosine --epochs 8")


def test_a_rate_schedule_by_the_name_of_the_schedule_of_a_mesh(capsys):
    """``--schedule`` takes the values of both; that of the mesh keeps its default."""
    options = parser().parse(["--schedule", "step"])
    assert (options.rate_schedule, options.schedule) == ("step", "1f1b")
    options = parser().parse(["--schedule", "gpipe", "--rate-schedule", "cosine"])
    assert (options.rate_schedule, options.schedule) == ("cosine", "gpipe")
    with pytest.raises(SystemExit):
        parser().parse(["--schedule", "step", "--rate-schedule", "cosine"])
    assert "contradict each other" in capsys.readouterr().err


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_a_course_that_can_be_trained(recipe: str) -> None:
    options = parser().parse(["--recipe", recipe])
    Settings.of(options).check(options.epochs, options.patience)


def test_a_recipe_gives_values_that_the_user_may_give(tmp_path, monkeypatch):
    """A file and the command line win, also with the values of the plain defaults; the recipe is
    recorded by its name and its values, and a command line made of them is complete."""
    monkeypatch.setitem(RECIPES, "best", {"patience": 12, "augment": "flip", "ema": 0.5})
    cli = parser()
    plain = vars(cli.parse([]))
    assert plain["recipe"] is None
    assert vars(cli.parse(["--recipe", "original"])) == {**plain, "recipe": "original"}
    best = {**plain, "recipe": "best", "patience": 12, "augment": "flip", "ema": 0.5}
    assert vars(cli.parse(["--recipe", "best"])) == best
    assert vars(cli.parse([])) == plain
    given = cli.parse(["--ema", "0", "--recipe=best", "--patience", "5"])
    assert vars(given) == {**plain, "recipe": "best", "augment": "flip"}
    assert vars(cli.parse(cli.words(given))) == vars(given)
    file = tmp_path / "run.toml"
    file.write_text('recipe = "best"\npatience = 5\n')
    options = vars(parser().parse(["--config", str(file), "--augment", "none"]))
    assert options == {**plain, "recipe": "best", "ema": 0.5, "config": file}
    values = {**planned.settings(given), "recipe": None}  # of before, or given one by one
    assert not planned.changed_options(planned.settings(given), values)
    assert not planned.changed_options(values, planned.settings(given))


def test_every_recipe_is_valid():
    for name in RECIPES:
        assert check(parser().parse(["--recipe", name]), 2) == "sync"


@pytest.mark.parametrize(("name", "ranks", "layout", "message"), [
    ("mesh", 4, {}, "say how the ranks share the work"),
    ("auto", 4, {"mesh": "tensor=2"}, "needs 1 · 2 · 1 = 2 ranks, but there are 4"),
    ("sync", 4, {"mesh": "data=4"}, "--strategy sync does not support --mesh"),
    ("mesh", 33, {"mesh": "tensor=33"}, "more than the 32 channels"),
    ("mesh", 7, {"mesh": "pipeline=7"}, "more than the 6 blocks"),
    ("mesh", 2, {"mesh": "pipeline=2", "stages": "conv2,dense1"}, "makes 3 stages"),
    ("sync", 2, {"stages": "conv2"}, "has no stages for --stages conv2"),
    ("auto", 2, {"sync_every": 4}, "--strategy sync does not support --sync-every 4")])
def test_a_mesh_that_does_not_fit_is_rejected(name, ranks, layout, message):
    """On all ranks alike, before anything starts."""
    from hpc_deepfake.strategies import choose
    from hpc_deepfake.strategies.layout import Layout

    with pytest.raises(InputError, match=message) as error:
        choose(name, ranks, Settings(), Layout(**layout))
    assert error.value.everywhere
    assert choose("auto", 4, Settings(), Layout(mesh="data=2,pipeline=2")) == "mesh"
