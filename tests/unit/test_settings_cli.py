"""The ``hpc-deepfake`` command and the options of training."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import fields

import pytest
from conftest import ROOT

from hpc_deepfake import __version__, cli
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.train.__main__ import parser

# calls the command with each list of arguments, then tells which modules that has loaded
PROGRAM = """
import json, sys
from hpc_deepfake.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["hpc-deepfake", *arguments]
    try:
        main()
    except SystemExit as leave:
        assert leave.code == 0, leave.code
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""


def loaded_by(*commands: list[str]) -> set[str]:
    """Top-level modules that a process has loaded after these commands."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, json.dumps(commands)], cwd=ROOT,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hpc-deepfake", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code


def test_help_loads_next_to_nothing():
    """Neither TensorFlow, MPI nor anything of numbers and pictures; the time is for the reader."""
    began = time.perf_counter()
    loaded = loaded_by(["--help"])
    print(f"hpc-deepfake --help: {time.perf_counter() - began:.2f} s")
    assert "hpc_deepfake" in loaded
    assert not loaded & {"tensorflow", "keras", "horovod", "mpi4py", "numpy", "h5py", "cv2", "PIL",
                         "matplotlib", "psutil"}


def test_no_commands_help_starts_mpi_or_tensorflow():
    """On a login node neither may be there at all."""
    loaded = loaded_by(*([word, "--help"] for word in cli.COMMANDS))
    assert "numpy" in loaded
    assert not loaded & {"tensorflow", "keras", "horovod", "mpi4py", "matplotlib"}


@pytest.mark.parametrize("word", cli.COMMANDS)
def test_every_command_has_help_with_an_example(monkeypatch, capsys, word):
    """Examples are lines to paste, of this very program."""
    assert run(monkeypatch, word, "--help") == 0
    out, err = capsys.readouterr()
    assert not err
    assert out.startswith("usage: ") and "--config" in out
    examples = out[out.index("example"):].splitlines()[1:]
    module = {"preprocess": "-m preprocessing", "train": "-m hpc_deepfake.train"}.get(
        word, f"hpc-deepfake {word}")
    assert examples[0].startswith("  ") and module in examples[0]


def test_help_names_every_command(monkeypatch, capsys):
    assert run(monkeypatch, "--help") == 0
    text = capsys.readouterr().out
    assert all(f"\n  {word} " in text for word in cli.COMMANDS)
    assert "mpirun -np" in text


def test_no_command_is_wrong_usage(monkeypatch, capsys):
    assert run(monkeypatch) == 2
    assert "usage:" in capsys.readouterr().out


@pytest.mark.parametrize("word", ["trian", "", "--verbose", "Train"])
def test_an_unknown_command_is_wrong_usage(monkeypatch, capsys, word):
    """Code 2, one message, with the commands there are."""
    assert run(monkeypatch, word) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(f"error: no command '{word}'; there are sample, ") and "train" in err
    assert err.count("\n") == 1


def test_version(monkeypatch, capsys):
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"hpc-deepfake {__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], [], ["--version"], ["nothing"],
                                       ["evaluate", "--help"], ["train", "--help"],
                                       ["predict", "--part"], ["summary", "nowhere"]])
def test_other_ranks_are_silent(monkeypatch, capsys, arguments):
    """Under mpirun only rank 0 speaks."""
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    run(monkeypatch, *arguments)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("arguments", "message"), [
    (["evaluate"], "name the model"), (["predict", "x.jpg"], "name the model"),
    (["predict", "--model", "nowhere", "x.jpg"], "no trained model"),
    (["evaluate", "--model", "nowhere"], "no trained model"),
    (["verify", "nowhere.h5"], "no data file"), (["summary", "nowhere"], "no finished run"),
    (["verify"], "required: FILE"), (["predict", "--model", "x"], "required: PATH"),
    (["evaluate", "--part", "some"], "invalid choice: 'some'")])
def test_wrong_usage_is_one_message_and_code_2(monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *arguments) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("error: ") and err.count("error:") == 1 and message in err


def test_interrupt_and_closed_pipe(monkeypatch, capsys):
    """Ctrl-C prints one line and ends with 130."""
    from hpc_deepfake.data import verify

    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(verify, "main", interrupted)
    assert run(monkeypatch, "verify", "x") == 130
    assert capsys.readouterr().err.strip() == "interrupted"


def test_every_setting_is_an_option_with_the_same_default():
    """``Settings`` is what a resumed run must share: nothing of it is out of a user's reach."""
    assert Settings.of(parser().parse([])) == Settings()


