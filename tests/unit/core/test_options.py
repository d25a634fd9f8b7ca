"""Options from the command line and from a TOML file."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NoReturn

import pytest

from hpc_deepfake.core import options as module
from hpc_deepfake.core.options import Parser, add_deterministic, at_least, between
from preprocessing.__main__ import parser


@pytest.fixture
def config(tmp_path):
    def write(text: str | bytes) -> str:
        file = tmp_path / "run.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(file)

    return write


def small_parser() -> Parser:
    cli = Parser(prog="small")
    cli.add_argument("--rate", type=between(0, 1), default=0.5)
    cli.add_argument("--batch-size", type=at_least(1), default=32)
    cli.add_argument("--fast", action="store_true")
    return cli


def test_the_command_line_overrides_the_file(config):
    file = config('data = "pictures"\nsplit = "70/10/20"\nsplit_by = "image"\nmax-rejects = 5\n'
                  'features = ["raw"]\nseed = 7\nquality = 80\n')
    options = parser().parse(["--config", file, "--seed", "8", "--quality=75"])
    assert options.data == Path("pictures")
    assert (options.split, options.split_by, options.max_rejects) == ("70/10/20", "image", "5")
    assert options.features == ["raw"]
    assert (options.seed, options.quality) == (8, 75)
    assert options.writer == "auto"
    options = small_parser().parse(["--config", config("rate = 1\nbatch-size = 2\nfast = true")])
    assert (options.rate, options.batch_size, options.fast) == (1.0, 2, True)


def test_a_switch_that_is_on_is_turned_off(config):
    """By its own name in a file, and by its negation where a command line is written."""
    cli = small_parser()
    add_deterministic(cli)
    assert cli.parse([]).deterministic and cli.words(cli.parse([])) == []
    off = cli.parse(["--config", config("deterministic = false")])
    assert not off.deterministic and cli.words(off) == ["--no-deterministic"]
    assert cli.parse(["--config", config("deterministic = false"), "--deterministic"]).deterministic
    with pytest.raises(SystemExit):
        cli.parse(["--config", config("no-deterministic = true")])


@pytest.mark.parametrize(("text", "message"), [
    ("sead = 1", "unknown option 'sead'; valid options: authentic, crop, data, features, "
     "frame-rate, frames-per-video, group-by, manifest, margin, masks, max-rejects"),
    ("[preprocessing]\nseed = 1", "unknown option 'preprocessing'; valid options:"),
    ("help = true", "unknown option 'help'"),
    ("config = 'other.toml'", "unknown option 'config'"),
    ("seed = '7'", "seed must be a number, not '7'"),
    ("seed = true", "seed must be a number, not True"),
    ("seed = 1.5", "seed: invalid whole number value: '1.5'"),
    ("seed = -1", "seed: must be at least 0, not -1"),
    ("seed = [1]", "seed must be one value, not [1]"),
    ("data = 3", "data must be a string, not 3"),
    ("out = ['a']", "out must be one value"),
    ("split = {a = 1}", "split must be a string or a number"),
    ("split = 2026-01-01", "split must be a string or a number"),
    ("writer = 'hdf'", "writer: invalid choice: 'hdf' (choose from 'auto', 'hdf5', 'mpi-io')"),
    ("features = 'ela'", "features must be a list of one or more, not 'ela'"),
    ("features = []", "features must be a list of one or more, not []"),
    ("features = ['ela', 'x']",
     "features: invalid choice: 'x' (choose from 'ela', 'gray_bits', 'raw')"),
    ("features = [true]", "features must be a string or a number, not True"),
    ("seed = ", "is not valid TOML"),
    (b"data = '\xff'", "cannot read the configuration"),
])
def test_a_bad_file_is_rejected_with_the_valid_options(config, capsys, text, message):
    with pytest.raises(SystemExit) as left:
        parser().parse(["--config", config(text)])
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("error:") == 1
    assert message in error
    assert "run.toml" in error


def test_switches_and_ranges_in_a_file(config, capsys):
    for text, message in (("fast = 1", "fast must be true or false, not 1"),
                          ("rate = 1.5", "rate: must be from 0 to 1, not 1.5"),
                          ("rate = nan", "rate: must be from 0 to 1, not nan"),
                          ("rate = 'much'", "rate must be a number")):
        with pytest.raises(SystemExit):
            small_parser().parse(["--config", config(text)])
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--config", "nowhere.toml"], ["--config"], ["--sed", "1"],
                                  ["--seed", "x"], ["--seed", "-1"], ["--features"], ["extra"],
                                  ["--features", "ela", "gray"], ["--qual", "90"]])
def test_wrong_usage_is_exit_code_2_and_one_error_line(capsys, argv):
    with pytest.raises(SystemExit) as left:
        parser().parse(argv)
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert error.count("error:") == 1 and "--help" in error


@pytest.mark.parametrize("argv", [["--help"], ["--config"], ["--seed", "x"]])
def test_other_ranks_are_silent(capsys, monkeypatch, argv):
    """They wait for rank 0 to print, and end with it: mpirun kills them."""
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "3")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")

    def killed(seconds: float) -> NoReturn:
        raise SystemExit

    monkeypatch.setattr(time, "sleep", killed)
    with pytest.raises(SystemExit):
        parser().parse(argv)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("left_over", [
    {"PMI_RANK": "3"}, {"PMIX_RANK": "3"}, {"OMPI_COMM_WORLD_RANK": "x"},
    {"PMI_RANK": "3", "PMI_SIZE": "2"}, {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4"}])
def test_wrong_usage_is_told_where_variables_of_a_launcher_are_left_over(capsys, monkeypatch,
                                                                         left_over):
    """A complete set is believed, until nobody ends this process while it waits."""
    for name, value in left_over.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(SystemExit) as left:
        parser().parse(["--bogus"])
    assert left.value.code == 2
    assert capsys.readouterr().err.count("--bogus") == 1


def test_help_shows_defaults_and_examples(capsys):
    with pytest.raises(SystemExit) as left:
        parser().parse(["--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert "mpirun -np 8 python -m preprocessing" in text
    assert "(default: 80/20)" in " ".join(text.split())
    assert "(default: ela raw)" in " ".join(text.split())


def test_help_wraps_the_description_and_leaves_the_epilog_as_written(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    cli = Parser(prog="small", description="word " * 30, epilog="examples:\n  " + "x" * 70)
    cli.add_argument("--ranks", type=int, nargs="+", default=[1, 2], help="numbers of ranks")
    with pytest.raises(SystemExit):
        cli.parse(["--help"])
    text = capsys.readouterr().out
    assert "examples:\n  " + "x" * 70 in text
    assert "numbers of ranks (default: 1 2)" in text
    assert all(len(line) <= 60 for line in text.splitlines() if "xxx" not in line)


def test_default_data_folder(monkeypatch):
    monkeypatch.delenv("HPC_DEEPFAKE_DATA", raising=False)
    assert module.default_data() == Path("data")
    monkeypatch.setenv("HPC_DEEPFAKE_DATA", "/scratch/casia")
    assert module.default_data() == Path("/scratch/casia")


def test_argument_types():
    assert at_least(1)("3") == 3
    assert between(0, 1)("0.5") == 0.5
    for kind, text in ((at_least(1), "0"), (between(0, 1), "2"), (between(0, 1), "nan")):
        with pytest.raises(argparse.ArgumentTypeError):
            kind(text)
