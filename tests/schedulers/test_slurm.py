"""The job scripts as users run them: submitted by an ordinary user to a real SLURM."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import ROOT, read_lines
from speed import limit

from hpc_deepfake.train import checkpoint
from schedulers.conftest import FOLDER, SMALL, TOY, Lab

pytestmark = [pytest.mark.mpi, pytest.mark.slow]
FOLDER_OF_NODE = FOLDER / "tmp"  # /tmp of each node, seen from outside
SCRIPTS = sorted(path.stem for path in (ROOT / "jobs" / "slurm").glob("*.sh"))


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def hosts(run: Path) -> list[str]:
    return [rank["host"] for rank in read(run / "environment.json")["ranks"]]


def epochs(run: Path) -> list[int]:
    return [line["epoch"] for line in read_lines(run / "metrics.jsonl")]


@pytest.mark.parametrize("script", SCRIPTS)
def test_slurm_accepts_every_script(lab: Lab, script: str) -> None:
    path = shlex.quote(f"{lab.clone}/jobs/slurm/{script}.sh")
    assert "to start at" in lab.run(f"sbatch --test-only {path}")


def test_pipeline_from_another_folder_and_a_path_with_a_space(
        lab: Lab, work: Path, pictures: Path, data_file: Path) -> None:
    """One command: preprocessing on two nodes into one file, training on two nodes, evaluation,
    each after the previous one, with a preflight check of each node."""
    lab.take(pictures, work / "my pictures")
    number = lab.submit("pipeline", "--epochs 2 --batch-size 4 --feature ela", cwd=work, env=(
        "PICTURES='my pictures' DATA=features.h5 RUN='runs/my run' TRAIN=train_cpu DEVICE=cpu "
        f"PREPROCESS_OPTIONS={shlex.quote(SMALL)} TRAIN_OPTIONS={shlex.quote(SMALL)}"))
    job = lab.wait(number)
    assert (job.state, job.code) == ("COMPLETED", 0), job.log
    numbers = [word.strip(", ") for line in job.log.splitlines() if ": job " in line
               for word in [line.split(": job ")[1].split()[0]]]
    assert len(numbers) == 3
    preprocessing, training, evaluation = (lab.wait(one) for one in numbers)
    for one in (preprocessing, training, evaluation):
        assert (one.state, one.code, one.restarts) == ("COMPLETED", 0, 0), one.log
    run = work / "runs" / "my run"
    assert "on 2 ranks, parallel HDF5" in preprocessing.log
    assert hosts(run) == ["n01", "n02"]
    assert epochs(run) == [1, 2]
    assert read(run / "evaluation-validation.json")["rows"] == 12
    for log in (preprocessing.log, training.log):
        assert "0 failures on 2 ranks" in log
    # records for later inspection
    records = {path.name for path in (run / "jobs").iterdir()}
    assert {f"{training.number}.sh", f"{training.number}.env", f"{training.number}.log",
            f"{evaluation.number}.sh", "outcome"} <= records
    assert (run / "jobs" / f"{training.number}.log").read_text() == training.log
    variables = (run / "jobs" / f"{training.number}.env").read_text()
    assert "SLURM_JOB_NODELIST=n[01-02]" in variables and "JWT" not in variables


def test_two_nodes_write_the_file_that_one_process_writes(lab: Lab, work: Path, pictures: Path,
                                                          data_file: Path) -> None:
    lab.take(pictures, work / "pictures")
    job = lab.wait(lab.submit(
        "preprocess", "--split 60/20/20", cwd=work, options="--nodes=2 --ntasks-per-node=2",
        env="PICTURES=pictures DATA=new/features.h5 DOCTOR=off"))
    assert (job.state, job.code) == ("COMPLETED", 0), job.log
    assert (work / "new" / "features.h5").read_bytes() == data_file.read_bytes()


def test_requeue_before_the_limit_ends_with_the_weights_of_an_uninterrupted_run(
        lab: Lab, work: Path, shared_data: Path) -> None:
    """SLURM's signal before the limit, a checkpoint, code 75, queued again, resumed; with the
    accounting of both runs. The second run has a longer limit, for slow machines."""
    options = "--epochs 40 --patience 0 --batch-size 4"
    env = f"DATA={shared_data} DOCTOR=off "
    number = lab.submit("train_cpu", options, cwd=work, env=f"{TOY}0.3 {env} RUN=short",
                        options=f"{SMALL} --time=2 --signal=B:USR1@75")
    short = lab.wait(number, limit=10)
    assert (short.state, short.code, short.restarts) == ("COMPLETED", 0, 1), short.log
    assert "queued again: run 2 resumes from here" in short.log
    assert "resuming short" in short.log
    long = lab.wait(lab.submit("train_cpu", options, cwd=work, env=f"{TOY}0 {env} RUN=long",
                               options=SMALL))
    assert (long.state, long.code, long.restarts) == ("COMPLETED", 0, 0), long.log
    resumed, uninterrupted = (
        checkpoint.load(checkpoint.found(work / name / "checkpoints")[0])[0]
        for name in ("short", "long"))
    # weights, momentum, best weights and what they said of the validation part
    assert len(resumed) == len(uninterrupted) == 4
    assert all(np.array_equal(a, b) for a, b in zip(resumed, uninterrupted, strict=True))
    assert epochs(work / "short") == list(range(1, 41))

    report = lab.run(f"source {shlex.quote(str(lab.clone))}/env/activate.sh && "
                     f"hpc-deepfake job report short --json report.json && "
                     f"hpc-deepfake job report {number}", work)
    assert "sacct" in report and number in report


def test_preemption_ends_in_a_checkpoint_and_the_job_resumes(lab: Lab, work: Path,
                                                            shared_data: Path) -> None:
    number = lab.submit("train_cpu", "--epochs 12 --patience 0 --batch-size 4", cwd=work,
                        options=f"{SMALL} --partition=low --exclusive",
                        env=f"{TOY}0.2 DATA={shared_data} RUN=run DOCTOR=off")
    lab.wait_until(number, work / "run" / "metrics.jsonl")
    other = lab.run("sbatch --parsable --nodes=4 --exclusive --output=/dev/null --wrap 'sleep 2'",
                    work).strip()
    assert lab.wait(other).state == "COMPLETED"
    job = lab.wait(number)
    assert (job.state, job.code, job.restarts) == ("COMPLETED", 0, 1), job.log
    assert "stopped by SIGTERM" in job.log or "stopped by SIGUSR1" in job.log
    assert "resuming run in epoch" in job.log
    assert epochs(work / "run") == list(range(1, 13))


def test_after_a_nodes_failure_the_job_resumes_elsewhere(lab: Lab, work: Path,
                                                         shared_data: Path) -> None:
    """SLURM itself queues it again; it resumes from the last checkpoint, on other nodes."""
    number = lab.submit("train_cpu", "--epochs 8 --patience 0 --batch-size 4 "
                        "--checkpoint-minutes 0", cwd=work, options=SMALL,
                        env=f"{TOY}0.3 DATA={shared_data} RUN=run DOCTOR=off")
    lab.wait_until(number, work / "run" / "metrics.jsonl")
    failed = hosts(work / "run")[1]
    for state in ("DOWN", "DRAIN"):  # drained, or it would get jobs as soon as it responds
        lab.administrate("scontrol", "update", f"NodeName={failed}", f"State={state}",
                         "Reason=test")
    try:
        job = lab.wait(number)
    finally:
        lab.administrate("scontrol", "update", f"NodeName={failed}", "State=RESUME")
        lab.wait_for_node(failed)
    assert (job.state, job.code, job.restarts) == ("COMPLETED", 0, 1), job.log
    assert "DUE TO NODE FAILURE" in job.log
    assert "resuming run in epoch" in job.log
    assert failed not in hosts(work / "run")
    assert epochs(work / "run") == list(range(1, 9))


def test_mpirun_passes_the_signal_on_and_restarts_are_bounded(lab: Lab, work: Path,
                                                             shared_data: Path) -> None:
    """Started by mpirun instead of srun; a log for each rank; no requeue beyond the limit."""
    number = lab.submit("train_cpu", "--epochs 100 --patience 0 --batch-size 4", cwd=work,
                        options=SMALL, env=f"{TOY}0.2 DATA={shared_data} RUN=run DOCTOR=off "
                        "MAX_RESTARTS=0 RANK_LOGS=1 HPC_DEEPFAKE_LAUNCHER=mpirun")
    lab.wait_until(number, work / "run" / "metrics.jsonl")
    lab.run(f"scancel --batch --signal=USR1 {number}")
    job = lab.wait(number)
    assert (job.state, job.code, job.restarts) == ("FAILED", 75, 0), job.log
    assert job.log.strip().endswith("(MAX_RESTARTS=0): submit it again to resume")
    assert (work / "run" / "jobs" / "outcome").read_text() == "75\n"
    assert hosts(work / "run") == ["n01", "n02"]
    assert checkpoint.found(work / "run" / "checkpoints")
    logs = sorted((work / "run" / "jobs" / f"{number}.ranks").iterdir())
    assert [log.name for log in logs] == ["rank-0000.log", "rank-0001.log"]
    assert "stopped by" in logs[0].read_text()


def test_a_cancelled_job_is_not_queued_again(lab: Lab, work: Path, shared_data: Path) -> None:
    number = lab.submit("train_cpu", "--epochs 100 --patience 0 --batch-size 4", cwd=work,
                        options=SMALL, env=f"{TOY}0.2 DATA={shared_data} RUN=run DOCTOR=off")
    lab.wait_until(number, work / "run" / "metrics.jsonl")
    lab.run(f"scancel {number}")
    job = lab.wait(number)
    assert (job.state, job.restarts) == ("CANCELLED", 0), job.log
    assert "queued again" not in job.log


def test_array_elements_have_their_own_runs_and_seeds(lab: Lab, work: Path,
                                                     shared_data: Path) -> None:
    number = lab.submit("train_cpu", "--epochs 1 --batch-size 4", cwd=work, env=(
        f"DATA={shared_data} RUN=run DOCTOR=off"), options=(
        "--array=3,5 --nodes=1 --ntasks-per-node=1 --cpus-per-task=1"))
    after = lab.submit("evaluate", "--part test", cwd=work, env=f"DATA={shared_data} RUN=run/5 "
                       "DOCTOR=off", options=f"--dependency=afterok:{number}")
    job = lab.wait(after, 180)
    assert (job.state, job.code) == ("COMPLETED", 0), job.log
    assert [read(work / "run" / one / "config.json")["seed"] for one in ("3", "5")] == [3, 5]
    assert read(work / "run" / "5" / "evaluation-test.json")["rows"] == 12


def test_a_missing_data_file_ends_the_job_and_what_depends_on_it(lab: Lab, work: Path) -> None:
    """Exit code 2, the message last, no retry; afterok is cancelled, afterany runs."""
    number = lab.submit("train_cpu", cwd=work, options=SMALL, env="DATA=nothing.h5 DOCTOR=off")
    after_ok = lab.submit("evaluate", cwd=work, env="RUN=runs/x",
                          options=f"--dependency=afterok:{number} --kill-on-invalid-dep=yes")
    after_any = lab.run(f"sbatch --parsable --dependency=afterany:{number} --wrap true",
                        work).strip()
    job = lab.wait(number)
    assert (job.state, job.code, job.restarts) == ("FAILED", 2, 0), job.log
    assert "\nerror: there is no data file 'nothing.h5'" in job.last_words
    assert lab.wait(after_ok).state == "CANCELLED"
    assert lab.wait(after_any).state == "COMPLETED"


def test_a_rank_that_fails_ends_the_job_with_its_message(lab: Lab, work: Path,
                                                        shared_data: Path) -> None:
    """The data file is on one node only."""
    local = FOLDER_OF_NODE / "n01" / "local.h5"
    lab.take(shared_data, local)
    started = time.monotonic()
    job = lab.wait(lab.submit("train_cpu", cwd=work, options=SMALL,
                              env="DATA=/tmp/local.h5 DOCTOR=off"))
    assert (job.state, job.code, job.restarts) == ("FAILED", 2, 0), job.log
    assert "\nerror: there is no data file" in job.last_words
    assert job.last_words.rstrip().endswith("(rank 1 on n02)")
    assert time.monotonic() - started < limit(40)


def test_a_killed_rank_ends_the_job_at_once(lab: Lab, work: Path, shared_data: Path) -> None:
    number = lab.submit("train_cpu", "--epochs 100 --patience 0 --batch-size 4 "
                        "--checkpoint-minutes 0", cwd=work, options=SMALL,
                        env=f"{TOY}0.2 DATA={shared_data} RUN=run DOCTOR=off")
    lab.wait_until(number, work / "run" / "metrics.jsonl")
    [rank] = [process for process in psutil.process_iter(["cmdline"])
              if "hpc_deepfake.train" in (process.info["cmdline"] or ())
              and process.environ().get("SLURM_JOB_ID") == number
              and process.environ().get("SLURM_PROCID") == "1"]
    os.kill(rank.pid, signal.SIGKILL)
    started = time.monotonic()
    job = lab.wait(number)
    assert time.monotonic() - started < limit(30)
    assert (job.state, job.code, job.restarts) == ("FAILED", 137, 0), job.log
    assert "a rank was killed" in job.last_words
    assert checkpoint.load_newest(work / "run" / "checkpoints") is not None


def test_a_wrong_module_is_named(lab: Lab, work: Path, shared_data: Path) -> None:
    site = lab.clone / "env" / "sites" / "wrong.sh"
    site.write_text("load_modules no-such-mpi/4.1 || return\n")
    site.chmod(0o644)
    job = lab.wait(lab.submit("train_cpu", cwd=work, options=SMALL,
                              env=f"DATA={shared_data} SITE=wrong"))
    assert (job.state, job.code) == ("FAILED", 2), job.log
    assert "module no-such-mpi/4.1 of env/sites/wrong.sh can't be loaded" in job.last_words


def test_four_ranks_take_the_four_gpus_of_a_node(lab: Lab, work: Path, shared_data: Path) -> None:
    """The GPU devices are fakes, so it trains on the CPU; with the script's own DEVICE=gpu, the
    preflight check stops the job before any rank of training starts."""
    job = lab.wait(lab.submit("train_4gpu", "--epochs 1 --batch-size 4", cwd=work,
                              options="--cpus-per-task=1",
                              env=f"{TOY}0 DATA={shared_data} RUN=cpu DEVICE=cpu DOCTOR=off"), 180)
    assert (job.state, job.code) == ("COMPLETED", 0), job.log
    assert [rank["local_rank"] for rank in read(work / "cpu" / "environment.json")["ranks"]] \
        == [0, 1, 2, 3]
    variables = (work / "cpu" / "jobs" / f"{job.number}.env").read_text()
    assert "CUDA_VISIBLE_DEVICES=0,1,2,3\n" in variables
    job = lab.wait(lab.submit("train_4gpu", cwd=work, options="--cpus-per-task=1 "
                              "--ntasks-per-node=1", env=f"DATA={shared_data} RUN=gpu"))
    assert (job.state, job.code, job.restarts) == ("FAILED", 1, 0), job.log
    assert "FAIL" in job.log and "CUDA" in job.log
    assert "training starts" not in job.log


def test_gpus_of_several_nodes(lab: Lab, work: Path, shared_data: Path) -> None:
    job = lab.wait(lab.submit(
        "train_multinode", "--epochs 1 --batch-size 4 --sync-bn", cwd=work,
        options="--cpus-per-task=1 --gpus-per-node=2 --ntasks-per-node=2",
        env=f"{TOY}0 DATA={shared_data} RUN=run DEVICE=cpu DOCTOR=off"), 180)
    assert (job.state, job.code) == ("COMPLETED", 0), job.log
    ranks = read(work / "run" / "environment.json")["ranks"]
    assert [(rank["host"], rank["local_rank"]) for rank in ranks] \
        == [("n01", 0), ("n01", 1), ("n02", 0), ("n02", 1)]


def test_environment_and_data_on_each_nodes_own_disk(lab: Lab, work: Path,
                                                    shared_data: Path) -> None:
    """n02 has no permission to write there: it uses the shared ones."""
    blocked = FOLDER_OF_NODE / "n02" / "local"
    blocked.mkdir(mode=0o755)
    job = lab.wait(lab.submit("train_cpu", "--stage-env --epochs 1 --batch-size 4", cwd=work,
                              options=SMALL, env=f"DATA={shared_data} RUN=run DOCTOR=off "
                              "HPC_DEEPFAKE_LOCAL=/tmp/local STAGE=local RANK_LOGS=1"))
    assert (job.state, job.code) == ("COMPLETED", 0), job.log
    assert "stage.sh: cannot write in /tmp/local" in job.log
    assert "note: n02 uses the shared environment\n" in job.log
    assert "note: n01 uses" not in job.log
    assert "note: no copy of the data on n02: " in job.log
    assert "data file copied to /tmp/local/features-" in job.log
    pythons = [rank["python"] for rank in read(work / "run" / "environment.json")["ranks"]]
    assert pythons[0].startswith("/tmp/local/hpc_deepfake-")
    assert pythons[1].startswith(str(lab.clone.parent))


def test_compare(lab: Lab, work: Path, shared_data: Path) -> None:
    job = lab.wait(lab.submit("compare", "--epochs 1 --batch-size 4", cwd=work, options=SMALL,
                              env=f"{TOY}0 DATA={shared_data} RUN=all "
                                  "METHODS=sequential,sync DOCTOR=off"))
    assert (job.state, job.code) == ("COMPLETED", 0), job.log
    lines = (work / "all" / "compare.csv").read_text().splitlines()
    names = ["sequential-ela-r1", "sync-ela-r1", "sync-raw-r1"]
    assert [line.split(",")[0] for line in lines] == ["run", *names]
    assert all(",done," in line for line in lines[1:])
    assert (work / "all" / "compare.html").exists()
    assert hosts(work / "all" / names[0]) == ["n01"]


def test_a_scaling_study_with_a_failed_run_that_is_submitted_again(
        lab: Lab, work: Path, shared_data: Path) -> None:
    """From the login node, over 1, 2 and 4 nodes: the report names a failed run, and the same
    command then submits only that one."""
    script = shlex.quote(f"{lab.clone}/jobs/slurm/scaling_study.sh")
    command = (f"{TOY}0 DATA={shared_data} RUN=study KINDS=strong MAX_NODES=4 RANKS_PER_NODE=1 "
               "TRAIN=train_cpu DEVICE=cpu DOCTOR=off GLOBAL_BATCH=12 LIMIT=0:10:00 "
               f"TRAIN_OPTIONS=--cpus-per-task=1 bash {script} --epochs 2 ")
    text = lab.run(f"{command} --dry-run", work)
    assert "3 jobs of at most 10 min, 1.17 node hours at most; 3 to be done" in text
    assert not (work / "study").exists()
    broken = "study/strong-real-sync-n0002-r1/checkpoints/step-000000001.npz"
    lab.run(f"mkdir -p {Path(broken).parent}; echo nothing >{broken}", work)

    def submitted() -> list[str]:
        return [line.split("job ")[1].split(",")[0]
                for line in lab.run(command, work).splitlines() if ": job " in line]

    numbers = submitted()
    assert len(numbers) == 4
    job = lab.wait(numbers[-1])
    assert (job.state, job.code) == ("COMPLETED", 0), job.log
    assert "2 of 3 runs are finished; 1 failed or are missing" in job.log
    report = (work / "study" / "report.md").read_text()
    assert "| strong-real-sync-n0002-r1 | failed | 2 | 2 | exit code 2: error: no checkpoint of" \
        in report and "the scheduler says FAILED" in report
    assert "strong, real, sync: 4 ranks reach" in job.log

    lab.run(f"rm {broken}", work)
    numbers = submitted()
    assert len(numbers) == 2
    job = lab.wait(numbers[-1])
    assert (job.state, job.code) == ("COMPLETED", 0), job.log
    assert "3 of 3 runs are finished." in job.log
    assert [hosts(work / "study" / f"strong-real-{name}-r1") for name in (
        "sequential-n0001", "sync-n0004")] == [["n01"], ["n01", "n02", "n03", "n04"]]
    with open(work / "study" / "runs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["state"], row["ranks"], row["source"], row["job_state"]) for row in rows] == [
        ("done", ranks, "sacct", "COMPLETED") for ranks in "124"]
    for row in rows:  # the report's figures are those of the runs' own records
        *_, last = read_lines(work / "study" / row["run"] / "metrics.jsonl")
        assert float(row["images_per_s"]) == last["wall_images_per_s"]
        assert float(row["rows"]) == 36
    with open(work / "study" / "sizes.csv", newline="") as file:
        sizes = list(csv.DictReader(file))
    for size in sizes:
        speedup = float(size["images_per_s"]) / float(rows[0]["images_per_s"])
        assert float(size["speedup"]) == pytest.approx(speedup)
        assert float(size["efficiency"]) == pytest.approx(speedup / int(size["ranks"]))


def test_a_study_of_all_other_kinds_and_its_prediction(lab: Lab, work: Path, shared_data: Path,
                                                       pictures: Path) -> None:
    """Weak runs, a mesh over two nodes, preprocessing and the micro-benchmark, which the prediction
    finds in the study."""
    script = shlex.quote(f"{lab.clone}/jobs/slurm/scaling_study.sh")
    lab.take(pictures, work / "my pictures")
    text = lab.run(
        f"DATA={shared_data} PICTURES='my pictures' RUN=study MAX_NODES=2 "
        "KINDS='weak preprocess microbench' STRATEGIES=mesh:tensor=2 RANKS_PER_NODE=1 "
        "TRAIN=train_cpu DEVICE=cpu DOCTOR=off BATCH_SIZE=4 ROWS_PER_RANK=16 LIMIT=0:10:00 "
        f"TRAIN_OPTIONS=--cpus-per-task=1 bash {script} --epochs 2", work)
    numbers = [line.split("job ")[1].split(",")[0] for line in text.splitlines()
               if ": job " in line]
    assert len(numbers) == 6
    job = lab.wait(numbers[-1])
    assert (job.state, job.code) == ("COMPLETED", 0), job.log
    assert "5 of 5 runs are finished." in job.log
    with open(work / "study" / "runs.csv", newline="") as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    assert {name: (row["kind"], row["ranks"], row["job_state"]) for name, row in rows.items()} == {
        "weak-real-sequential-n0001-r1": ("weak", "1", "COMPLETED"),
        "weak-real-mesh-tensor2-n0002-r1": ("weak", "2", "COMPLETED"),
        "preprocess-n0001-r1": ("preprocess", "1", "COMPLETED"),
        "preprocess-n0002-r1": ("preprocess", "2", "COMPLETED"),
        "microbench-n0002-r1": ("microbench", "2", "COMPLETED")}
    assert hosts(work / "study" / "weak-real-mesh-tensor2-n0002-r1") == ["n01", "n02"]
    text = lab.run(f"source {shlex.quote(str(lab.clone))}/env/activate.sh && "
                   "hpc-deepfake scaling predict study --fit-ranks 1 2 --also hybrid", work)
    assert "weak, real, mesh:tensor=2: " in text and "weak, real, hybrid: " in text
    assert "Latency and bandwidth from study/microbench-n0002-r1/microbench.json" in text


def test_a_chain_from_the_login_node_ends_when_the_work_is_done(lab: Lab, work: Path,
                                                               shared_data: Path) -> None:
    text = lab.run(f"source {shlex.quote(str(lab.clone))}/env/activate.sh && "
                   f"{TOY}0 hpc-deepfake job submit slurm train_cpu --chain 2 --nodes 1 "
                   "--ranks-per-node 1 --cpus-per-rank 1 "
                   f"--var DATA={shared_data} --var RUN=run --var DOCTOR=off "
                   "-- --epochs 1 --batch-size 4", work)
    numbers = re.findall(r"submitted: job (\d+)", text)
    first, second = (lab.wait(number) for number in numbers)
    assert (first.state, first.code, second.state, second.code) == ("COMPLETED", 0) * 2, \
        first.log + second.log
    assert "nothing left to do" in second.log and "training starts" not in second.log
