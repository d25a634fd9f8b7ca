"""What becomes of jobs on PBS: a played server that runs the scripts, with played programs."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from conftest import ROOT
from job_scripts import JOBS
from played_pbs import PROGRAMS, PlayedPbs
from speed import limit

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.jobs import command
from hpc_deepfake.jobs.accounting import account, table

pytestmark = pytest.mark.slow


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The folder from which jobs are submitted."""
    folder = tmp_path / "work"
    for name in ("pictures", "my pictures"):
        (folder / name).mkdir(parents=True)
    return folder


@pytest.fixture
def train(pbs: PlayedPbs, work: Path) -> Callable[..., str]:
    """Submits train_cpu.sh in the run directory ``run``."""
    def submit(*options: str, **variables: str) -> str:
        return pbs.submit(JOBS / "pbs" / "train_cpu.sh", *options, cwd=work,
                          **{"RUN": "run", **pbs.stand_in(), **variables})

    return submit


def programs(pbs: PlayedPbs) -> list[tuple[str, str]]:
    """Job and name of each program that was started."""
    file = pbs.folder / "programs"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(line.split()[0], line.split()[1]) for line in lines]


def started(pbs: PlayedPbs, job: str) -> None:
    """Wait until a program of a job has started."""
    deadline = time.monotonic() + limit(20)
    while job not in {name for name, _ in programs(pbs)}:
        assert time.monotonic() < deadline, pbs.log(job)
        time.sleep(0.05)


def test_a_stopped_job_is_resumed_with_all_it_was_submitted_with(
        pbs: PlayedPbs, work: Path, train: Callable[..., str]) -> None:
    """Further resources, project, account, name and variables; the queue that was asked for, not
    the one to which it was routed."""
    pbs.configure(queues={"workq": {}, "route": {"route": "small"},
                          "small": {"from_route_only": True}}, resources=["filesystems"])
    pbs.plan("train 75")
    first = train("-l", "select=1:ncpus=3:mpiprocs=1", "-l",
                  "filesystems=home:eagle,walltime=2:00:00", "-q", "route", "-P", "deep",
                  "-A", "acct", "-N", "mine", NCCL_DEBUG="it's, 2", API_TOKEN="hush",
                  ARGS="--epochs 7")
    pbs.wait_all()
    one, two = pbs.jobs.values()
    assert one["Exit_status"] == "75" and two["Exit_status"] == "0", pbs.log(first)
    assert two["depend"] == f"afterany:{first}@server"
    kept = ("Resource_List.select", "Resource_List.filesystems", "Resource_List.walltime", "queue",
            "project", "Account_Name", "Job_Name", "Resource_List.place", "Join_Path")
    assert {name: two[name] for name in kept} == {name: one[name] for name in kept}
    assert (one["queue"], one["project"]) == ("small", "deep")
    successor = (work / "run" / "jobs" / "successor.sh").read_text()
    assert "export NCCL_DEBUG=" in successor and "hush" not in successor
    assert two["_variables"]["API_TOKEN"] == "hush"
    assert "run 2; " in pbs.log("2.server") and "of 3 CPU(s)" in pbs.log("2.server")
    assert "--epochs 7" in (pbs.folder / "programs").read_text().splitlines()[1]
    assert (work / "run" / "jobs" / "outcome").read_text() == "0\n"
    assert not (work / "run" / "jobs" / "next").exists()


# --- pipelines


def pipeline(pbs: PlayedPbs, work: Path, code: int = 0, refuse: Sequence[str] = (),
             **variables: str) -> subprocess.CompletedProcess[str]:
    """The pipeline, submitted on the login node; its jobs start when all are submitted, so that
    the numbers of later ones are known."""
    pbs.configure(start=False, refuse=refuse)
    names = "-vHPC_DEEPFAKE_ENV,HPC_DEEPFAKE_LAUNCHER"
    done = pbs.shell("bash", JOBS / "pbs" / "pipeline.sh", "--epochs", "3", cwd=work,
                     **{"TRAIN": "train_cpu", "RUN": "run", "PICTURES": "pictures",
                        "DATA": "it's, mine.h5", "DEVICE": "cpu", "PREPROCESS_OPTIONS": names,
                        "TRAIN_OPTIONS": names, "EVALUATE_OPTIONS": names, **pbs.stand_in(),
                        **variables})
    assert done.returncode == code, done.stdout + done.stderr
    pbs.configure(start=True)
    pbs.shell("qrls", cwd=work)  # after a command, the server starts what can start
    return done


