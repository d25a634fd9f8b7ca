"""The commands as a user calls them, with one trained model."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from conftest import ROOT, read_lines, run_program
from speed import limit

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.report import summary
from hpc_deepfake.train import checkpoint
from preprocessing.store import DONE, open_header

pytestmark = pytest.mark.slow  # TensorFlow starts once per process

# Calls the command with each list of arguments in a single process, since starting TensorFlow takes
# seconds; writes [code, stdout, stderr] of each. The encoding is that of the user's terminal.
PROGRAM = """
import io, json, os, sys
from hpc_deepfake import cli
results = []
real = sys.stdout, sys.stderr
for encoding, arguments in json.loads(sys.stdin.read()):
    sys.argv = ["hpc-deepfake", *map(os.fsdecode, map(bytes.fromhex, arguments))]
    streams = [io.TextIOWrapper(io.BytesIO(), encoding, errors, newline="\\n", write_through=True)
               for errors in ("strict", "backslashreplace")]
    sys.stdout, sys.stderr = streams
    try:
        cli.main()
    except SystemExit as leave:
        code = leave.code
    except Exception as error:
        code = repr(error)
    sys.stdout, sys.stderr = real
    results.append([code, *(stream.buffer.getvalue().decode(encoding) for stream in streams)])
json.dump(results, open("results.json", "w"))
"""
TRAIN = ["--epochs", "2", "--batch-size", "8", "--device", "cpu", "--checkpoint-minutes", "0"]
DONE_60 = re.compile(  # the 36 training and the 12 validation pictures are recognised
    r"(?:note: 30 files left out:\n  .*and 27 more: a ground-truth mask .*\n)?"
    r"60 pictures, [\d.,]+ images/s on 1 rank\nused in training .*: 48 of 60; .*\n")
HIDDEN = {"MY_TOKEN": "hush-1", "OMPI_MCA_orte_hnp_uri": "hush-2",
          "AWS_SECRET_ACCESS_KEY": "hush-3", "USER": "hush-4", "SLURM_JWT": "hush-5"}


def call(folder: Path, *commands: list[object]) -> list[tuple]:
    """(code, stdout, stderr) of each command, called in ``folder``; the first word ``ascii`` stands
    for a terminal that shows ASCII only."""
    calls = []
    for command in commands:
        terminal, words = ("ascii", command[1:]) if command[0] == "ascii" else ("utf-8", command)
        calls.append([terminal, [os.fsencode(str(word) if not isinstance(word, bytes) else word)
                                 .hex() for word in words]])
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=folder, text=True,
                          timeout=limit(240), capture_output=True, input=json.dumps(calls),
                          env=os.environ)
    assert done.returncode == 0, done.stderr
    return [tuple(result) for result in json.loads((folder / "results.json").read_text())]


@pytest.fixture(scope="module")
def run(data_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a short training; not to be changed."""
    path = tmp_path_factory.mktemp("runs") / "first"
    done = run_program("hpc_deepfake.cli", "train", "--data", data_file, "--run", path, *TRAIN,
                       cwd=path.parent, env={**HIDDEN, "HOROVOD_CYCLE_TIME": "3"})
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    (path.parent / "output").write_text(done.stdout)
    return path


def lines(run: Path) -> list[dict]:
    return read_lines(run / "metrics.jsonl")


def read(run: Path, name: str) -> dict:
    return json.loads((run / name).read_text())


def test_run_directory_has_the_documented_files(run):
    """And no temporary ones; checkpoints of both epochs."""
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoints", "config.json", "environment.json", "metrics.jsonl", "model.json",
        "model.keras", "model.pictures.h5", "predictions.csv", "report.html", "summary.json"]
    assert [path.name for path in checkpoint.found(run / "checkpoints")] == [
        "step-000000010.npz", "step-000000005.npz"]


def test_config_has_every_option(run, data_file):
    """Given ones and defaults; the data file by its absolute path."""
    from hpc_deepfake.train.options import parser

    config = read(run, "config.json")
    options = {action.dest for action in parser()._actions} - {"help", "config"}
    assert set(config) == options
    assert (config["epochs"], config["batch_size"], config["device"], config["strategy"],
            config["data"], config["run"]) == (2, 8, "cpu", "sequential", str(data_file), str(run))


