"""PBS scripts that are stopped before their walltime and resume in another job: real ranks of a
real training under mpirun, with fake qsub and qstat."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, read_lines

pytestmark = [pytest.mark.mpi, pytest.mark.slow]


@pytest.fixture
def host(tmp_path: Path) -> dict[str, str]:
    """Environment of a job with two ranks on this machine."""
    folder = tmp_path / "bin"
    folder.mkdir()
    nodes = tmp_path / "nodes"
    nodes.write_text("localhost\nlocalhost\n")
    for name, body in (
            ("qstat", "printf 'Job Id: %s\\n    Job_Name = hd-train-cpu\\n' \"${@: -1}\"\n"
                      "echo '    Resource_List.walltime = '${WALLTIME:-00:01:38}\n"
                      "echo '    Resource_List.select = 1:ncpus=2:mpiprocs=2'\n"
                      "echo '    queue = small'"),
            # the timer's sleep: until the first epoch is done, however fast the machine
            ("sleep", f"echo \"$1\" >>{tmp_path}/slept\n"
                      f"until [[ -s {tmp_path}/runs/123.server/metrics.jsonl ]]\n"
                      "do /bin/sleep 0.2; done"),
            ("qsub", f"printf '%q ' \"$@\" >>{tmp_path}/qsub\necho 124.server")):
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "HPC_DEEPFAKE_ENV": sys.prefix,
            "PBS_JOBID": "123.server", "PBS_O_WORKDIR": str(tmp_path), "PBS_NODEFILE": str(nodes),
            "PBS_JOBNAME": "hd-train-cpu", "NCPUS": "2", "HPC_DEEPFAKE_STOP_MARGIN": "90",
            "DOCTOR": "off",
            # what activate.sh leaves to the scheduler inside of a job
            "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "OMPI_MCA_rmaps_base_oversubscribe": "1"}


def run(script: Path, env: dict[str, str], cwd: Path,
        *arguments: str) -> subprocess.CompletedProcess[str]:
    # PBS starts a job in the home directory
    (cwd / "home").mkdir(exist_ok=True)
    return subprocess.run(["bash", script, *arguments], env=env, cwd=cwd / "home", text=True,
                          capture_output=True, timeout=240, stdin=subprocess.DEVNULL)


def epochs(folder: Path) -> list[int]:
    return [line["epoch"] for line in read_lines(folder / "metrics.jsonl")]


def test_the_timer_stops_training_and_the_successor_resumes(host: dict[str, str], tmp_path: Path,
                                                           data_file: Path) -> None:
    """Walltime 98 s according to qstat, 90 s of margin: a signal after 8 s, a checkpoint, exit code
    75, and a successor submitted with the same resources; when run, it resumes."""
    script = ROOT / "jobs" / "pbs" / "train_cpu.sh"
    done = run(script, {**host, "DATA": str(data_file), "ARGS": "--epochs 500 --patience 0 "
                        "--batch-size 4"}, tmp_path)
    assert done.returncode == 75, done.stdout + done.stderr
    assert 1 <= int((tmp_path / "slept").read_text()) <= 8
    assert "stopped; job 124.server resumes from here" in done.stdout
    training = tmp_path / "runs" / "123.server"
    folder = training / "jobs"
    assert (folder / "outcome").read_text() == "75\n"
    assert (folder / "next").read_text() == "124.server\n"
    asked = shlex.split((tmp_path / "qsub").read_text())
    assert asked == ["-l", "walltime=00:01:38", "-l", "select=1:ncpus=2:mpiprocs=2", "-q", "small",
                     "-W", "depend=afterany:123.server", "runs/123.server/jobs/successor.sh"]
    finished = len(epochs(training))

    successor = (folder / "successor.sh").read_text()
    assert "\njob_restarts=1\n" in successor
    # with fewer epochs, so that it finishes in the test
    (tmp_path / "second.sh").write_text(re.sub(r"500", str(finished + 2), successor))
    again = {name: value for name, value in host.items() if name != "DOCTOR"}
    (tmp_path / "bin" / "sleep").unlink()
    done = run(tmp_path / "second.sh", {**again, "WALLTIME": "01:00:00", "PBS_JOBID": "124.server"},
               tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "run 2; " in done.stdout
    assert "resuming runs/123.server in epoch" in done.stdout
    assert epochs(training) == list(range(1, finished + 3))


def test_a_deleted_job_has_no_successor(host: dict[str, str], tmp_path: Path,
                                        data_file: Path) -> None:
    """qdel sends TERM: everything is saved, and nothing is submitted."""
    (tmp_path / "bin" / "sleep").unlink()
    (tmp_path / "home").mkdir()
    job = subprocess.Popen(["bash", ROOT / "jobs" / "pbs" / "train_cpu.sh"], text=True, env={
        **host, "DATA": str(data_file), "ARGS": "--epochs 500 --patience 0 --batch-size 4",
        "WALLTIME": "01:00:00"}, cwd=tmp_path / "home", stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    metrics = tmp_path / "runs" / "123.server" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not metrics.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    job.terminate()
    out, _ = job.communicate(timeout=120)
    assert job.returncode == 75, out
    assert "a checkpoint is written" in out
    assert out.strip().endswith("stopped while being deleted or ended: submit it again to resume")
    assert not (tmp_path / "qsub").exists()


def test_where_nodes_may_not_submit_the_command_is_printed(host: dict[str, str], tmp_path: Path,
                                                          data_file: Path) -> None:
    script = ROOT / "jobs" / "pbs" / "train_cpu.sh"
    done = run(script, {**host, "DATA": str(data_file), "ARGS": "--epochs 500 --patience 0 "
                        "--batch-size 4", "HPC_DEEPFAKE_RESUBMIT": "no"}, tmp_path)
    assert done.returncode == 75, done.stdout + done.stderr
    assert not (tmp_path / "qsub").exists()
    assert f"  cd {tmp_path} && qsub runs/123.server/jobs/successor.sh" in done.stdout
    assert (tmp_path / "runs" / "123.server" / "jobs" / "successor.sh").exists()