def test_a_pipeline_whose_jobs_are_stopped_goes_on_to_its_end(pbs: PlayedPbs, work: Path) -> None:
    """Preprocessing and training are stopped once each. What waited for a stopped job follows its
    successor; each program comes after the one before it, and evaluation once."""
    pbs.plan("preprocess 75", "preprocess after 2.server", "train 75")
    pipeline(pbs, work)
    jobs = pbs.wait_all()
    assert [name for _, name in programs(pbs)] == ["preprocess", "preprocess", "train", "train",
                                                   "evaluate"], [pbs.log(job) for job in jobs]
    assert "preprocessing resumes in job 4.server: this job runs after it, as job " in pbs.log(
        "2.server")
    commands = (pbs.folder / "programs").read_text().splitlines()
    assert "--data it's, mine.h5" in commands[-1] and "--model run" in commands[-1]
    assert "--epochs 3" in commands[3] and "--resume" in commands[3]
    for records in ("run/jobs", "it's, mine.h5.jobs"):
        assert (work / records / "outcome").read_text() == "0\n"
        assert not (work / records / "next").exists()


@pytest.mark.parametrize(("plan", "restarts", "reason"), [
    ("preprocess 2", "20", "preprocessing failed (exit code 2); what happened is in "),
    ("preprocess 75", "0", "preprocessing was stopped, and no job resumes it. Resume it, then "),
])
def test_later_jobs_of_a_pipeline_end_with_the_reason(
        pbs: PlayedPbs, work: Path, plan: str, restarts: str, reason: str) -> None:
    """Nothing is trained, and evaluation doesn't wait for ever."""
    pbs.plan(plan)
    pipeline(pbs, work, MAX_RESTARTS=restarts)
    jobs = pbs.wait_all()
    assert len(jobs) == 3 and [name for _, name in programs(pbs)] == ["preprocess"]
    assert [jobs[f"{number}.server"]["Exit_status"] for number in (2, 3)] == ["2", "2"]
    assert f"----- job 2.server failed: {reason}" in pbs.log("2.server")
    assert "----- job 3.server failed: training failed (exit code 2); what happened is in run" in (
        pbs.log("3.server"))


def test_a_training_that_ended_for_good_is_evaluated_once(
        pbs: PlayedPbs, work: Path, train: Callable[..., str]) -> None:
    """It was stopped twice, the second time for good: nobody follows the successor that is over
    (30 jobs in 30 s were seen)."""
    pbs.plan("train 75", "train 75")
    train(MAX_RESTARTS="1")
    pbs.wait_all()
    records = work / "run" / "jobs"
    assert (records / "outcome").read_text() == "75\n" and not (records / "next").exists()
    (records / "next").write_text("2.server\n")  # as an earlier version left it
    job = pbs.submit(JOBS / "pbs" / "evaluate.sh", cwd=work, RUN="run", **pbs.stand_in())
    assert pbs.wait(job)["Exit_status"] == "0", pbs.log(job)
    assert len(pbs.jobs) == 3
    assert (records / "outcome").read_text() == "75\n"  # training's


def test_a_pipeline_of_which_a_job_is_refused_leaves_nothing_queued(
        pbs: PlayedPbs, work: Path) -> None:
    done = pipeline(pbs, work, code=2, refuse=["hd-eval"])
    assert [job["substate"] for job in pbs.jobs.values()] == ["91", "91"]
    assert "per-user limit" in done.stderr
    assert done.stderr.splitlines()[-1].endswith(
        "Cancelled, as they are of no use without it: 1.server 2.server")


def test_where_compute_nodes_may_not_submit_the_command_for_a_login_node_is_printed(
        pbs: PlayedPbs, work: Path) -> None:
    """As printed, it submits the pipeline there."""
    pbs.configure(submit_from_jobs=False)
    job = pbs.submit(JOBS / "pbs" / "pipeline.sh", cwd=work, HPC_DEEPFAKE_HOME=str(ROOT),
                     TRAIN="train_cpu", RUN="run", PICTURES="my pictures", ARGS="--epochs 3",
                     **pbs.stand_in())
    assert pbs.wait(job)["Exit_status"] == "2"
    printed = pbs.log(job).splitlines()[-1]
    pbs.configure(start=False)
    done = pbs.shell("bash", "-c", printed, cwd=pbs.folder, **pbs.stand_in())
    assert done.returncode == 0, printed
    assert "evaluation: job 4.server" in done.stdout
    assert "PICTURES=my\\ pictures" in pbs.jobs["2.server"]["_script"]
    assert pbs.jobs["3.server"]["_workdir"] == str(work)


# --- the end of a job


