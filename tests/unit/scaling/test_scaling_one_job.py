"""A scaling study in one allocation, and options that depend on the number of nodes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from job_scripts import JOBS, command, run_script
from scaling_records import finished, plan

from hpc_deepfake.scaling import study
from hpc_deepfake.scaling.records import rows

STUDY = {"RUN": "my study", "TRAIN": "train_cpu", "DEVICE": "cpu", "MAX_NODES": "4",
         "RANKS_PER_NODE": "2", "KINDS": "strong", "DATA": "my data.h5", "PYTHONPATH": str(ROOT)}
# Instead of Python in jobs: trainings end with the exit code in the file codes/RUN, by default 0.
STAND_IN = """
case "$*" in
    *-m\\ hpc_deepfake.train\\ *)
        all="$*" run=${all#*--run } run=${run%% --resume*}
        printf '%s\\n' "$(basename "$run") $(head -1 current)" >>programs
        code=$(cat "codes/$(basename "$run")" 2>/dev/null || echo 0)
        echo "$code" >"$HPC_DEEPFAKE_OUTCOME_FILE"
        exit "$code" ;;
esac
exec PYTHON "$@" """


@pytest.fixture
def bin_path(tmp_path: Path) -> Path:
    """sbatch keeps scripts and options; srun keeps its own options, and runs the program once; a
    Python whose trainings are played."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command(folder, "sbatch", f"""
        n=$(ls {tmp_path}/submitted.* 2>/dev/null | wc -l)
        cp "${{@: -1}}" {tmp_path}/submitted.$((100 + n))
        printf '%s\\n' "${{*:1:$#-1}}" >>{tmp_path}/options
        echo $((100 + n))""")
    command(folder, "squeue", f"cat {tmp_path}/queue 2>/dev/null; true")
    command(folder, "srun", f"""
        [[ $1 != --mpi=list ]] || {{ echo pmix; exit; }}
        printf '%s\\n' "$*" >{tmp_path}/current
        while [[ $1 == -* ]]; do shift; done
        exec "$@" """)
    (tmp_path / "env" / "bin").mkdir(parents=True)
    command(tmp_path / "env" / "bin", "python", STAND_IN.replace("PYTHON", sys.executable))
    (tmp_path / "codes").mkdir()
    (tmp_path / STUDY["DATA"]).touch()
    return folder


def submit(bin_path: Path, tmp_path: Path, *words: str, **variables: str):
    done = run_script(JOBS / "slurm" / "scaling_study.sh", *words, bin_path=bin_path,
                      cwd=tmp_path, **{**STUDY, **variables})
    assert done.returncode == 0, done.stderr
    return done


def test_options_from_a_number_of_nodes_on(bin_path, tmp_path):
    submit(bin_path, tmp_path, TRAIN_OPTIONS="--mem=4G", TRAIN_OPTIONS_2="--partition=large",
           TRAIN_OPTIONS_4="--partition=huge --qos=q")
    options = (tmp_path / "options").read_text().splitlines()
    sizes = [re.search(r"--nodes=(\d)", line)[1] for line in options[:-1]]
    partitions = [re.findall(r"--partition=(\w+)", line) for line in options]
    assert sizes == ["1", "1", "2", "4"]
    assert partitions == [[], [], ["large"], ["huge"], []]  # the last one is the report's
    assert all("--mem=4G" in line for line in options[:-1]) and "--qos=q" in options[3]


def test_options_that_name_no_number_of_nodes_are_refused(bin_path, tmp_path):
    done = run_script(JOBS / "slurm" / "scaling_study.sh", bin_path=bin_path, cwd=tmp_path,
                      **STUDY, TRAIN_OPTIONS_BIG="--partition=large")
    assert done.returncode == 2 and "8:--partition=large (TRAIN_OPTIONS_8)" in done.stderr
    assert not (tmp_path / "options").exists()


def test_one_job_of_the_largest_size_is_submitted(bin_path, tmp_path):
    """It is a job of the training's script; submitted again while it waits, there is none."""
    done = submit(bin_path, tmp_path, "--dry-run", ONE_JOB="1", LIMIT="2:00:00")
    assert "1 job of at most 120 min on 4 nodes, 8.00 node hours at most, for 4 runs" in done.stdout
    assert "cost of what is to be done, and of the report: at most 8 node hours" in done.stdout
    done = submit(bin_path, tmp_path, ONE_JOB="1", LIMIT="2:00:00",
                  TRAIN_OPTIONS_4="--partition=huge")
    option, = (tmp_path / "options").read_text().splitlines()
    script = (tmp_path / "submitted.100").read_text()
    for directive in ("nodes=4", "ntasks-per-node=2", "time=02:00:00", "partition=huge"):
        assert f"--{directive}" in option or f"#SBATCH --{directive}" in script
    assert "#SBATCH --signal=B:USR1@300" in script and "#SBATCH --requeue" in script
    assert "job_study=my\\ study" in script and script.rstrip().endswith("\ntrain")
    assert "all: job 100" in done.stdout and "it writes the report at its end" in done.stdout
    (tmp_path / "queue").write_text("100\n")
    assert "all: already in job 100" in submit(bin_path, tmp_path, ONE_JOB="1").stdout
    assert not (tmp_path / "submitted.101").exists()


@pytest.mark.slow
def test_the_steps_grow_and_a_failed_one_keeps_no_other_from_running(bin_path, tmp_path):
    """How a step is launched by others than srun: test_launchers.py."""
    submit(bin_path, tmp_path, ONE_JOB="1", DOCTOR="off")
    runs = study.read(tmp_path / "my study").runs
    finished(tmp_path / "my study", runs[1], 100.0)  # two ranks of one node: not run again
    (tmp_path / "codes" / runs[2].name).write_text("1")
    done = run_script(tmp_path / "submitted.100", bin_path=bin_path, cwd=tmp_path,
                      HPC_DEEPFAKE_ENV=str(tmp_path / "env"), PYTHONPATH=str(ROOT),
                      SLURM_JOB_ID="100", SLURM_JOB_NUM_NODES="4", SLURM_NTASKS="8")
    assert done.returncode == 1, done.stdout + done.stderr
    programs = [line.split(" ", 1) for line in (tmp_path / "programs").read_text().splitlines()]
    assert [name for name, _ in programs] == [runs[number].name for number in (0, 2, 3)]
    sizes = [dict(re.findall(r"--(nodes|ntasks|ntasks-per-node)=(\d+)", words))
             for _, words in programs]
    assert [(size["nodes"], size["ntasks"], size["ntasks-per-node"]) for size in sizes] == [
        ("1", "1", "1"), ("2", "4", "2"), ("4", "8", "2")]
    assert f"{runs[2].name} failed: exit code 1" in done.stdout
    assert "1 of 4 runs" in done.stdout  # the played ones leave no results
    assert (tmp_path / "my study" / "report.html").exists()
    assert [study.state(tmp_path / "my study", run)[0] for run in runs] == [
        "failed", "done", "failed", "failed"]


def test_the_accounting_of_a_job_counts_for_none_of_its_runs(tmp_path):
    """The first two runs were steps of job 100; the third one had a job of its own."""
    planned = plan(nodes=4)
    for run, job in zip(planned.runs, ("100", "100", "101"), strict=True):
        finished(tmp_path, run, 100.0)
        (tmp_path / run.name / "jobs").mkdir(exist_ok=True)
        (tmp_path / run.name / "jobs" / f"{job}.env").touch()
    asked: list[str] = []

    def ask(subject: str) -> None:
        asked.append(Path(subject).name)
        raise OSError

    rows(tmp_path, planned, ask)
    assert asked == [planned.runs[2].name]
