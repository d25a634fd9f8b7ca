"""predict under mpirun: the same answers in the same order, and an end whatever happens."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import run_program

pytestmark = [pytest.mark.mpi, pytest.mark.slow]

# predict with something broken on one rank, named by the first argument
BROKEN = """
import sys
from hpc_deepfake import predict
from hpc_deepfake.predict import maps, scoring
from hpc_deepfake.core import mpi
from hpc_deepfake.core.errors import InputError

def main(comm):
    what, rank, *arguments = sys.argv[1:]
    def fail(*_):
        raise InputError("the disk is full") if what == "input" else ValueError("boom on purpose")
    if comm.rank == int(rank):
        if what == "input":
            maps.save = fail
        elif what == "load":
            from hpc_deepfake.network import model
            model.load = lambda _: (_ for _ in ()).throw(InputError("only I can't load it"))
        else:
            scoring.pictures = fail
    return predict.main(comm, arguments)

mpi.run(main)
"""


@pytest.fixture(scope="module")
def run(data_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a short training."""
    path = tmp_path_factory.mktemp("runs") / "first"
    done = run_program("hpc_deepfake.train", "--data", data_file, "--run", path, "--epochs", "1",
                       "--batch-size", "8", "--device", "cpu", "--no-report", cwd=path.parent)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def folder(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Links to the pictures, a video among them, and two files that can't be read."""
    path = tmp_path_factory.mktemp("mixed")
    for number, file in enumerate(sorted(pictures.glob("*/*.jpg"))):
        (path / f"{number:02d}.jpg").symlink_to(file)
    (path / "07b.png").touch()
    (path / "59b.png").write_text("no picture")
    video = cv2.VideoWriter(str(path / "30b.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
    random = np.random.default_rng(0)
    for _ in range(20):
        video.write(random.integers(0, 255, (64, 96, 3), dtype=np.uint8))
    video.release()
    return path


def predict(run: Path, folder: Path, ranks: int, *words: str | os.PathLike,
            cwd: Path) -> subprocess.CompletedProcess[str]:
    return run_program("hpc_deepfake.cli", "predict", "--model", run, "--device", "cpu",
                       "--format", "csv", *words, folder, ranks=ranks, cwd=cwd)


def test_one_and_three_ranks_say_the_same(run, folder, tmp_path):
    """Every file once, in the list's order, with the same probability; maps with the same names."""
    found = {}
    for ranks in (1, 3):
        done = predict(run, folder, ranks, "--ela-dir", tmp_path / str(ranks), cwd=tmp_path)
        assert done.returncode == 2, done.stderr  # two files can't be read
        assert "60 pictures and 1 video (10 frames), " in done.stderr
        assert f"on {ranks} rank{'s' * (ranks > 1)}\n" in done.stderr
        assert "2 of 63 could not be read" in done.stderr
        assert done.stderr.count("images/s") == 1, "from rank 0 only"
        found[ranks] = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(found[1]) == 63 + 10
    for one, other in zip(found[1], found[3], strict=True):
        assert (one["path"], one["verdict"]) == (other["path"], other["verdict"])
        assert (one["probability"] == "") == (other["probability"] == "")
        if one["probability"]:
            # batches of another size: the last bits may differ
            assert float(one["probability"]) == pytest.approx(float(other["probability"]), abs=2e-5)
    listed = [Path(row["path"]).name for row in found[1] if "#" not in row["path"]]
    assert listed == sorted(path.name for path in folder.iterdir())
    assert len({row["probability"] for row in found[1]}) > 50
    maps = [sorted(path.name for path in (tmp_path / ranks).iterdir()) for ranks in ("1", "3")]
    assert maps[0] == maps[1] and len(maps[0]) == 60


def test_more_ranks_than_pictures(run, pictures, tmp_path):
    """Ranks without work wait for the others."""
    done = predict(run, sorted(pictures.glob("Au/*"))[0], 3, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2


def test_a_list_on_standard_input_reaches_all_ranks(run, pictures, tmp_path):
    """mpirun gives standard input to rank 0, which lists."""
    paths = sorted(map(str, pictures.glob("*/*.jpg")))
    done = subprocess.run(
        ["mpirun", "-np", "2", sys.executable, "-m", "hpc_deepfake.predict", "--model", run,
         "--device", "cpu", "--format", "json", "-"], input="\0".join(paths), cwd=tmp_path,
        text=True, capture_output=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["path"] for line in done.stdout.splitlines()] == paths


def test_wrong_input_is_said_once(run, tmp_path):
    """By rank 0, for all; code 2."""
    done = predict(run, tmp_path / "gone", 3, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("error: there is no picture or folder") == 1
    assert "Traceback" not in done.stderr and not done.stdout


@pytest.mark.parametrize(("what", "rank", "code", "said"), [
    ("boom", 2, 1, "rank 2 of 3"), ("input", 1, 2, "error on rank 1"),
    ("load", 1, 2, "only I can't load it (rank 1)")])
def test_a_failing_rank_ends_all(run, pictures, tmp_path, what, rank, code, said):
    """None is left waiting, and it is said where and why."""
    done = subprocess.run(
        ["mpirun", "-np", "3", sys.executable, "-c", BROKEN, what, str(rank), "--model", run,
         "--device", "cpu", "--ela-dir", tmp_path / "maps", pictures], cwd=tmp_path, text=True,
        capture_output=True, timeout=120)
    assert done.returncode == code, done.stderr
    assert said in done.stderr


def test_a_closed_pipe_is_no_error(run, pictures, tmp_path):
    """``predict … | head -1``: quiet, with code 0. (mpirun itself ends at a closed pipe.)"""
    process = subprocess.Popen(
        [sys.executable, "-m", "hpc_deepfake.cli", "predict", "--model", run, "--device", "cpu",
         "--format", "json", *[pictures] * 20], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE)
    assert process.stdout.readline().startswith("{")
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(120) == 0, err
    assert "Traceback" not in err and "BrokenPipe" not in err