def test_a_job_that_is_deleted_was_stopped_and_has_no_successor(
        pbs: PlayedPbs, work: Path, train: Callable[..., str]) -> None:
    """Also if mpirun ends with 1 for the signal, or not at all until PBS kills everything."""
    for plan, code in (("wait", "75"), ("stays", "265")):
        pbs.configure(kill_delay=10 if plan == "wait" else 0.5)
        pbs.plan(f"train {plan}")
        job = train()
        started(pbs, job)
        pbs.shell("qdel", job, cwd=work)
        assert pbs.wait(job)["Exit_status"] == code
        assert (work / "run" / "jobs" / "outcome").read_text() == "75\n", pbs.log(job)
        if plan == "wait":
            assert "stopped while being deleted or ended: submit it again" in pbs.log(job)
    assert len(pbs.jobs) == 2


def test_a_walltime_below_the_margin_is_used_by_half(
        pbs: PlayedPbs, train: Callable[..., str]) -> None:
    pbs.plan("train wait")
    job = train("-l", "walltime=6")
    assert pbs.wait(job)["Exit_status"] == "75"
    assert "stop signal 3 s before the limit of 00:00:06, instead of 300 s" in pbs.log(job)
    assert "stopped; job 2.server resumes from here" in pbs.log(job)


def test_where_nodes_may_not_submit_the_printed_command_has_the_resources(
        pbs: PlayedPbs, work: Path, train: Callable[..., str]) -> None:
    """As printed, it submits a job like this one."""
    pbs.plan("train 75")
    first = train("-l", "select=1:ncpus=3:mpiprocs=1", "-l", "walltime=2:00:00", "-P", "deep",
                  HPC_DEEPFAKE_RESUBMIT="no", NCCL_DEBUG="INFO")
    one = pbs.wait(first)
    assert "this node may not submit jobs. To resume, on a login node:" in pbs.log(first)
    printed = pbs.log(first).splitlines()[-1]
    done = pbs.shell("bash", "-c", printed, cwd=pbs.folder)
    assert done.stdout == "2.server\n", printed + done.stderr
    two = pbs.wait("2.server")
    assert two["Exit_status"] == "0", pbs.log("2.server")
    for name in ("Resource_List.select", "Resource_List.walltime", "project", "queue"):
        assert two[name] == one[name]
    assert "NCCL_DEBUG=INFO" in (work / "run" / "jobs" / "2.server.env").read_text()


def test_where_nodes_may_not_ask_the_server_either(
        pbs: PlayedPbs, train: Callable[..., str]) -> None:
    pbs.configure(submit_from_jobs=False)
    pbs.plan("train 75")
    job = train(HPC_DEEPFAKE_HOME=str(ROOT))
    pbs.wait(job)
    *_, note, printed = pbs.log(job).splitlines()
    assert note.strip().startswith("# with the options of qsub that this job had")
    assert "qsub -q workq run/jobs/successor.sh" in printed


def test_a_job_that_pbs_runs_again_says_which_run_it_is(
        pbs: PlayedPbs, work: Path, train: Callable[..., str]) -> None:
    """After the failure of a node, say: no user may ask for it."""
    pbs.plan("train wait")
    job = train()
    started(pbs, job)
    assert pbs.shell("qrerun", job, cwd=work).returncode == 1 + 158
    pbs.shell("qrerun", job, cwd=work, PLAYED_PBS_ROOT="1")
    assert pbs.wait(job)["Exit_status"] == "0"
    assert pbs.jobs[job]["run_count"] == "2"
    assert re.findall(r"run (\d); ", pbs.log(job)) == ["1", "2"]


def test_threads_of_a_rank(pbs: PlayedPbs, train: Callable[..., str]) -> None:
    """NCPUS is the number of a chunk's CPUs, but equals ompthreads where that is given."""
    selects = {"1:ncpus=64:mpiprocs=8:ompthreads=8": 8, "1:ncpus=16:mpiprocs=4": 4}
    jobs = {train("-l", f"select={select}", RUN=str(cpus)): cpus
            for select, cpus in selects.items()}
    pbs.wait_all()
    for job, cpus in jobs.items():
        assert f"of {cpus} CPU(s)" in pbs.log(job)


def test_a_launcher_that_fails_is_not_called_a_failed_check(
        pbs: PlayedPbs, train: Callable[..., str]) -> None:
    pbs.plan("doctor 1")
    job = train(DOCTOR="on")
    assert pbs.wait(job)["Exit_status"] == "1"
    assert "failed: preflight check failed" in pbs.log(job)
    job = train(DOCTOR="on", HPC_DEEPFAKE_LAUNCHER="/bin/false")
    assert pbs.wait(job)["Exit_status"] == "1"
    assert "failed: the launcher ended with exit code 1 before the preflight check" in pbs.log(job)


# --- arrays