def test_environment_has_versions_and_no_secrets(run):
    """Machine and software; of the environment variables only those of the allow-list."""
    environment = read(run, "environment.json")
    assert {"hpc_deepfake", "python", "keras", "numpy", "h5py", "mpi4py"} <= set(
        environment["versions"])
    assert set(environment) == {"versions", "mpi", "platform", "command", "git", "ranks",
                                "variables", "started"}
    rank, = environment["ranks"]
    assert rank["device"] == "CPU" and rank["threads"] >= 1 and rank["host"]
    assert environment["variables"]["HOROVOD_CYCLE_TIME"] == "3"
    assert not set(HIDDEN) & set(environment["variables"])
    everything = "".join((run / name).read_text() for name in (
        "config.json", "environment.json", "metrics.jsonl", "summary.json", "model.json",
        "report.html"))
    assert not [value for value in HIDDEN.values() if value in everything]


def test_metrics_have_a_line_per_epoch(run):
    """With every figure of validation, and the seconds of each stage."""
    epochs = lines(run)
    assert [(line["epoch"], line["step"]) for line in epochs] == [(1, 5), (2, 10)]
    for line in epochs:
        assert {"loss", "accuracy", "images_per_s", "best", "val_loss", "val_accuracy", "val_auc",
                "val_balanced_accuracy", "val_precision", "val_recall", "val_f1", "val_majority",
                "val_tp", "val_fp", "val_tn", "val_fn", "val_rows"} <= set(line)
        assert set(line["seconds"]) == {"input", "compute", "communication", "evaluate",
                                        "checkpoint"}
        assert all(value >= 0 for value in line["seconds"].values())
        assert line["seconds"]["compute"] > 0
        assert line["val_rows"] == sum(line[f"val_{name}"] for name in ("tp", "fp", "tn", "fn"))
    best = min(epochs, key=lambda line: line["val_loss"])
    assert [line["best"] for line in epochs] == [True, best["epoch"] == 2]


def test_summary_is_that_of_the_best_epoch(run, data_file):
    summary, best = read(run, "summary.json"), min(lines(run), key=lambda line: line["val_loss"])
    assert summary["best_epoch"] == best["epoch"]
    assert (summary["strategy"], summary["ranks"], summary["epochs"], summary["steps"],
            summary["stopped_early"], summary["feature"]) == ("sequential", 1, 2, 10, False, "ela")
    parts = np.array(open_header(data_file).array("split"))
    assert [summary["train_rows"], *(summary[part]["rows"] for part in ("validation", "test"))] == [
        (parts == part).sum() for part in range(3)]
    for name, value in summary["validation"].items():
        assert value == pytest.approx(best[f"val_{name}"], rel=1e-5), name
    card = read(run, "model.json")
    assert card["feature"] == "ela" and card["validation"].pop("epoch") == best["epoch"]
    low, high = card["validation"].pop("intervals")["accuracy"]
    assert low <= summary["validation"]["accuracy"] <= high
    assert card["validation"] == pytest.approx(summary["validation"], rel=1e-5)
    assert card["trained_on"]["sample"] and card["trained_on"]["formats"] == {"JPEG": 36}


def test_output_of_training(run):
    """Data, ranks and device first, a line per epoch, figures beside the majority class at the
    end."""
    text = (run.parent / "output").read_text()
    first, *epochs = text.splitlines()[:3]
    assert first.startswith("ela of ") and "sequential on 1 rank, CPU" in first
    assert "global batch 8" in first
    assert [line.split()[:2] for line in epochs] == [["epoch", "1/2"], ["epoch", "2/2"]]
    assert "majority class" in text and f"model: {run / 'model.keras'}" in text


