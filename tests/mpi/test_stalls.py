"""A rank that hangs is named, with what it was doing, wherever others wait for it; one that hangs
for too long ends the job, and one that continues does no harm."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from conftest import ROOT
from speed import limit

pytestmark = [pytest.mark.mpi, pytest.mark.slow]
PROGRAM = Path(__file__).with_name("stalled.py")
TOY = {"PYTHONPATH": str(ROOT / "tests" / "toy")}
HOST = os.uname().nodename


def start(point: str, rank: int, how: str, *options: object, ranks: int, cwd: Path,
          env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["mpirun", "-np", str(ranks), sys.executable, PROGRAM, point, str(rank), how, "--",
         *map(str, options)], cwd=cwd, env={**os.environ, **(TOY if env is None else env)},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def training(data: Path, run: Path, warning: float, ending: float) -> list[object]:
    return ["--data", data, "--run", run, "--epochs", 2, "--batch-size", 3, "--device", "cpu",
            "--threads", 1, "--no-report", "--stall-warning", warning, "--stall-limit", ending]


@pytest.mark.parametrize(("point", "rank", "doing", "env"), [
    ("probabilities", 1, r"evaluating \(batch 0\)", {}),
    ("results", 0, "writing the results", {}),
    ("start", 2, "building the network", {}),
    # without a thread that could call MPI
    ("state", 1, "saving a checkpoint", {"MPI4PY_RC_THREAD_LEVEL": "serialized"})])
def test_a_rank_that_hangs_is_named_and_ends_the_job(
        data_file: Path, tmp_path: Path, point: str, rank: int, doing: str,
        env: dict[str, str]) -> None:
    """After the warning time and after the limit, with the line of the program."""
    seconds = limit(2)  # a slow machine needs as much for other phases
    process = start(point, rank, "sleep", *training(data_file, tmp_path / "run", seconds,
                                                    2 * seconds), ranks=3,
                    cwd=tmp_path, env={**TOY, **env, "HPC_DEEPFAKE_ERROR_FILE": "error"})
    text, _ = process.communicate(timeout=limit(60))
    assert process.returncode == 1, text
    place = r"[^)]+" if env else "mpi/stalled.py:\\d+, hang"
    said = re.findall(rf"^rank (\d) on {HOST} has been {doing} for \d+ s while others wait "
                      rf"\(in {place}\)(.*)$", text, re.MULTILINE)
    assert said[-1] == (str(rank), "; ending the job"), text
    assert (str(rank), "") in said, text
    assert "ending the job" in (tmp_path / "error").read_text()
    assert ("without full thread support" in text) == bool(env)


def test_a_rank_that_is_stopped_for_a_while_does_no_harm(data_file: Path, tmp_path: Path) -> None:
    """It is named, and continues."""
    process = start("step", 0, "stop", *training(data_file, tmp_path / "run", 1, 0), ranks=2,
                    cwd=tmp_path)
    said = []
    for line in process.stdout:
        said.append(line)
        if "gives no sign of life" in line:
            for rank in psutil.Process(process.pid).children():
                rank.send_signal(signal.SIGCONT)
    text = "".join(said)
    assert process.wait(timeout=limit(60)) == 0, text
    assert re.search(rf"^rank 1: rank 0 on {HOST} gives no sign of life for \d+ s; it was last "
                     "seen ", text, re.MULTILINE)
    assert (tmp_path / "run" / "summary.json").exists()


def test_a_rank_that_does_not_end_mpi_keeps_no_job(data_file: Path, tmp_path: Path) -> None:
    """The run is complete."""
    seconds = round(limit(2))
    process = start("end", 1, "stop", *training(data_file, tmp_path / "run", 1, seconds), ranks=2,
                    cwd=tmp_path, env={**TOY, "HPC_DEEPFAKE_OUTCOME_FILE": "code"})
    text, _ = process.communicate(timeout=limit(60))
    assert f"another rank has not ended MPI for {seconds} s; this program is done" in text
    assert (tmp_path / "code").read_text() == "0\n"
    assert (tmp_path / "run" / "summary.json").exists()


@pytest.mark.parametrize("point", ["features", "options"])
def test_preprocessing_ends_when_a_rank_is_stopped(pictures: Path, tmp_path: Path,
                                                   point: str) -> None:
    """Even before it has read its options."""
    process = start(point, 1, "stop", "--data", pictures, "--out", tmp_path / "features.h5",
                    "--stall-warning", limit(1), "--stall-limit", limit(3), ranks=2, cwd=tmp_path,
                    env={})
    text, _ = process.communicate(timeout=limit(60))
    assert process.returncode == 1, text
    assert re.search(rf"^rank 1 on {HOST} gives no sign of life for \d+ s; it was last seen .*; "
                     "ending the job$", text, re.MULTILINE), text