def test_elements_of_an_array_find_their_clone_and_are_resumed_alone(
        pbs: PlayedPbs, work: Path) -> None:
    """Submitted elsewhere by the script's path, which only the array knows. The successor of an
    element is no array, and depends on nothing, for no job can depend on an element."""
    script = tmp_script(pbs, work, "#PBS -J 1-2")
    pbs.plan("train 75")
    array = pbs.submit(script, cwd=work, RUN="run", MAX_RESTARTS="1", **pbs.stand_in())
    jobs = pbs.wait_all()
    assert array == "1[].server" and len(jobs) == 4, [pbs.log(job) for job in jobs]
    [resumed] = [job for name, job in jobs.items() if name == "2.server"]
    assert "array" not in resumed and "depend" not in resumed and resumed["Exit_status"] == "0"
    seeds = sorted(re.findall(r"--seed (\d)", (pbs.folder / "programs").read_text()))
    assert seeds in (["1", "1", "2"], ["1", "2", "2"])  # whichever was stopped
    for element in "12":
        assert (work / "run" / element / "jobs" / "outcome").read_text() == "0\n"
        log = work / "run" / element / "jobs" / f"1[{element}].server.log"
        assert log.read_text().startswith(f"job 1[{element}].server: ")


def tmp_script(pbs: PlayedPbs, work: Path, directive: str) -> Path:
    """train_cpu.sh with a further directive, in a clone in a path with a space."""
    clone = work.parent / "my clone"
    shutil.copytree(JOBS, clone / "jobs")
    (clone / "env").mkdir()
    for name in ("activate.sh", "bin"):
        source = ROOT / "env" / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, clone / "env" / name)
    script = clone / "jobs" / "pbs" / "train_cpu.sh"
    text = script.read_text()
    script.write_text(text.replace("#PBS -j oe", f"#PBS -j oe\n{directive}"))
    return script


def test_a_chain_of_arrays(pbs: PlayedPbs, work: Path, monkeypatch: pytest.MonkeyPatch,
                           capsys: pytest.CaptureFixture[str]) -> None:
    """The second array's elements resume those of the first that were stopped."""
    for name, value in pbs.environment.items():
        monkeypatch.setenv(name, value)
    for name, value in pbs.stand_in().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(work)
    pbs.plan("train 75")
    assert command.main(["submit", "pbs", "train_cpu", "--array", "1-2", "--chain", "2", "--var",
                     "RUN=run", "--set", "v=HPC_DEEPFAKE_ENV,HPC_DEEPFAKE_LAUNCHER", "--var",
                     "DOCTOR=off"]) == 0
    assert "job 2[].server (2 of 2), hd-train-cpu, after 1[].server" in capsys.readouterr().out
    jobs = pbs.wait_all()
    logs = [pbs.log(f"2[{element}].server") for element in (1, 2)]
    assert sum("resuming where the previous job was stopped" in log for log in logs) == 1, logs
    assert sum("the previous job has finished: nothing left to do" in log for log in logs) == 1
    assert len(jobs) == 6 and len(programs(pbs)) == 3


# --- reports


def test_reports_on_jobs_of_every_end(pbs: PlayedPbs, work: Path,
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """An array by its number and by its id, one element; a job that nobody sampled; one that was
    deleted as it could never start; one that was deleted while it ran."""
    monkeypatch.setenv("PATH", f"{PROGRAMS / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("PLAYED_PBS", str(pbs.folder))
    monkeypatch.chdir(work)
    script = work / "job.sh"
    script.write_text("#PBS -l select=1:ncpus=2\n[[ -n ${PBS_ARRAY_INDEX:-} ]] || sleep 60\n")
    pbs.configure(kill_delay=0)
    pbs.submit(script, "-J", "1-2", cwd=work)
    deleted = pbs.submit(script, cwd=work)
    after = pbs.submit(script, "-W", f"depend=afterok:{deleted}", cwd=work)
    pbs.wait(deleted, "R")
    pbs.shell("qdel", deleted, cwd=work)
    pbs.wait_all()
    elements = ["1[1].server", "1[2].server"]
    for subject in ("1", "1[]", "1[].server"):
        assert [job.id for job in account(subject).jobs] == elements
    for subject in ("1[2]", "1[2].server"):
        [job] = account(subject).jobs
        assert (job.id, job.state, job.cpu, job.memory) == ("1[2].server", "FINISHED", None, None)
    assert "0.0%" not in table.text(account("1"))
    [job] = account(deleted).jobs
    assert (job.state, job.exit) == ("DELETED", "271")
    assert "exit status 271: ended by signal 15 (SIGTERM, as sent by qdel and at the walltime)" in (
        job.notes)
    [job] = account(after).jobs
    assert (job.state, job.exit, job.waited) == ("DELETED", "", None)
    with pytest.raises(InputError, match=r"no record of job 9\n.*qstat: .*Unknown Job Id 9.server"):
        account("9")
