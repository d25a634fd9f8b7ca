"""predict under mpirun: the same output for any number of ranks, and an orderly end on errors."""

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
from speed import limit

pytestmark = [pytest.mark.mpi, pytest.mark.slow]

# predict with a fault on one rank; the first argument says which fault
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
            model.load = lambda _: (_ for _ in ()).throw(InputError("this rank can't load it"))
        else:
            scoring.pictures = fail
    return predict.main(arguments, comm)

mpi.run(main)
"""


@pytest.fixture(scope="module")
def run(small_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a short training."""
    path = tmp_path_factory.mktemp("runs") / "first"
    done = run_program("hpc_deepfake.train", "--data", small_file, "--run", path, "--epochs", "1",
                       "--batch-size", "8", "--device", "cpu", "--no-report", cwd=path.parent)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def folder(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Links to the pictures, a video among them, and two unreadable files."""
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


def test_one_and_three_ranks_have_the_same_output(run, folder, tmp_path):
    """Every file once, in the list's order, with the same probability; maps with the same names."""
    rows = {}
    for ranks in (1, 3):
        done = predict(run, folder, ranks, "--ela-dir", tmp_path / str(ranks), cwd=tmp_path)
        assert done.returncode == 2, done.stderr  # two files can't be read
        assert "60 pictures and 1 video (10 frames), " in done.stderr
        assert f"on {ranks} rank{'s' * (ranks > 1)}\n" in done.stderr
        assert "2 of 63 could not be read" in done.stderr
        assert done.stderr.count("images/s") == 1, "from rank 0 only"
        rows[ranks] = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows[1]) == 63 + 10
    for serial, parallel in zip(rows[1], rows[3], strict=True):
        assert (serial["path"], serial["verdict"]) == (parallel["path"], parallel["verdict"])
        assert (serial["probability"] == "") == (parallel["probability"] == "")
        if serial["probability"]:
            # batches of another size: the last bits may differ
            assert float(serial["probability"]) == pytest.approx(float(parallel["probability"]),
                                                                 abs=2e-5)
    listed = [Path(row["path"]).name for row in rows[1] if "#" not in row["path"]]
    assert listed == sorted(path.name for path in folder.iterdir())
    assert len({row["probability"] for row in rows[1]}) > 50
    maps = [sorted(path.name for path in (tmp_path / ranks).iterdir()) for ranks in ("1", "3")]
    assert maps[0] == maps[1] and len(maps[0]) == 60


def test_more_ranks_than_pictures(run, pictures, tmp_path):
    """Ranks without work wait for the others."""
    done = predict(run, sorted(pictures.glob("Au/*"))[0], 2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2


def test_a_list_on_standard_input_reaches_all_ranks(run, pictures, tmp_path):
    """mpirun passes standard input to rank 0, which makes the list."""
    paths = sorted(map(str, pictures.glob("*/*.jpg")))
    done = subprocess.run(
        ["mpirun", "-np", "2", sys.executable, "-m", "hpc_deepfake.predict", "--model", run,
         "--device", "cpu", "--format", "json", "-"], input="\0".join(paths), cwd=tmp_path,
        text=True, capture_output=True, timeout=limit(240))
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["path"] for line in done.stdout.splitlines()] == paths


def test_wrong_input_is_reported_once(run, tmp_path):
    """By rank 0, for all ranks; code 2."""
    done = predict(run, tmp_path / "gone", 3, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("error: there is no picture or folder") == 1
    assert "Traceback" not in done.stderr and not done.stdout


@pytest.mark.parametrize(("what", "rank", "code", "message"), [
    ("boom", 1, 1, "rank 1 of 2"), ("input", 1, 2, "error on rank 1"),
    ("load", 1, 2, "this rank can't load it (rank 1 on ")])
def test_a_failing_rank_ends_all(run, pictures, tmp_path, what, rank, code, message):
    """No rank is left waiting, and the message says where and why."""
    done = subprocess.run(
        ["mpirun", "-np", "2", sys.executable, "-c", BROKEN, what, str(rank), "--model", run,
         "--device", "cpu", "--ela-dir", tmp_path / "maps", pictures], cwd=tmp_path, text=True,
        capture_output=True, timeout=limit(120))
    assert done.returncode == code, done.stderr
    assert message in done.stderr


def test_a_closed_pipe_is_not_an_error(run, pictures, tmp_path):
    """``predict … | head -1``: no message, code 141. (mpirun itself ends if its reader leaves.)"""
    process = subprocess.Popen(
        [sys.executable, "-m", "hpc_deepfake.cli", "predict", "--model", run, "--device", "cpu",
         "--format", "json", *[pictures] * 20], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE)
    assert process.stdout.readline().startswith("{")
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(limit(120)) == 141, err
    assert "Traceback" not in err and "BrokenPipe" not in err
