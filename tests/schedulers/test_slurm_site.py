"""Jobs with a site file, on a cluster with rules as real sites have them: CPU and GPU jobs in
partitions and accounts of their own, submitted on the login node; ranks that see only their CPUs
and GPUs; modules by Lmod; work in a folder that is mounted ``noexec``."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from schedulers.conftest import FOLDER, TOY, Job, Lab

pytestmark = [pytest.mark.mpi, pytest.mark.slow]

# The GPU nodes have no GPUs that work, so programs run on their CPUs: DEVICE.
SITE = f"""\
export HPC_DEEPFAKE_PROFILE={FOLDER}/lmod.sh
load_modules gcc/13 openmpi || return
export HPC_DEEPFAKE_SCHEDULER=slurm
export HPC_DEEPFAKE_SRUN_MPI=pmix
export HPC_DEEPFAKE_DEVICE=cpu
export HPC_DEEPFAKE_CPU_ACCOUNT=lab HPC_DEEPFAKE_CPU_PARTITION=cpu
export HPC_DEEPFAKE_CPU_RANKS=2 HPC_DEEPFAKE_CPU_CPUS=1
export HPC_DEEPFAKE_GPU_ACCOUNT=lab_g HPC_DEEPFAKE_GPU_PARTITION=gpu
export HPC_DEEPFAKE_GPU_REQUEST='--gres=gpu:{{gpus}}'
export HPC_DEEPFAKE_GPUS=1 HPC_DEEPFAKE_GPU_CPUS=1
export HPC_DEEPFAKE_SMALL_RANKS=2 HPC_DEEPFAKE_SMALL_CPUS=1
export HPC_DEEPFAKE_SMALL_OPTIONS=--comment=small
"""


@pytest.fixture(scope="module")
def site(lab: Lab) -> Path:
    """A folder mounted ``noexec``, with a space in its name, for jobs with ``SITE=lab``."""
    write_site(lab, "lab", SITE)
    folder = FOLDER / "noexec" / "my work"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def write_site(lab: Lab, name: str, text: str) -> None:
    path = lab.clone / "env" / "sites" / f"{name}.sh"
    path.write_text(text)
    path.chmod(0o644)


def activated(lab: Lab) -> str:
    return f"source {shlex.quote(f'{lab.clone}/env/activate.sh')}"


def submitted(text: str) -> list[str]:
    return re.findall(r": job (\d+)", text)


def logs(jobs: list[Job]) -> str:
    return "\n".join(job.log for job in jobs)


def test_a_rank_reaches_only_its_cpus_and_gpus(lab: Lab) -> None:
    """Of the cluster itself, as far as this machine allows it: see lab.sh."""
    allowed = (FOLDER / "binding").read_text().splitlines()
    if "affinity=yes" in allowed:
        cpus = lab.run("srun -A lab -p cpu -N 2 --ntasks-per-node=2 -c 1 "
                       "sed -n 's/^Cpus_allowed_list:[^0-9]*//p' /proc/self/status").split()
        assert sorted(cpus) == ["0", "0", "1", "1"]
    if "cgroups=yes" in allowed:
        text = lab.run("srun -A lab_g -p gpu -N 1 --ntasks-per-node=2 --gpus-per-task=1 bash -c "
                       "'for gpu in /dev/hd-gpu{0..3}; do : <$gpu; done' 2>&1 || true")
        # as by NVIDIA's driver: not permitted, or (its own) a device behind which nothing is
        assert (text.count("not permitted"), text.count("No such device")) == (6, 2)


def test_lmod_loads_by_the_beginning_of_a_version(lab: Lab, site: Path) -> None:
    """Under ``set -u``, which the profile script doesn't survive; what is missing is named."""
    text = lab.run(f"set -euo pipefail; export SITE=lab; {activated(lab)}; echo $LOADEDMODULES; "
                   "case $- in *u*) echo strict ;; esac", site)
    assert text.splitlines() == ["gcc/13.2.0:openmpi/4.1.4", "strict"]
    for name, modules, error in (
            ("none", "gcc/14",
             "module gcc/14 of env/sites/none.sh can't be loaded; see: module avail gcc"),
            ("order", "openmpi gcc/13", "module openmpi of env/sites/order.sh can't be loaded")):
        write_site(lab, name, SITE.replace("gcc/13 openmpi", modules))
        text = lab.run(f"SITE={name}; {activated(lab)}; echo status $?", site)
        assert error in text and text.endswith("status 2\n")


