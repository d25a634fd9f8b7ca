"""PBS jobs with real ranks under mpirun: a played server, a toy to train."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import pytest
from conftest import ROOT, read_lines
from played_pbs import PlayedPbs
from speed import limit

pytestmark = [pytest.mark.mpi, pytest.mark.slow]

TRAINING = "--epochs 500 --patience 0 --batch-size 4"


@pytest.fixture
def toy(pbs: PlayedPbs, data_file: Path) -> dict[str, str]:
    """Variables of a job that trains the toy, without the preflight check."""
    path = [str(ROOT / "tests" / "toy"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"DATA": str(data_file), "RUN": "run", "DOCTOR": "off", "PYTHONPATH": ":".join(path),
            **pbs.real_programs()}


def epochs(folder: Path) -> list[int]:
    return [line["epoch"] for line in read_lines(folder / "metrics.jsonl")]


def test_ranks_on_two_hosts(pbs: PlayedPbs, toy: dict[str, str], tmp_path: Path) -> None:
    """By pbs_tmrsh, which ends whatever a daemon leaves behind when it goes into the background,
    and knows hosts by their names with domains only; from a clone in a path with a space."""
    pbs.configure(hosts=[os.uname().nodename, "n02.cluster.local"])
    clone = tmp_path / "my clone"
    shutil.copytree(ROOT / "jobs", clone / "jobs")
    shutil.copytree(ROOT / "env", clone / "env", ignore=shutil.ignore_patterns("*.def", "*.txt"))
    job = pbs.submit(clone / "jobs" / "pbs" / "train_cpu.sh", "-l", "select=2:ncpus=1:mpiprocs=1",
                     cwd=tmp_path, ARGS="--epochs 1", **toy)
    assert pbs.wait(job, seconds=40)["Exit_status"] == "0", pbs.log(job)
    assert "sync on 2 ranks" in pbs.log(job)
    assert (pbs.folder / "remote").read_text() == f"{job} n02.cluster.local\n"


def test_the_timer_stops_training_and_the_successor_resumes(
        pbs: PlayedPbs, toy: dict[str, str], tmp_path: Path) -> None:
    """A signal before the walltime, a checkpoint, exit code 75; the successor resumes."""
    programs = tmp_path / "bin"
    programs.mkdir()
    # the timer's sleep: until another epoch is done, however fast the machine
    (programs / "sleep").write_text(f"""#!/bin/bash
        echo "$1" >>{tmp_path}/slept
        epochs() {{ cat {tmp_path}/run/metrics.jsonl 2>/dev/null | wc -l; }}
        before=$(epochs)
        until (($(epochs) > before)); do /bin/sleep 0.1; done\n""")
    (programs / "sleep").chmod(0o755)
    job = pbs.submit(ROOT / "jobs" / "pbs" / "train_cpu.sh", "-l", "select=1:ncpus=2:mpiprocs=2",
                     "-l", "walltime=00:05:00", cwd=tmp_path, ARGS=TRAINING, MAX_RESTARTS="1",
                     PATH=f"{programs}:{pbs.environment['PATH']}", HPC_DEEPFAKE_STOP_MARGIN="90",
                     **toy)
    assert pbs.wait(job, seconds=40)["Exit_status"] == "75", pbs.log(job)
    assert 200 <= int((tmp_path / "slept").read_text().split()[0]) <= 210
    assert "stopped; job 2.server resumes from here" in pbs.log(job)
    finished = len(epochs(tmp_path / "run"))
    assert pbs.wait("2.server", seconds=40)["Exit_status"] == "75", pbs.log("2.server")
    assert re.search(r"resuming run (in|after) epoch", pbs.log("2.server"))
    assert "stopped after 2 run(s) (MAX_RESTARTS=1)" in pbs.log("2.server")
    assert epochs(tmp_path / "run") == list(range(1, len(epochs(tmp_path / "run")) + 1))
    assert len(epochs(tmp_path / "run")) > finished


def test_a_deleted_job_can_be_resumed(pbs: PlayedPbs, toy: dict[str, str], tmp_path: Path) -> None:
    """qdel sends TERM to all processes, mpirun among them: the job was stopped, it has not
    failed, and nothing is submitted."""
    job = pbs.submit(ROOT / "jobs" / "pbs" / "train_cpu.sh", "-l", "select=1:ncpus=2:mpiprocs=2",
                     cwd=tmp_path, ARGS=TRAINING, **toy)
    metrics, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + limit(40)
    while not metrics.exists():
        assert time.monotonic() < deadline, pbs.log(job)
        time.sleep(0.1)
    pbs.shell("qdel", job, cwd=tmp_path)
    assert pbs.wait(job)["Exit_status"] == "75", pbs.log(job)
    assert "stopped while being deleted or ended: submit it again to resume" in pbs.log(job)
    assert (tmp_path / "run" / "jobs" / "outcome").read_text() == "75\n"
    assert list(pbs.jobs) == [job]