def test_settings_from_a_file_and_the_command_line(tmp_path):
    """Every setting can stand in the TOML file; the command line wins."""
    values = {"feature": "raw", "batch_size": 7, "accumulate": 3, "optimizer": "sgd",
              "learning_rate": 0.5, "decay": 0.25, "scale_rate": "sqrt", "warmup_steps": 9,
              "dropout": 0.1, "sync_bn": True, "precision": "bfloat16", "compression": "fp16",
              "monitor": "val_auc", "seed": 11, "rows": 5}
    assert set(values) == {field.name for field in fields(Settings)}
    file = tmp_path / "run.toml"
    file.write_text("".join(f"{name.replace('_', '-')} = {json.dumps(value)}\n"
                            for name, value in values.items()) + 'epochs = 4\ndata = "x.h5"\n')
    options = parser().parse(["--config", str(file), "--seed", "12", "--dropout", "0"])
    assert Settings.of(options).as_dict() == {**values, "seed": 12, "dropout": 0.0}
    assert (options.epochs, str(options.data), options.patience) == (4, "x.h5", 5)


def test_micro_batches_are_another_word_for_accumulate(tmp_path):
    """On the command line and in the file, so that a run on a mesh may go on without one."""
    assert parser().parse(["--micro-batches", "3"]).accumulate == 3
    file = tmp_path / "run.toml"
    file.write_text('micro-batches = 5\nmesh = "pipeline=2"\n')
    options = parser().parse(["--config", str(file)])
    assert (options.accumulate, options.mesh) == (5, "pipeline=2")


@pytest.mark.parametrize(("line", "message"), [
    ("epoch = 3", "unknown option 'epoch'; valid options: accumulate, allreduce, batch-size"),
    ("epochs = 0", "epochs: must be at least 1, not 0"),
    ("epochs = 1.5", "epochs"),
    ("epochs = '3'", "epochs must be a number"),
    ("dropout = 1", "dropout: must be from 0 to 0.99"),
    ("learning-rate = nan", "learning-rate: must be from 0 to 10"),
    ("monitor = 'loss'", "monitor: invalid choice: 'loss' (choose from 'val_loss'"),
    ("precision = 'float16'", "precision: invalid choice"),
    ("sync-bn = 1", "sync-bn must be true or false"),
    ("data = 3", "data must be a text"),
    ("strategy = ['sync']", "strategy must be one value")])
def test_a_bad_training_file_is_refused(tmp_path, capsys, line, message):
    """Unknown keys, wrong types and impossible values: code 2, the valid ones named."""
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
    ["--strategy", "none"], ["--device", "tpu"], ["--checkpoint-minutes", "inf"]])
def test_impossible_values_are_refused(capsys, arguments):
    with pytest.raises(SystemExit) as left:
        parser().parse(arguments)
    assert left.value.code == 2
    assert capsys.readouterr().err.count("error:") == 1


def test_strategy_for_a_number_of_ranks():
    from hpc_deepfake.strategies import choose

    assert [choose("auto", ranks) for ranks in (1, 2)] == ["sequential", "sync"]
    assert [choose("sync", ranks) for ranks in (1, 2)] == ["sync", "sync"]
    assert choose("sequential", 1) == "sequential"
    with pytest.raises(InputError, match="one rank, not 2"):
        choose("sequential", 2)


@pytest.mark.parametrize(("name", "ranks", "layout", "message"), [
    ("mesh", 4, {}, "say how the ranks share the work"),
    ("auto", 4, {"mesh": "tensor=2"}, "needs 1 · 2 · 1 = 2 ranks, and there are 4"),
    ("sync", 4, {"mesh": "data=4"}, "--strategy sync knows no --mesh"),
    ("mesh", 33, {"mesh": "tensor=33"}, "more than the 32 channels"),
    ("mesh", 7, {"mesh": "pipeline=7"}, "more than the 6 blocks"),
    ("mesh", 2, {"mesh": "pipeline=2", "stages": "conv2,dense1"}, "makes 3 stages")])
def test_a_mesh_that_does_not_fit_is_refused(name, ranks, layout, message):
    """On all ranks alike, before anything has started."""
    from hpc_deepfake.strategies import choose
    from hpc_deepfake.strategies.layout import Layout

    with pytest.raises(InputError, match=message) as error:
        choose(name, ranks, Settings(), Layout(**layout))
    assert error.value.everywhere
    assert choose("auto", 4, Settings(), Layout(mesh="data=2,pipeline=2")) == "mesh"