def test_a_pipeline_runs_where_the_site_file_sends_its_jobs(lab: Lab, site: Path,
                                                            pictures: Path) -> None:
    """From the login node, which may submit; a mail at the end of training."""
    lab.take(pictures, site / "my pictures")
    script = shlex.quote(f"{lab.clone}/jobs/slurm/pipeline.sh")
    numbers = submitted(lab.run(
        "SITE=lab PICTURES='my pictures' DATA=features.h5 RUN=runs/first "
        f"TRAIN_OPTIONS='--mail-type=END --mail-user=me@site' bash {script} "
        "--epochs 1 --batch-size 4 --feature ela", site))
    jobs = [lab.wait(number) for number in numbers]
    preprocessing, training, evaluation = jobs
    assert [(job.state, job.code) for job in jobs] == [("COMPLETED", 0)] * 3, logs(jobs)
    facts = [lab.facts(number) for number in numbers]
    assert [(fact["Account"], fact["Partition"], fact["NodeList"]) for fact in facts] == [
        ("lab", "cpu", "n[05-06]"), ("lab_g", "gpu", "n[01-02]"), ("lab", "cpu", "n05")]
    assert [fact.get("Comment") for fact in facts] == [None, None, "small"]
    if "affinity=yes" in (FOLDER / "binding").read_text():
        assert "2 ranks with 1 of their own each" in preprocessing.log
    run = site / "runs" / "first"
    variables = (run / "jobs" / f"{training.number}.env").read_text()
    assert "LOADEDMODULES=gcc/13.2.0:openmpi/4.1.4\n" in variables
    assert "CUDA_VISIBLE_DEVICES=0\n" in variables
    environment = json.loads((run / "environment.json").read_text())
    assert [rank["host"] for rank in environment["ranks"]] == ["n01", "n02"]
    assert json.loads((run / "evaluation-validation.json").read_text())["rows"] == 12
    assert "2 rank(s) of 1 CPU(s)" in evaluation.log
    mail = (FOLDER / "log" / "mail").read_text()
    assert f"Job_id={training.number} Name=hd-train-multinode Ended" in mail and "me@site" in mail
    text = lab.run(f"{activated(lab)} && hpc-deepfake job status runs/first", site)
    assert text.endswith("3 jobs: 3 finished\n")


def test_gpus_that_do_not_work_end_a_pipeline_before_training(lab: Lab, site: Path,
                                                             pictures: Path) -> None:
    """``DEVICE=gpu`` wins over the site file. With mpirun, ranks have all CPUs of their job."""
    lab.take(pictures, site / "pictures")
    script = shlex.quote(f"{lab.clone}/jobs/slurm/pipeline.sh")
    numbers = submitted(lab.run(
        "SITE=lab DEVICE=gpu HPC_DEEPFAKE_LAUNCHER=mpirun PICTURES=pictures RUN=runs/gpu "
        f"bash {script} --epochs 1", site))
    jobs = [lab.wait(number) for number in numbers]
    preprocessing, training, evaluation = jobs
    assert [(job.state, job.code) for job in jobs[:2]] == [("COMPLETED", 0), ("FAILED", 1)], \
        logs(jobs)
    assert evaluation.state == "CANCELLED"
    if "affinity=yes" in (FOLDER / "binding").read_text():
        assert "share core" not in preprocessing.log and "2 cores, shared" in preprocessing.log
    assert "preflight check failed" in training.last_words
    assert re.search(r"FAIL +GPU", training.log) and "training starts" not in training.log
    text = lab.run(f"{activated(lab)} && hpc-deepfake job status runs/gpu", site, check=False)
    assert f"error: job {training.number} failed: preflight check failed" in text
    assert text.endswith("3 jobs: 1 finished, 1 failed, 1 cancelled\n")


