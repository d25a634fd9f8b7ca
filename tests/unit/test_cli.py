"""The ``hpc-deepfake`` command."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import NoReturn

import pytest
from conftest import ROOT
from speed import limit

from hpc_deepfake import __version__, cli

# calls the command with each list of arguments, then prints the modules that this loaded
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
                          capture_output=True, text=True, timeout=limit(60))
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hpc-deepfake", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code


def test_help_loads_only_light_packages():
    """Neither TensorFlow, MPI nor packages for numbers and pictures; the time is printed only."""
    began = time.perf_counter()
    loaded = loaded_by(["--help"])
    print(f"hpc-deepfake --help: {time.perf_counter() - began:.2f} s")
    assert "hpc_deepfake" in loaded
    assert not loaded & {"tensorflow", "keras", "horovod", "mpi4py", "numpy", "h5py", "cv2", "PIL",
                         "matplotlib", "psutil"}


def test_the_help_of_a_command_loads_neither_mpi_nor_tensorflow():
    """A login node may have neither."""
    loaded = loaded_by(*([command, "--help"] for command in cli.COMMANDS))
    assert "numpy" in loaded
    assert not loaded & {"tensorflow", "keras", "horovod", "mpi4py", "matplotlib"}


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help_with_an_example(monkeypatch, capsys, command):
    """Examples are lines to paste that call this command."""
    assert run(monkeypatch, command, "--help") == 0
    out, err = capsys.readouterr()
    assert not err
    assert out.startswith(f"usage: hpc-deepfake {command} ") and "exit codes: 0" in out
    # where there are options that a file could set
    assert ("--config" in out) == (command not in (
        "verify", "scaling", "summary", "sweep", "job"))
    examples = out[out.index("example"):].splitlines()[1:]
    module = {"preprocess": "-m preprocessing", "train": "-m hpc_deepfake.train"}.get(
        command, f"hpc-deepfake {command}")
    assert examples[0].startswith("  ") and module in examples[0]


def test_help_lists_every_command_and_the_environment_variables(monkeypatch, capsys):
    assert run(monkeypatch, "--help") == 0
    text = capsys.readouterr().out
    assert all(f"\n  {command} " in text for command in cli.COMMANDS)
    assert "mpirun -np" in text
    assert "HPC_DEEPFAKE_LOG" in text and "HPC_DEEPFAKE_DATA" in text


def test_no_command_is_wrong_usage(monkeypatch, capsys):
    assert run(monkeypatch) == 2
    assert "usage:" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["trian", "", "--verbose", "Train"])
def test_an_unknown_command_is_wrong_usage(monkeypatch, capsys, command):
    """Exit code 2, and one message that lists the commands."""
    assert run(monkeypatch, command) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(f"error: there is no command '{command}'; give one of sample, ")
    assert "train" in err
    assert err.count("\n") == 1


def test_version(monkeypatch, capsys):
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"hpc-deepfake {__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], [], ["--version"], ["nothing"],
                                       ["evaluate", "--help"], ["train", "--help"],
                                       ["summary", "--part"], ["summary", "nowhere"]])
def test_other_ranks_are_silent(monkeypatch, capsys, arguments):
    """Under mpirun only rank 0 prints; it ends with the others, which wait for that."""
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")

    def killed(seconds: float) -> NoReturn:
        raise SystemExit

    monkeypatch.setattr(time, "sleep", killed)
    run(monkeypatch, *arguments)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("arguments", "message"), [
    (["evaluate"], "name the model"), (["predict", "x.jpg"], "name the model"),
    (["predict", "--model", "nowhere", "x.jpg"], "no trained model"),
    (["evaluate", "--model", "nowhere"], "no trained model"),
    (["verify", "nowhere.h5"], "no data file"), (["summary", "nowhere"], "no finished run"),
    (["verify"], "required: FILE"), (["predict", "--model", "x"], "required: PATH"),
    (["evaluate", "--part", "some"], "invalid choice: 'some'")])
def test_wrong_usage_is_one_message_and_exit_code_2(monkeypatch, capsys, tmp_path, arguments,
                                                    message):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *arguments) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("error: ") and err.count("error:") == 1 and message in err


def test_an_interrupt_is_one_line_and_exit_code_130(monkeypatch, capsys):
    from hpc_deepfake.data import verify

    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(verify, "main", interrupted)
    assert run(monkeypatch, "verify", "x") == 130
    assert capsys.readouterr().err.strip() == "interrupted"


def test_a_wrong_log_level_is_wrong_usage(monkeypatch, capsys):
    """Exit code 2, one message with the valid levels; ``--help`` works regardless."""
    monkeypatch.setenv("HPC_DEEPFAKE_LOG", "loud")
    assert run(monkeypatch, "verify", "x.h5") == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1
    assert err.startswith("error: HPC_DEEPFAKE_LOG=loud is not a log level: set it to debug, info")
    assert run(monkeypatch, "--help") == 0
