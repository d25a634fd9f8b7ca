"""What ``job submit`` refuses because the job would, at its start: on the login node, and before
anything is submitted or written."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import pytest
from job_scripts import command

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.jobs import command as job
from hpc_deepfake.jobs import inputs

LEFT = {"x.h5", "pictures", "run", "run.toml", "bin"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all that jobs read, and a played scheduler."""
    for folder in ("pictures", "run", "bin"):
        (tmp_path / folder).mkdir()
    (tmp_path / "x.h5").touch()
    (tmp_path / "run.toml").write_text("epochs = 3\n")
    for name in ("sbatch", "qsub"):
        command(tmp_path / "bin", name, f"touch {tmp_path}/submitted; echo 101")
    for name in ("DATA", "RUN", "CONFIG", "ARGS", "DEVICE", "PICTURES", "SITE", "TRAIN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def submit(text: str, *more: str, scheduler: str = "slurm") -> int:
    """``job submit``, of words such as ``train_cpu DATA=x.h5 -- --epochs 3``."""
    name, *words = text.split()
    end = words.index("--") if "--" in words else len(words)
    variables = [part for word in words[:end] for part in ("--var", word)]
    return job.main(["submit", scheduler, name, *variables, *more, *words[end:]])


@pytest.mark.parametrize(("words", "message"), [
    ("train_cpu DATA=no.h5 -- --epochs 3", "DATA=no.h5: there is no such data file in .*--after"),
    ("train_cpu -- --data /no.h5", "--data /no.h5: there is no such data file. "),
    ("train_cpu CONFIG=no.toml", "cannot read CONFIG=no.toml in "),
    ("train_cpu DEVICE=cuda", "DEVICE=cuda: give cpu, gpu or auto"),
    ("train_cpu MAX_RESTARTS=x", "MAX_RESTARTS=x: give a number"),
    ("preprocess PICTURES=/no", "PICTURES=/no: there is no such folder of pictures. Name"),
    ("preprocess PICTURES=x.h5", "no such folder of pictures in "),
    ("preprocess -- --authentic no --tampered pictures", "--authentic no: there is no such"),
    ("preprocess -- --manifest no.csv", "--manifest no.csv: there is no such list of files in "),
    ("evaluate RUN=no", "RUN=no: there is no such run in "),
    ("evaluate RUN=run DATA=no.h5", "DATA=no.h5: there is no such data file"),
    ("compare DATA=no.h5", "DATA=no.h5: there is no such data file"),
    ("crosseval", "name data files to train on, like --var TRAIN_DATA="),
    ("crosseval TEST_DATA=x.h5", "name data files to train on, like --var TRAIN_DATA="),
    ("crosseval TRAIN_DATA=x.h5 -- --test a=no.h5", "--test no.h5: there is no such data file in"),
    ("crosseval MODELS=run/no", "--models run/no: there is no such run in .*--after"),
    ("sweep", "name the folder of the sweep, like --var RUN="),
    ("sweep RUN=run", "RUN=run: that folder holds no sweep"),
    ("sweep RUN=run -- --epochs 3", "the plan has the options of all trials"),
    ("pipeline PICTURES=no", "PICTURES=no: there is no such folder"),
    ("pipeline TRAIN=evaluate", "TRAIN=evaluate: give one of train_4gpu, train_cpu, train_multi"),
    ("pipeline EVALUATE_DEVICE=cuda", "EVALUATE_DEVICE=cuda: give"),
    ("scaling_study ONE_JOB=maybe", "ONE_JOB=maybe: give 1, or leave it out"),
    ("scaling_study DATA=no.h5", "DATA=no.h5: there is no such data file")])
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_input_and_values(here: Path, words: str, message: str, more: list[str]) -> None:
    with pytest.raises(InputError, match=message):
        submit(words, *more)
    assert {path.name for path in here.iterdir()} == LEFT


@pytest.mark.parametrize(("words", "message"), [
    ("train_cpu DATA=x.h5 -- --epcohs 3", "unrecognized arguments: --epcohs 3"),
    ("train_cpu ARGS=--epochs=0", "argument --epochs: must be at least 1, not 0"),
    ("train_cpu CONFIG=bad.toml", "unknown option 'epcohs'"),
    ("preprocess PICTURES=pictures -- --split", "argument --split: expected one argument"),
    ("evaluate RUN=run -- --part tests", "argument --part: invalid choice: 'tests'"),
    ("compare DATA=x.h5 EPOCHS=0", "argument --epochs: must be at least 1, not 0"),
    ("compare DATA=x.h5 -- --repeats 2 -- --epcohs 3", "unrecognized arguments: --epcohs 3"),
    ("crosseval TRAIN_DATA=x.h5 NETWORKS=tabel", "there is no network 'tabel'"),
    ("crosseval TRAIN_DATA=x.h5 -- -- --epcohs 3", "unrecognized arguments: --epcohs 3"),
    ("pipeline -- --dryrun", "unrecognized arguments: --dryrun"),
    ("scaling_study -- --epcohs 3", "unrecognized arguments: --epcohs 3")])
def test_arguments_by_the_programs_own_parser(here: Path, capsys: pytest.CaptureFixture[str],
                                              words: str, message: str) -> None:
    (here / "bad.toml").write_text("epcohs = 3\n")
    with pytest.raises(SystemExit) as left:
        submit(words)
    error = capsys.readouterr().err
    assert left.value.code == 2 and message in error
    assert "job --help" not in error  # the program's, not that of `hpc-deepfake job`
    assert {path.name for path in here.iterdir()} == LEFT | {"bad.toml"}


@pytest.mark.parametrize("words", [
    "train_cpu DATA=x.h5 CONFIG=run.toml DEVICE=auto -- --stage-env", "evaluate RUN=run DATA=x.h5",
    "preprocess PICTURES=pictures -- --split 70/10/20", "compare DATA=x.h5 -- -- --epochs 2",
    "crosseval MODELS=run -- --test y=x.h5",
    "crosseval TRAIN_DATA=x.h5 NETWORKS=meso4 -- --ranks 1 -- --patience 2",
    "pipeline PICTURES=pictures DATA=new.h5 -- --dry-run --epochs 3",
    "scaling_study DATA=x.h5 KINDS=preprocess -- --split 70/10/20",
    "scaling_study DATA=no.h5 INPUTS=synthetic"])
@pytest.mark.parametrize("scheduler", ["slurm", "pbs"])
def test_what_is_right_is_submitted(here: Path, words: str, scheduler: str) -> None:
    assert submit(words, scheduler=scheduler) == 0 and (here / "submitted").exists()


def test_the_environment_counts_where_the_scheduler_passes_it_on(
        here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sbatch does, qsub doesn't; --var wins."""
    monkeypatch.setenv("DATA", "no.h5")
    with pytest.raises(InputError, match=r"DATA=no\.h5: there is no such"):
        submit("train_cpu")
    assert submit("train_cpu DATA=x.h5") == 0
    assert submit("train_cpu", scheduler="pbs") == 0


def test_a_rendered_script_submitted_again_has_its_own_values(
        here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, words in (("sweep", ["RUN=my run", "TRIALS=1 2"]), ("evaluate", ["RUN=run"]),
                        ("train_cpu", ["DATA=x.h5"])):
        variables = [part for word in words for part in ("--var", word)]
        assert job.main(["render", "slurm", name, *variables]) == 0
        (here / f"{name}.sh").write_text(capsys.readouterr().out)
    monkeypatch.setenv("DATA", "no.h5")
    monkeypatch.setenv("RUN", "other")
    for name in ("sweep", "train_cpu"):
        assert job.main(["submit", "slurm", "--script", f"{name}.sh"]) == 0
    monkeypatch.delenv("DATA")
    monkeypatch.delenv("RUN")
    assert job.main(["submit", "slurm", "--script", "evaluate.sh"]) == 0
    with pytest.raises(InputError, match=r"DATA=other\.h5: there is no such"):
        job.main(["submit", "slurm", "--script", "train_cpu.sh", "--var", "DATA=other.h5"])


def test_a_job_after_another_one_may_get_its_input_from_it(here: Path) -> None:
    for words in ("train_cpu DATA=no.h5", "evaluate RUN=no DATA=no.h5", "sweep RUN=no"):
        assert submit(words, "--after", "7") == 0
    with pytest.raises(SystemExit):
        submit("train_cpu DATA=no.h5 -- --epcohs 3", "--after", "7")


def test_paths_are_those_of_the_jobs_own_folder(here: Path) -> None:
    assert submit("train_cpu DATA=../x.h5", "--set", f"chdir={here}/run") == 0
    with pytest.raises(InputError, match=r"DATA=x\.h5: there is no such data file in .*/run\."):
        submit("train_cpu DATA=x.h5", "--set", f"chdir={here}/run")


def test_without_the_programs_packages_all_else_is_checked(
        here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    assert submit("train_cpu DATA=x.h5 -- --epcohs 3") == 0
    with pytest.raises(InputError, match=r"DATA=no\.h5: there is no such"):
        submit("train_cpu DATA=no.h5")


def test_a_folder_that_cannot_take_the_log(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job there would fail without a word; with its log elsewhere it doesn't."""
    def access(path: Any, mode: int) -> bool:
        return not (mode & os.W_OK and Path(path) == here)

    monkeypatch.setattr(inputs.os, "access", access)
    with pytest.raises(InputError, match=f"the job's log goes to {here}, where you cannot write"):
        submit("train_cpu DATA=x.h5")
    assert not (here / "submitted").exists()
    assert submit("train_cpu DATA=x.h5", "--set", f"output={here}/run/%j.log") == 0