def test_a_node_that_may_not_submit_says_where_to(lab: Lab, site: Path,
                                                  shared_data: Path) -> None:
    names = ("pipeline", "scaling_study")
    text = lab.run(f"export SITE=lab HPC_DEEPFAKE_KIND=small DATA={shared_data}; {activated(lab)}"
                   + "".join(f" && RUN=runs/{name} sbatch --parsable "
                             f"{shlex.quote(f'{lab.clone}/jobs/slurm/{name}.sh')} --epochs 1"
                             for name in names), site)
    assert "note: sbatch by hand doesn't get --comment=small of site lab" in text
    for number, name in zip(text.splitlines()[1:], names, strict=True):
        job = lab.wait(number)
        assert (job.state, job.code) == ("FAILED", 2), job.log
        assert "Access/permission denied" in job.log
        assert "login node" in job.log and f"{name}.sh" in job.log.splitlines()[-1]


def test_a_stopped_job_waits_to_resume_until_it_is_cancelled(lab: Lab, site: Path,
                                                            shared_data: Path) -> None:
    """What ``hpc-deepfake job status``, ``logs`` and ``cancel`` say and do; GPUs by job submit."""
    command = f"export SITE=lab; {activated(lab)} && hpc-deepfake job"
    [number] = submitted(lab.run(
        f"export {TOY}0.2; {command} submit slurm train_multinode --var DATA={shared_data} "
        "--var RUN=runs/toy --var DOCTOR=off -- --epochs 100 --patience 0 --batch-size 4", site))
    lab.wait_until(number, site / "runs" / "toy" / "metrics.jsonl")
    text = lab.run(f"{command} status runs/toy", site)
    assert "1 job: 1 running" in text and " of 100; 2 nodes" in text
    lab.run(f"scancel --batch --signal=USR1 {number}")
    lab.wait_for_state(number, "PENDING")
    text = lab.run(f"{command} status runs/toy; hpc-deepfake job logs runs/toy", site)
    assert "1 job: 1 waiting" in text and "requeued" in text
    assert "queued again: run 2 resumes from here\n" in text
    text = lab.run(f"{command} cancel runs/toy --yes; hpc-deepfake job status runs/toy", site)
    assert f"cancelled: {number}" in text and "1 job: 1 cancelled" in text
    job = lab.wait(number)
    assert (job.state, job.restarts) == ("CANCELLED", 1)


def test_a_sweep_is_an_array_and_a_report(lab: Lab, site: Path, shared_data: Path) -> None:
    command = f"export SITE=lab {TOY}0; {activated(lab)} && hpc-deepfake"
    submit = f"{command} sweep submit runs/sweep slurm --at-once 2 "
    array, report = submitted(lab.run(
        f"{submit} --data {shared_data} --grid learning-rate=1e-4,1e-3 --var DOCTOR=off "
        "-- --epochs 1 --batch-size 4", site).replace("elements of job", ""))
    job = lab.wait(report)
    assert (job.state, job.code) == ("COMPLETED", 0), job.log
    facts = [lab.facts(number) for number in (f"{array}_0", report)]
    assert [(fact["Account"], fact["Partition"], fact.get("Comment")) for fact in facts] == [
        ("lab", "cpu", None), ("lab", "cpu", "small")]
    folder = site / "runs" / "sweep"
    assert json.loads((folder / "report.json").read_text())["best"]["trials"] == ["001"]
    assert (folder / "trials" / "002" / "model.keras").exists()
    text = lab.run(f"{command} job status runs/sweep; {submit}", site)
    assert "3 jobs: 3 finished\n" in text and "nothing to submit" in text
