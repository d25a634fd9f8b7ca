"""What a job gives the ranks of its nodes, and what it leaves on them: run with a fake launcher."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import ROOT
from job_scripts import JOBS, command, run_script

SLURM = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS": "4",
         "SLURM_CPUS_PER_TASK": "3", "DOCTOR": "off", "MAX_RESTARTS": "3"}


@pytest.fixture
def bin_path(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    command(folder, "scontrol", f"""
        [[ $1 != requeue ]] || {{ ls -A "$STAGE" >{tmp_path}/left; exit; }}
        echo JobState=RUNNING""")
    return folder


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory with a data file that a killed training has left there."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        Path(folder, f"casia-{os.geteuid()}-01234567.h5").touch()
        yield Path(folder)


@pytest.mark.parametrize(("ending", "code"), [
    ('echo 75 >"$HPC_DEEPFAKE_OUTCOME_FILE"', 75), ("exit 1", 1),
    ("trap 'exit 143' USR1; kill -TERM $PPID; while true; do sleep 0.05; done", 75),
    ('echo 0 >"$HPC_DEEPFAKE_OUTCOME_FILE"', 0)], ids=["stopped", "failed", "signalled", "done"])
def test_copies_in_memory_are_removed_however_a_job_ends(
        bin_path: Path, tmp_path: Path, memory: Path, ending: str, code: int) -> None:
    """On each node; before a stopped job is queued again, where SLURM ends the shell."""
    command(bin_path, "srun", f"""
        [[ $1 != --mpi=list ]] || {{ echo "pmix"; exit; }}
        echo "$*" >>{tmp_path}/steps
        while [[ $1 == --* ]]; do shift; done
        [[ $* == *preprocessing* ]] || exec "$@"
        {ending}""")
    done = run_script(JOBS / "slurm" / "preprocess.sh", bin_path=bin_path, cwd=tmp_path, **SLURM,
                      STAGE=str(memory), DATA="f.h5", PICTURES="none")
    assert done.returncode == code, done.stdout + done.stderr
    assert not list(memory.iterdir())
    step = (tmp_path / "steps").read_text().splitlines()[-1]
    assert step.endswith(f"clean {memory}") and "--ntasks=2 --ntasks-per-node=1" in step
    assert code != 75 or (tmp_path / "left").read_text() == ""


def test_copies_on_a_disk_stay(bin_path: Path, tmp_path: Path) -> None:
    kind = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], text=True, capture_output=True)
    if kind.stdout.strip() == "tmpfs":
        pytest.skip("the tests' folder is in memory")
    command(bin_path, "srun", f"""
        [[ $1 != --mpi=list ]] || {{ echo "pmix"; exit; }}
        echo "$*" >>{tmp_path}/steps""")
    run_script(JOBS / "slurm" / "preprocess.sh", bin_path=bin_path, cwd=tmp_path, **SLURM,
               STAGE=str(tmp_path), DATA="f.h5", PICTURES="none")
    assert len((tmp_path / "steps").read_text().splitlines()) == 1


def test_mpirun_passes_no_gpus_and_no_cpus_of_a_rank_on(bin_path: Path, tmp_path: Path) -> None:
    """Both differ from node to node, or are for srun alone."""
    command(bin_path, "mpirun", f"""
        [[ $1 != --version ]] || {{ echo "mpirun (Open MPI) 4.1.4"; exit; }}
        printf '%s\\n' "$@" "SRUN ${{SRUN_CPUS_PER_TASK:-none}}" >{tmp_path}/words""")
    run_script(JOBS / "slurm" / "preprocess.sh", bin_path=bin_path, cwd=tmp_path, **SLURM,
               DATA="f.h5", PICTURES="none", HPC_DEEPFAKE_LAUNCHER="mpirun",
               SRUN_CPUS_PER_TASK="3", NCCL_DEBUG="WARN", CUDA_VISIBLE_DEVICES="0,1",
               ROCR_VISIBLE_DEVICES="0", HIP_VISIBLE_DEVICES="0", ZE_AFFINITY_MASK="0",
               GPU_DEVICE_ORDINAL="0")
    words = (tmp_path / "words").read_text().splitlines()
    passed = {name for option, name in pairwise(words) if option == "-x"}
    assert {"NCCL_DEBUG", "PATH", "OMP_NUM_THREADS"} <= passed
    assert not passed & {"CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES",
                         "ZE_AFFINITY_MASK", "GPU_DEVICE_ORDINAL"}
    assert words[-1] == "SRUN none"


@pytest.mark.parametrize(("first", "gpus", "seen"), [
    ("n01", "GPU-1a,GPU-2b", "none"), ("n01", "MIG-1a", "none"), ("n01", "0,1", "0,1"),
    ("{here}", "GPU-1a,GPU-2b", "GPU-1a,GPU-2b")])
def test_gpus_by_name_are_those_of_one_host(first: str, gpus: str, seen: str) -> None:
    """Launchers that pass the whole environment on, such as MPICH's: HOSTNAME, too, where a job's
    shell exports it."""
    first = first.format(here=os.uname().nodename)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": gpus, "HOSTNAME": first,
                   "HPC_DEEPFAKE_FIRST_GPUS": f"{first}@{gpus}"}
    show = ["bash", "-c", "echo ${CUDA_VISIBLE_DEVICES:-none}"]
    done = subprocess.run([ROOT / "jobs" / "lib" / "rank.sh", *show], env=environment, text=True,
                          capture_output=True)
    assert done.stdout == f"{seen}\n", done.stderr
    own = {**environment, "CUDA_VISIBLE_DEVICES": "GPU-3c"}  # set by the scheduler on that host
    done = subprocess.run([ROOT / "jobs" / "lib" / "rank.sh", *show], env=own, text=True,
                          capture_output=True)
    assert done.stdout == "GPU-3c\n"
