"""Commands that are given the wrong file or folder say so at the start, and change nothing."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from hpc_deepfake import audit, compare, evaluate, report
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.jobs import accounting
from hpc_deepfake.predict import output
from hpc_deepfake.scaling import study
from hpc_deepfake.train import messages
from hpc_deepfake.train.rundir import RunDir
from preprocessing.__main__ import _check_place, parser


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Files that must stay as they are; none of them is looked into before the check."""
    monkeypatch.chdir(tmp_path)
    content = {"f.h5": b"\x89HDF", "f.h5.json": b"{}", "run/model.keras": b"PK",
               "run/model.json": b'{"feature": "ela", "threshold": 0.5, "parameters": {}}',
               "run/config.json": b"{}", "run/metrics.jsonl": b'{"epoch": 1}\n',
               "photo.jpg": b"\xff\xd8"}
    for name, data in content.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(data)
    return content


@pytest.mark.parametrize(("command", "words"), [
    (audit.main, "f.h5 --json f.h5"), (audit.main, "f.h5 --json f.h5.json"),
    (audit.main, "f.h5 --json photo.jpg"), (audit.main, "f.h5 --json none/a.json"),
    (report.main, "run --out run/model.keras"), (report.main, "run --out photo.jpg"),
    (report.main, "run --out none/page.html"),
    (evaluate.main, "--model run --data f.h5 --json f.h5"),
    (evaluate.main, "--model run --data f.h5 --json run/model.json"),
    (evaluate.main, "--model run --data f.h5 --json run/model.keras"),
    (accounting.main, "run --json run/config.json"), (accounting.main, "run --json photo.jpg")])
def test_outputs_over_inputs_and_other_files(files, command, words):
    with pytest.raises(InputError, match=r"cannot write --(json|out)"):
        command(words.split())
    assert files == {name: Path(name).read_bytes() for name in files}
    assert not Path("none").exists()


def test_a_run_is_not_written_into_other_files(tmp_path):
    """A folder of pictures; but a folder with logs, options and job records is a place for a
    run."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "a.jpg").touch()
    for resume in (False, True):
        with pytest.raises(InputError, match=r"a folder of other files, such as a\.jpg"):
            RunDir(pictures, resume)
    assert os.listdir(pictures) == ["a.jpg"]
    run = tmp_path / "run"
    (run / "jobs").mkdir(parents=True)
    for name in ("slurm-1.out", "options.toml", "notes"):
        (run / name).touch()
    RunDir(run, resume=True)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "job.log").touch()
    RunDir(tmp_path / "logs")


@pytest.mark.parametrize(("words", "message"), [
    ("--data f.h5", "f.h5 is a file: name the folder of pictures with --data"),
    ("--out folder", r"the data file to write, like --out folder/features.h5, and the folder of "
                     r"pictures with --data, like --data folder"),
    ("--data folder --out folder", r"like --out folder/features\.h5$")])
def test_pictures_and_data_file_mixed_up(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    Path("f.h5").touch()
    Path("folder").mkdir()
    with pytest.raises(InputError, match=message):
        _check_place(parser().parse(words.split()))


@pytest.mark.parametrize(("options", "problem"), [
    ("--methods mesh", "mesh on 2 ranks: --strategy mesh: say how the ranks share"),
    ("--methods mesh -- --mesh tensor=3", r"mesh on 2 ranks: --mesh tensor=3 needs"),
    ("--methods sync -- --compression bf16", "sync on 2 ranks: --strategy sync exchanges no")])
def test_compare_does_not_plan_what_train_refuses(options, problem):
    words = compare.command.parse(f"--data x.h5 --out out {options}".split())
    with pytest.raises(InputError, match=problem):
        compare.trainings(words, Path("out"), 1)


@pytest.mark.parametrize(("words", "ranks", "command"), [
    (["--data", "my file.h5", "--run", "old", "--epochs", "3"], 4,
     "mpirun -np 4 python -m hpc_deepfake.train --data 'my file.h5' --epochs 3 --run runs/x "
     "--resume"),
    (["--resume", "--run=old", "--config", "a.toml"], 1,
     "python -m hpc_deepfake.train --config a.toml --run runs/x --resume")])
def test_the_command_that_resumes_has_all_options(words, ranks, command):
    assert messages.resuming(words, ranks, Path("runs/x")) == command
    assert shlex.split(command)
    assert messages.stopped("SIGTERM", 2, 9, command).endswith(f"To resume:\n  {command}")


def test_json_of_a_name_that_is_not_utf_8(capsys):
    """Can be led back to the file; other names need nothing more."""
    import sys

    write = output.writer("json", sys.stdout)
    write(output.Row(b"a\xff b.jpg", 0.5, "tampered"))
    write(output.Row("ü.jpg".encode(), None, "not read: empty file"))
    odd, usual = map(json.loads, capsys.readouterr().out.splitlines())
    assert odd["encoded"] == "a%FF%20b.jpg" and odd["path"] == "a\\udcff b.jpg"
    assert usual["path"] == "ü.jpg" and "encoded" not in usual


def test_a_damaged_study_does_not_block_a_new_plan(tmp_path, caplog):
    from scaling_records import plan

    (tmp_path / "study.json").write_text("[" * 50_000)
    new = plan()
    study.write(tmp_path, new)
    assert study.read(tmp_path).runs == new.runs
    assert (tmp_path / "study.json.damaged").read_text().startswith("[[")


def test_no_folder_is_made_for_a_copy_in_a_mistyped_place(tmp_path):
    from conftest import alone

    from hpc_deepfake.data.stage import stage

    for folder in (tmp_path / "none" / "deep", Path("/a-folder-that-is-not-there")):
        with pytest.raises(InputError, match="there is no such folder"):
            stage(alone(), tmp_path / "data.h5", folder)
        assert not folder.exists() and not (tmp_path / "none").exists()