def test_the_same_command_gives_the_same_weights(run, data_file, tmp_path):
    """Bit for bit, including the optimizer state; and the same figures."""
    other = tmp_path / "again"
    done = run_program("hpc_deepfake.train", "--data", data_file, "--run", other, *TRAIN,
                       cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for first, second in zip(checkpoint.found(run / "checkpoints"),
                             checkpoint.found(other / "checkpoints"), strict=True):
        arrays, others = checkpoint.load(first)[0], checkpoint.load(second)[0]
        assert len(arrays) == len(others) >= 40 + 16  # weights, moments, best weights
        assert all(np.array_equal(a, b) for a, b in zip(arrays, others, strict=True))
    for first, second in zip(lines(run), lines(other), strict=True):
        for timing in ("seconds", "ranks", "images_per_s", "wall_s", "wall_images_per_s"):
            first.pop(timing), second.pop(timing)
        assert first == second


@pytest.fixture(scope="module")
def odd(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures with difficult names, and of files that are not pictures."""
    folder = tmp_path_factory.mktemp("odd")
    picture = next((pictures / "Au").iterdir())
    for name in (b"-dash.jpg", b"new\nline.jpg", b'quote",comma.JPG', b"not\xffutf8.jpg",
                 "ünïcode 🖼.jpg".encode(), b"\x1b[31mred.jpg", b"sub/deep.jpg"):
        path = os.path.join(os.fsencode(folder), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copyfile(picture, path)
    (folder / "empty.jpg").touch()
    (folder / "text.png").write_text("not a picture")
    (folder / "notes.txt").write_text("another extension")
    (folder / ".hidden.jpg").write_text("not shown")
    return folder


@pytest.fixture(scope="module")
def answers(run: Path, data_file: Path, pictures: Path, odd: Path,
            tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple]:
    """(code, stdout, stderr) of many commands, all called in one process."""
    folder = tmp_path_factory.mktemp("calls")
    shutil.copytree(run, folder / "cardless", ignore=shutil.ignore_patterns("checkpoints"))
    (folder / "cardless" / "model.json").unlink()
    for name, change in (("quality", {"parameters": {"quality": 50}}), ("later", {
            "feature": "phases"})):
        shutil.copytree(run, folder / name, ignore=shutil.ignore_patterns("checkpoints"))
        card = read(run, "model.json")
        (folder / name / "model.json").write_text(json.dumps({**card, **change}))
    (folder / "nothing").mkdir()
    first = sorted((pictures / "Au").iterdir())[0]
    shutil.copyfile(first, folder / "-one.jpg")
    predict = ["predict", "--model", run, "--device", "cpu"]
    evaluate = ["evaluate", "--model", run, "--data", data_file, "--device", "cpu"]
    commands = {
        "validation": [*evaluate, "--json", "validation.json"],
        "test": [*evaluate, "--part", "test", "--json", "test.json"],
        "all": [*evaluate, "--part", "all", "--json", "all.json"],
        "by file": [*evaluate[:2], run / "model.keras", *evaluate[3:]],
        "other data": [*evaluate[:2], "quality", *evaluate[3:]],
        "no feature": [*evaluate[:2], "later", *evaluate[3:]],
        "no card": [*evaluate[:2], "cardless", *evaluate[3:]],
        "json nowhere": [*evaluate, "--json", "nowhere/x.json"],
        "folder": [*predict, "--format", "json", pictures],
        "csv": [*predict, "--format", "csv", pictures / "Au", *sorted((pictures / "Tp").iterdir())],
        "table": [*predict, first, pictures / "Tp"],
        "odd json": [*predict, "--format", "json", odd],
        "odd csv": [*predict, "--format", "csv", odd],
        "odd table": [*predict, odd],
        "ascii": ["ascii", *predict, odd],
        "ascii json": ["ascii", *predict, "--format", "json", odd],
        "ascii csv": ["ascii", *predict, "--format", "csv", odd],
        "dash": [*predict, "--format", "csv", "--", "-one.jpg"],
        "missing": [*predict, first, "gone.jpg"],
        "missing odd": [*predict, b"gone\xff.jpg"],
        "nothing": [*predict, "nothing"],
        "only bad": [*predict, odd / "empty.jpg"],
        "unknown feature": ["predict", "--model", "later", "--device", "cpu", first],
        "gpu": ["evaluate", "--model", run, "--data", data_file, "--device", "gpu"],
    }
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    try:
        results = dict(zip(commands, call(folder, *commands.values()), strict=True))
    finally:
        del os.environ["CUDA_VISIBLE_DEVICES"]
    results["figures"] = {part: json.loads((folder / f"{part}.json").read_text())
                          for part in ("validation", "test", "all")}
    return results


def test_evaluate_agrees_with_the_summary(run, answers):
    """For the validation and the test part, from the saved model; also as a table."""
    summary = read(run, "summary.json")
    for part in ("validation", "test"):
        code, out, err = answers[part]
        assert (code, err) == (0, "")
        for name, value in summary[part].items():
            assert answers["figures"][part][name] == pytest.approx(value, rel=1e-5), (part, name)
        assert f"on the {part} part of" in out and "majority class" in out
    assert answers["figures"]["all"]["rows"] == 60
    assert answers["by file"][:2] == answers["validation"][:2]


@pytest.mark.parametrize(("name", "message"), [
    ("other data", "was trained with ELA parameters {'quality': 50"),
    ("no feature", "has no feature 'phases'"),
    ("no card", "model's card"),
    ("json nowhere", "nowhere/x.json"),
    ("missing", "there is no picture or folder 'gone.jpg'"),
    ("missing odd", "there is no picture or folder 'gone"),
    ("nothing", "no pictures in nothing"),
    ("unknown feature", "was trained on the feature 'phases'"),
    ("gpu", "--device gpu: ")])
def test_wrong_input_is_a_message_and_code_2(answers, name, message):
    """A single message without a traceback."""
    code, out, err = answers[name]
    assert code == 2
    assert err.count("error:") == 1 and message in err
    assert "Traceback" not in err
    assert name == "json nowhere" or not out


def rows_of(text: str) -> dict[str, float]:
    return {line["path"]: line["probability"] for line in map(json.loads, text.splitlines())}


def stored(data_file: Path, pictures: Path, run: Path, folder: Path) -> dict[str, float]:
    """Calibrated probability of each row of the data file, by the picture's path."""
    program = """
import json, sys
from pathlib import Path
import numpy as np
from hpc_deepfake import evaluate
from hpc_deepfake.data.rows import open_data
from hpc_deepfake.metrics import temperature
from hpc_deepfake.network import model
rows = open_data(Path(sys.argv[1]), "ela")
run = Path(sys.argv[2])
probabilities = temperature.apply(evaluate.probabilities(model.load(run), rows, np.arange(60)),
                                  model.read_card(run).temperature)
Path("stored.json").write_text(json.dumps(probabilities.tolist()))
"""
    subprocess.run([sys.executable, "-c", program, data_file, run], cwd=folder, check=True,
                   capture_output=True, timeout=limit(120))
    names = [unquote_to_bytes(name) for name in open_header(data_file).array("path").tolist()]
    return {os.path.join(str(pictures), os.fsdecode(name)): p for name, p in zip(
        names, json.loads((folder / "stored.json").read_text()), strict=True)}


def table_of(out: str) -> list[str]:
    """Lines of a table without the model's caveats above it, and the notes on pictures."""
    return [line for line in out.splitlines()
            if not line.startswith("model: ") and not line.strip().startswith("- ")]


def test_predict_agrees_with_the_data_file(run, data_file, pictures, answers, tmp_path):
    """To 1e-5, for every picture of the folder, in all three formats, with the verdict."""
    expected = stored(data_file, pictures, run, tmp_path)
    assert len(expected) == 60 and np.std(list(expected.values())) > 1e-3
    code, out, err = answers["folder"]
    assert code == 0 and DONE_60.fullmatch(err)
    predicted = rows_of(out)
    assert list(predicted) == sorted(expected)
    assert all(abs(predicted[path] - expected[path]) < 1e-5 for path in expected)

    code, out, err = answers["csv"]
    assert code == 0 and DONE_60.fullmatch(err)
    table = list(csv.DictReader(io.StringIO(out, newline="")))
    assert [row["path"] for row in table] == sorted(expected)
    for row in table:
        assert abs(float(row["probability"]) - expected[row["path"]]) < 1e-5
        assert row["verdict"] == ("tampered" if expected[row["path"]] >= 0.5 else "authentic")

    code, out, err = answers["table"]
    assert code == 0 and err.startswith("31 pictures, ")
    head, *table = table_of(out)
    assert head.split() == ["tampered", "verdict", "picture"] and len(table) == 31
    for line in table:
        score, verdict, path = line.split()
        assert abs(float(score.rstrip("%")) / 100 - expected[path]) < 6e-4
        assert verdict == ("tampered" if expected[path] >= 0.5 else "authentic")


@pytest.mark.parametrize("form", ["odd json", "odd csv", "odd table", "ascii", "ascii json",
                                  "ascii csv"])
def test_difficult_names_and_unreadable_files(answers, form):
    """A line or record per picture whatever its name, on any terminal; unreadable files are listed
    with the reason; code 2 and a count at the end."""
    code, out, err = answers[form]
    assert code == 2, code
    left, counts, *known = err.removesuffix("\n2 of 9 could not be read\n").splitlines()
    assert left == "note: beside the pictures left out: 1 hidden, 1 .txt"
    assert counts.startswith("7 pictures, ") and len(known) == 1
    assert known[0].startswith("used in training or like those that were: 7 of 7; ")
    assert "\x1b" not in out or "csv" in form  # a name can't send codes to the terminal
    if "json" in form:
        rows = [json.loads(line) for line in out.splitlines()]
        verdicts = {os.path.basename(row["path"]): row["verdict"] for row in rows}
        assert all((row["probability"] is None) == row["verdict"].startswith("not read")
                   for row in rows)
    elif "csv" in form:
        rows = list(csv.DictReader(io.StringIO(out, newline="")))
        verdicts = {os.path.basename(row["path"]): row["verdict"] for row in rows}
        assert all((row["probability"] == "") == row["verdict"].startswith("not read")
                   for row in rows)
    else:
        rows = table_of(out)[1:]
        verdicts = {line.rpartition("/")[2]: line.split(None, 1)[1].partition("  ")[0]
                    for line in rows}
    assert len(rows) == 9
    assert verdicts["empty.jpg"] == "not read: empty file: copy or download it again"
    assert verdicts["text.png"].startswith("not read: ")
    assert {"-dash.jpg", 'quote",comma.JPG', "deep.jpg", r"not\xffutf8.jpg" if "json" not in form
            else r"not\udcffutf8.jpg"} <= set(verdicts) or r"not\udcffutf8.jpg" in verdicts
    if "ascii" not in form:
        assert "ünïcode 🖼.jpg" in verdicts
    assert "notes.txt" not in out and "hidden" not in out


def test_a_name_with_a_leading_dash_and_a_single_unreadable_file(answers):
    code, out, err = answers["dash"]
    assert code == 0 and out.splitlines()[1].startswith("-one.jpg,0.")
    assert err.startswith("1 picture, ")
    code, out, err = answers["only bad"]
    assert code == 2 and "not read: empty file" in out
    assert err == "0 pictures, 0.0 images/s on 1 rank\n1 of 1 could not be read\n"


def test_summary_shows_the_majority_beside_the_accuracy(run, data_file, capsys, tmp_path):
    """A line per run and part, the majority class below them, and the speed of preprocessing."""
    other = Path(shutil.copytree(run, tmp_path / "second"))
    assert summary.main([str(run), str(other)]) == 0
    out = capsys.readouterr().out
    figures = read(run, "summary.json")
    table = out.splitlines()
    for name in ("first", "second"):
        for part in ("validation", "test"):
            line, = (row for row in table if row.startswith(f"{name}: ela, sequential") and
                     part in row)
            assert f"{figures[part]['accuracy']:.1%}" in line
            assert f"{figures[part]['auc']:.3f}" in line
    baselines = [line for line in table if line.startswith("majority class")]
    assert len(baselines) == 2, "per part, not per run"
    for line, part in zip(baselines, ("validation", "test"), strict=True):
        assert f"{figures[part]['majority']:.1%}" in line and part in line and "0.500" in line
    assert "preprocessing: 60 images" in out


@pytest.mark.parametrize("damage", ["missing", "cut", "unfinished", "fields"])
def test_summary_names_the_runs_that_have_not_finished(run, tmp_path, damage, capsys):
    """And shows the others. How far one is, is said if it has begun."""
    other = Path(shutil.copytree(run, tmp_path / "run",
                                 ignore=shutil.ignore_patterns("checkpoints", "*.keras")))
    file = other / "summary.json"
    if damage == "cut":
        file.write_text(file.read_text()[:50])
    elif damage == "fields":
        file.write_text("{}")
    else:
        (file if damage == "unfinished" else other / "config.json").unlink()
    assert summary.main([str(other), str(run)]) == 2
    out, err = capsys.readouterr()
    assert "\nfirst: ela, sequential" in out and "\nrun: " not in out
    assert err.startswith(f"error: {other} holds no finished run") and err.count("\n") == 1
    assert ("run: epoch 2 of 2 is done; wait for it" in err) == (damage == "unfinished")
    with pytest.raises(InputError, match="holds no finished run"):
        summary.main([str(other)])
    if damage == "unfinished":
        (other / "metrics.jsonl").unlink()
        assert summary.main([str(other), str(tmp_path)]) == 2
        out, err = capsys.readouterr()
        assert not out and "no epoch is done" in err and "name the directory" in err


def test_summary_of_a_part_with_one_class(run, tmp_path, capsys):
    """A dash instead of the AUC."""
    other = Path(shutil.copytree(run, tmp_path / "run",
                                 ignore=shutil.ignore_patterns("checkpoints", "*.keras")))
    figures = read(other, "summary.json")
    figures["test"]["auc"] = None
    (other / "summary.json").write_text(json.dumps(figures))
    assert summary.main([str(other)]) == 0
    assert "–" in capsys.readouterr().out


def test_training_without_a_gpu_fails_first(data_file, tmp_path):
    """``--device gpu`` without one: code 2, a message with the cause, nothing written."""
    done = run_program("hpc_deepfake.train", "--data", data_file, "--run", tmp_path / "run",
                       "--device", "gpu", cwd=tmp_path, env={"CUDA_VISIBLE_DEVICES": "-1"})
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert "--device gpu: " in done.stderr and (
        "built without CUDA" in done.stderr or "CUDA_VISIBLE_DEVICES is '-1'" in done.stderr)
    assert "Traceback" not in done.stderr and not done.stdout
    assert not (tmp_path / "run").exists()


@pytest.mark.mpi
def test_sequential_on_two_ranks_is_refused(data_file, tmp_path):
    """Code 2 and a single message, from rank 0; nothing written."""
    done = run_program("hpc_deepfake.train", "--data", data_file, "--strategy", "sequential",
                       ranks=2, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert "--strategy sequential runs on one rank, not 2" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.mpi
@pytest.mark.parametrize("where", ["HPC_DEEPFAKE_DATA", "./data"])
def test_ranks_without_arguments(pictures, tmp_path, where):
    """``mpirun -np 8 python -m preprocessing`` and ``… hpc_deepfake.train`` without options: data
    from $HPC_DEEPFAKE_DATA, else (on two ranks) from ./data; the run in runs/."""
    folder = tmp_path / ("elsewhere" if where == "HPC_DEEPFAKE_DATA" else "data")
    shutil.copytree(pictures, folder)
    if where == "HPC_DEEPFAKE_DATA":
        (tmp_path / "data").mkdir()  # the variable wins
    work = {"HPC_DEEPFAKE_DATA": str(folder) if where == "HPC_DEEPFAKE_DATA" else "",
            "SLURM_JOB_ID": "", "PBS_JOBID": ""}
    ranks = 8 if where == "HPC_DEEPFAKE_DATA" else 2
    done = run_program("preprocessing", ranks=ranks, cwd=tmp_path, env=work)
    assert done.returncode == 0, done.stderr
    header = open_header(folder / "features.h5")
    assert (np.array(header.array("status")) == DONE).all() and header.rows == 60
    if ranks == 8:  # eight TensorFlows take a minute to start on two cores
        work["PYTHONPATH"] = str(ROOT / "tests" / "toy")
    done = run_program("hpc_deepfake.train", "--epochs", "1", ranks=ranks, cwd=tmp_path, env=work)
    assert done.returncode == 0, done.stderr
    run, = (tmp_path / "runs").iterdir()
    summary = read(run, "summary.json")
    assert (summary["strategy"], summary["ranks"], summary["epochs"]) == ("sync", ranks, 1)
    assert len(read(run, "environment.json")["ranks"]) == ranks
    assert (run / "model.keras").is_file()
