"""``hpc-deepfake job status``, ``logs`` and ``cancel``, with a played SLURM and a played PBS."""

from __future__ import annotations

import getpass
import json
import os
import re
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import ROOT
from job_scripts import command, run_script
from played_slurm import PlayedSlurm
from speed import limit

from hpc_deepfake import cli
from hpc_deepfake.core import log
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.jobs import command as job
from hpc_deepfake.jobs.queue import cancel, journal, logs, lookup, pbs, reasons, records, table
from hpc_deepfake.jobs.queue.logs import Tail
from hpc_deepfake.jobs.queue.lookup import Selection
from hpc_deepfake.jobs.queue.pbs import parse_qstat
from hpc_deepfake.jobs.queue.slurm import parse_squeue
from hpc_deepfake.jobs.queue.state import Job, scheduler_of, within

SCRIPT = (ROOT / "jobs" / "slurm" / "train_cpu.sh").read_text()


def run(*words: str | Path) -> int:
    return job.main([str(word) for word in words])


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The folder of submission."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.setattr(cancel, "_PAUSE", 0.1)
    monkeypatch.setattr(logs, "_LOOK", 0.05)
    monkeypatch.setattr(logs, "_SOON", 0.05)
    monkeypatch.chdir(folder)
    log.start()
    return folder


@pytest.fixture
def slurm(tmp_path, monkeypatch, here) -> PlayedSlurm:
    cluster = PlayedSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PLAYED_SLURM", str(cluster.folder))
    monkeypatch.setenv("PATH", f"{cluster.bin}:/usr/bin:/bin")
    return cluster


def started(run_directory: Path, number: str, *, script: str = SCRIPT, output: str = "",
            outcome: int | None = None, error: str = "") -> Path:
    """A job's records, as jobs/lib/job.sh leaves them; returns its log."""
    folder = run_directory / "jobs" if run_directory.suffix != ".jobs" else run_directory
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{number}.env").touch()
    os.utime(folder / f"{number}.env", (1795645800 + len(list(folder.iterdir())),) * 2)
    (folder / f"{number}.sh").write_text(script)
    file = folder.parent.absolute() / f"hd-{number}.log"
    file.write_text(output)
    (folder / f"{number}.log").symlink_to(file)
    if outcome is not None:
        (folder / f"{number}.outcome").write_text(f"{outcome}\n")
        (folder / "outcome").write_text(f"{outcome}\n")
    if error:
        (folder / f"{number}.error").write_text(error)
    return file


def trained(run_directory: Path, epochs: int, of: int) -> None:
    run_directory.mkdir(parents=True, exist_ok=True)
    (run_directory / "config.json").write_text(json.dumps({"epochs": of}))
    (run_directory / "metrics.jsonl").write_text("".join(
        json.dumps({"epoch": epoch + 1}) + "\n" for epoch in range(epochs)) + '{"epoch": 99')


def until(file: Path) -> None:
    """Wait until a file is there."""
    deadline = time.monotonic() + limit(20)
    while not file.exists():
        assert time.monotonic() < deadline, file
        time.sleep(0.05)


# --- status


def test_a_running_training(slurm, here, capsys):
    """State, time, limit, progress and the log's last line, with nothing that a program wrote for
    the terminal; the same as JSON."""
    slurm.job("12", T="RUNNING", r="None", M="1-02:03:04", l="2-00:00:00", D="2", S="1795645900")
    started(here / "runs/a", "12", output="job 12: 2 node(s), 2 rank(s) of 1 CPU(s), run 3; x\n"
            "epoch 7/30  loss 0.2\rE\x1b[2Jpoch  7/30\n\n")
    trained(here / "runs/a", 7, 30)
    assert run("status", "runs/a", "--json", "status.json") == 0
    out = capsys.readouterr().out
    assert re.split(" {2,}", out.split("\n")[1]) == [
        "12", "hd-train-cpu", "train", "running", "1-2:03:04", "2-0:00:00",
        "epoch 7 of 30; run 3; 2 nodes"]
    assert "\n  log: E\\x1b[2Jpoch  7/30\n1 job: 1 running\n" in out
    [facts] = json.loads(Path("status.json").read_text())["jobs"]
    assert (facts["state"], facts["scheduler_state"], facts["elapsed_s"], facts["limit_s"],
            facts["runs"], facts["progress"]) == ("running", "RUNNING", 93784, 172800, 3,
                                                  "epoch 7 of 30")
    # one question for all
    assert [call[0] for call in slurm.calls] == ["squeue"]


def test_all_jobs_of_mine(slurm, here, capsys):
    """Without a subject; records are found below the folder of submission, also from elsewhere."""
    slurm.job("12", T="RUNNING", Z=str(here))
    slurm.job("13", j="other", Z="/nowhere", S=str(int(time.time()) + 90_000), r="Resources")
    slurm.job("14", U="1", u="alice")
    started(here / "runs/a", "12", output="hello\n")
    os.chdir("/")
    assert run("status") == 0
    out = capsys.readouterr().out
    assert "log: hello" in out and "for nodes to become free; expected to start 20" in out
    assert "2 jobs: 1 running, 1 waiting" in out and "14" not in out.split()
    slurm.forget("12"), slurm.forget("13")
    with pytest.raises(InputError, match="none of your jobs is in the queue"):
        run("status")


def test_a_pipeline_before_its_first_job(slurm, here, capsys):
    """What pipeline.sh records when it submits: three jobs that wait for each other."""
    (here / "pictures").mkdir()
    done = run_script(ROOT / "jobs/slurm/pipeline.sh", "--epochs", "2", bin_path=slurm.bin,
                      cwd=here, PICTURES="pictures", RUN="runs/p", TRAIN="train_cpu",
                      DATA='a "b.h5', PLAYED_SLURM=str(slurm.folder), DEVICE="cpu")
    assert done.returncode == 0, done.stderr
    capsys.readouterr()
    assert run("status", "runs/p", "--json", "s.json") == 0
    out = capsys.readouterr().out
    facts = json.loads(Path("s.json").read_text())["jobs"]
    assert [(one["work"], one["state"], one["after"]) for one in facts] == [
        ("preprocess", "waiting", []), ("train", "waiting", ["101"]),
        ("evaluate", "waiting", ["102"])]
    assert "after job 101 has succeeded" in out and "after job 102 has succeeded" in out
    assert [entry.after for entry in journal.read(here / "runs/p/jobs")] == [
        "", "afterok:101", "afterok:102"]
    # The data file has records of its own once its job has started; another folder knows of it.
    assert facts[0]["run"] == str(here / 'a "b.h5') and facts[1]["run"] == str(here / "runs/p")


def test_a_pipeline_whose_preprocessing_runs(slurm, here, capsys):
    """It keeps its records beside the data file, outside of the pipeline's folder."""
    (here / "runs/p/jobs").mkdir(parents=True)
    entries = ({"id": "101", "kind": "preprocess", "records": str(here / "d/f.h5.jobs")},
               {"id": "102", "kind": "train", "after": "afterok:101"})
    (here / "runs/p/jobs/submitted.jsonl").write_text("".join(
        json.dumps(entry) + "\n" for entry in entries))
    started(here / "d/f.h5.jobs", "101", script=SCRIPT.replace("\ntrain\n", "\npreprocess\n"),
            output="120 of 400 images (30%)  61/s  5 s left\n")
    started(here / "d/f.h5.jobs", "77", outcome=1)  # of another pipeline
    slurm.job("101", T="RUNNING"), slurm.job("102")
    assert run("status", "runs/p") == 0
    out = capsys.readouterr().out
    assert "120 of 400 images (30%)\n" in out and out.endswith("2 jobs: 1 running, 1 waiting\n")
    assert run("logs", "runs/p") == 0 and "61/s" in capsys.readouterr().out


def test_a_data_file_that_is_not_there_yet(slurm, here, capsys):
    assert run("submit", "slurm", "preprocess", "--var", "DATA=f.h5", "--var", "PICTURES=..") == 0
    for subject in ("f.h5", "f.h5.jobs", "101"):
        assert run("status", subject) == 0
        assert "preprocess  waiting" in capsys.readouterr().out


def test_a_chain(slurm, here, capsys):
    """Jobs queued in advance: what each is, and in which order they resume the work."""
    assert run("submit", "slurm", "train_cpu", "--chain", "3", "--var", "RUN=runs/c", "--var",
               f"DATA={os.devnull}") == 0
    started(here / "runs/c", "101", outcome=75)
    slurm.job("101", T="FAILED", r="NonZeroExitCode")
    slurm.job("102", T="RUNNING")
    started(here / "runs/c", "102")
    for subject in ("runs/c", "103"):
        capsys.readouterr()
        assert run("status", subject) == 0
        assert "chain: 101 (stopped) → 102 (running) → 103 (waiting)\n" in capsys.readouterr().out


def test_a_failed_job_until_another_one_takes_up_its_work(slurm, here, capsys):
    started(here / "runs/a", "12", outcome=2, output="…\n----- job 12 failed: x\nerror: no file\n",
            error="error on rank 1 on n02: there is no data\x07 file\nmore\n")
    slurm.accounting("12|FAILED|2:0|1795645818|1795645818|1795645819|79|1|1||00:00.039||409600K|"
                     "cpu=1|hd-train-cpu")
    assert run("status", "runs/a") == 1
    out = capsys.readouterr().out
    assert "failed  0:01:19         exit code 2: options or input rejected" in out
    assert "  error: error on rank 1 on n02: there is no data\\x07 file\n" in out
    slurm.job("13", T="RUNNING")
    started(here / "runs/a", "13")
    assert run("status", "runs/a") == 0


@pytest.mark.parametrize("line, state, reason", [
    ("TIMEOUT|0:0", "time limit", "ended by SLURM at its time limit"),
    ("OUT_OF_MEMORY|0:125", "out of memory", "killed: memory ran out"),
    ("NODE_FAIL|1:0", "node failed", "a node failed"), ("CANCELLED by 1001|0:0", "cancelled", ""),
    ("COMPLETED|0:0", "finished", ""), ("FAILED|75:0", "stopped", "can be resumed"),
    ("FAILED|3:0", "failed", "exit code 3: the training diverged")])
def test_how_jobs_ended_by_the_accounting(slurm, here, capsys, line, state, reason):
    started(here / "runs/a", "12")
    slurm.accounting(f"12|{line}|1795645818|1795645818|1795645819|79|1|1||0||1K|cpu=1|x")
    run("status", "runs/a")
    row = capsys.readouterr().out.split("\n")[1]
    assert f"  {state}  " in row and reason in row


def test_without_a_scheduler(here, capsys, monkeypatch, tmp_path):
    """The records alone, and it says so."""
    monkeypatch.setenv("PATH", str(tmp_path))
    started(here / "runs/a", "12", outcome=75)
    started(here / "runs/b", "13")
    started(here / "runs/b", "14", outcome=1)
    assert run("status", "runs") == 1
    out, err = capsys.readouterr()
    assert "squeue is not in PATH; these are the jobs' records alone" in err
    assert [re.split(" {2,}", line)[:4] for line in out.split("\n") if line[:1] == "1"] == [
        [number, "hd-train-cpu", "train", state] for number, state in {
            "12": "stopped", "13": "unknown", "14": "failed"}.items()]
    with pytest.raises(InputError, match="no scheduler can be asked: squeue: not in PATH; qselect"):
        run("status")


def test_a_scheduler_that_hangs(slurm, here, capsys, monkeypatch):
    monkeypatch.setattr(lookup, "PATIENCE", 0.3)
    slurm.hang()
    started(here / "runs/a", "12", outcome=0)
    began = time.monotonic()
    assert run("status", "runs/a") == 0
    assert time.monotonic() - began < limit(20)
    out, err = capsys.readouterr()
    assert "note: squeue: no answer within 0.3 s; these are the jobs' records alone\n" in err
    assert "finished" in out
    assert len(slurm.calls) <= 1, "fewer where it had no time to start"


@pytest.mark.parametrize("words", [["status"], ["logs"], ["cancel", "--yes"]])
def test_a_job_of_which_a_hanging_scheduler_tells_nothing(slurm, here, monkeypatch, words):
    """It is not called unknown to the scheduler; of SLURM's commands only one is waited for."""
    monkeypatch.setattr(lookup, "PATIENCE", 0.3)
    slurm.hang()
    with pytest.raises(InputError, match=r"it is not known whether there is a job 1234\n"
                       r"squeue: no answer within 0\.3 s\n"):
        run(*words, "1234")
    assert len(slurm.calls) <= 1, "fewer where it had no time to start"
    (slurm.folder / "hangs").unlink()
    slurm.job("1234")
    monkeypatch.setattr(lookup, "PATIENCE", limit(20))
    assert run("status", "1234") == 0


def test_elements_of_an_array(slurm, here, capsys):
    """Each with the records of its own run directory; those that wait in one line."""
    slurm.job("14_1", T="RUNNING")
    slurm.job("14_[2-9%2]", r="JobArrayTaskLimit")
    started(here / "runs/sweep/001", "14_1", output="one\n")
    started(here / "runs/sweep/000", "14_0", outcome=0)
    (here / "runs/sweep/jobs").mkdir()
    (here / "runs/sweep/jobs/submitted.jsonl").write_text(
        '{"id": "14", "kind": "train", "time": 1}\nnot json\n{"id": 5}\n[]\n')
    assert run("status", "runs/sweep") == 0
    out = capsys.readouterr().out
    assert out.split("\n")[-2] in ("3 jobs: 1 waiting, 1 finished, 1 running",
                                   "3 jobs: 1 finished, 1 running, 1 waiting",
                                   "3 jobs: 1 finished, 1 waiting, 1 running",
                                   "3 jobs: 1 waiting, 1 running, 1 finished")
    assert "for other elements of the array" in out and "log: one" in out


def test_records_that_are_no_files(slurm, here, capsys):
    """Somebody else's folder may hold anything: nothing is waited for."""
    file = started(here / "runs/a", "12")
    folder = here / "runs/a/jobs"
    for path in (file, folder / "12.outcome", folder / "submitted.jsonl", folder / "12.error",
                 folder / "next", here / "runs/a/metrics.jsonl"):
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    (folder / "cancelled").mkdir()
    assert run("status", "runs/a") == 0 and "unknown" in capsys.readouterr().out
    for words in ((), ("-f",), ("--errors",)):
        try:
            run("logs", "runs/a", *words)
        except InputError as error:
            assert "there is no log of job 12" in str(error)


def test_errors_of_usage(slurm, here):
    (here / "empty").mkdir()
    for subject, message in {"nowhere": "neither a run directory, a data file nor a job id",
                             "x" * 5000: "neither a run directory",
                             "empty": "holds no job records", "4711": "no job 4711",
                             "a\x1b[2J": r"a\\x1b\[2J is neither"}.items():
        with pytest.raises(InputError, match=message):
            run("status", subject)
    with pytest.raises(InputError, match="cannot write --json"):
        run("status", "empty", "--json", here)


def test_the_table_fits_the_terminal():
    jobs = [Job("12", name="hd-train-cpu", work="train", state="running", line="x" * 200,
                progress="y" * 90, runs=1)]
    lines = table.text(lookup.Selection(jobs), 80).split("\n")
    assert max(map(len, lines)) == 80 and lines[1][-1] == lines[2][-1] == "…"
    assert len(table.text(lookup.Selection(jobs)).split("\n")[2]) == 207


@pytest.mark.parametrize("reason, dependency, words", [
    ("Priority", "(null)", "jobs with a higher priority come first"),
    ("Dependency", "afterok:12(unfulfilled),afterany:13_*(unfulfilled)",
     "after job 12 has succeeded and job 13_* has ended"),
    ("Dependency", "afterok:12:14", "after jobs 12, 14 have succeeded"),
    ("QOSMaxGRESPerUser", "", "limit of the quality of service on GPUs or other resources reached "
     "(QOSMaxGRESPerUser)"),
    ("AssocGrpBillingMinutes", "", "limit of the account on budget reached "
     "(AssocGrpBillingMinutes)"),
    ("QOSMaxJobsPerUserLimit", "", "limit of the quality of service on jobs at once reached "
     "(QOSMaxJobsPerUserLimit)"),
    ("AssocMaxNodePerJobLimit", "", "limit of the account on nodes reached "
     "(AssocMaxNodePerJobLimit)"),
    ("ReqNodeNotAvail, UnavailableNodes:n[01-04]", "", "for nodes that are down, reserved or "
     "drained (maintenance?) (UnavailableNodes:n[01-04])"),
    ("SomethingNew\x1b", "", "SomethingNew\\x1b"), ("None", "", "")])
def test_slurms_reasons_in_words(reason, dependency, words):
    assert reasons.slurm(reason, dependency) == words


@pytest.mark.parametrize("comment, depend, words", [
    ("Not Running: Insufficient amount of resource: ncpus (R: 64 A: 3 T: 128)", "",
     "for ncpus: it asks for 64, 3 of 128 are free"),
    ("Can Never Run: Insufficient amount of resource: ngpus (R: 8 A: 4 T: 4)", "",
     "it never starts: ngpus: it asks for 8, 4 of 4 are free"),
    ("Not Running: Job would conflict with reservation or top job", "",
     "jobs with a higher priority come first"),
    ("Not Running: User has reached queue prod running job limit.", "",
     "User has reached queue prod running job limit."),
    ("", "afterany:12.pbs@pbs:13[].pbs@pbs", "after jobs 12, 13[] have ended")])
def test_pbs_comments_in_words(comment, depend, words):
    assert reasons.pbs(comment, depend) == words


def test_answers_that_were_cut_or_hold_anything():
    assert parse_squeue("12\x1fRUNNING") == [] and parse_squeue("slurm_load: error\n") == []
    [one] = parse_squeue("\x1f".join(["12", "NEW_STATE", "u", "r", "x", "y", "INVALID",
                                      "UNLIMITED", "2-4", "p", "(null)", "a|b\nc", "/d"]) + "\x1e")
    assert (one.name, one.state, one.limit, one.nodes) == ("a|b\nc", "unknown", None, None)
    [two] = parse_qstat("Job Id: 3.s\n    job_state = F\n    Exit_status = -29\n")
    assert two.state == "time limit"
    [rerun] = parse_qstat("Job Id: 3.s\n    job_state = Q\n    stime = Wed Nov 25 08:00:00 2026\n"
                          "    run_count = 2\n    estimated.start_time = 1795645818\n")
    assert (rerun.start, rerun.runs) == (1795645818, 2)  # not of its earlier run
    [three] = parse_qstat("Job Id: 3.s\n    job_state = F\n    Exit_status = 271\n")
    assert (three.state, three.reason) == ("cancelled", "ended by signal 15")


def test_ids_in_an_answer_that_holds_anything(here, tmp_path, monkeypatch):
    """They become words of the next command."""
    command(tmp_path, "qselect", r"printf '1\0.s\n--all\n2.s\n'")
    command(tmp_path, "qstat", f'echo "$*" >{tmp_path}/asked; printf "Job Id: 2.s\\0\n"')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert [one.id for one in pbs.own_jobs(20)[0]] == ["2.s\ufffd"]
    assert (tmp_path / "asked").read_text() == "-f 2.s\n"


def test_ids():
    assert [scheduler_of(name) for name in ("12", "12_3", "12.pbs", "12[3].pbs", "12[].pbs")] == [
        "", "slurm", "pbs", "pbs", "pbs"]
    assert [one.id for one in sorted(map(Job, ("14[10].s", "14[9].s", "101", "9")),
                                     key=records.age)] == ["9", "14[9].s", "14[10].s", "101"]
    assert within("14_2", "14") and within("14[2]", "14[]") and not within("141", "14")


# --- logs


def test_logs(slurm, here, capsys):
    slurm.job("12", T="RUNNING")
    started(here / "runs/a", "12", output="one\ntwo\x1b[31m\nthree")
    ranks = here / "runs/a/jobs/12.ranks"
    ranks.mkdir()
    (ranks / "rank-0003.log").write_text("third\n")

    def printed(*words: str) -> str:
        assert run("logs", "runs/a", *words) == 0
        return capsys.readouterr().out

    assert printed() == "one\ntwo\\x1b[31m\nthree\n"
    assert printed("-n", "2") == "two\\x1b[31m\nthree\n" and printed("-n", "0") == ""
    assert printed("--rank", "3") == "third\n"
    with pytest.raises(InputError, match=r"no log of rank 4 .*RANK_LOGS=1"):
        run("logs", "runs/a", "--rank", "4")
    (here / "hd-12.log").unlink(missing_ok=True), (here / "runs/a/hd-12.log").unlink()
    with pytest.raises(InputError, match=r"there is no log of job 12 .*moved or deleted"):
        run("logs", "runs/a")


def test_the_log_of_a_job_without_records(slurm, here, capsys):
    """SLURM knows where it is; before the job has started, why it waits."""
    (here / "x.log").write_text("hello\n")
    slurm.job("12", T="RUNNING", log=str(here / "x.log"), Z=str(here))
    assert run("logs", "12") == 0 and capsys.readouterr().out == "hello\n"
    slurm.job("13", log=str(here / "y.log"))
    with pytest.raises(InputError, match="job 13 has not started yet: jobs with a higher priority"):
        run("logs", "13")


def test_errors_of_all_jobs_of_a_study(slurm, here, capsys):
    started(here / "runs/s/one", "12", error="error on rank 1: no room\nmore\n", outcome=1)
    started(here / "runs/s/two", "13",
            output="fine\nslurmstepd: error: Detected 1 oom_kill event\n")
    started(here / "runs/s/three", "14", output="fine\n", outcome=0)
    assert run("logs", "runs/s", "--errors") == 0
    assert capsys.readouterr().out == (
        "----- job 12, train: failed (exit code 1)\nerror on rank 1: no room\nmore\n"
        "----- job 13, train: unknown (ended without an exit code of its program; see its log)\n"
        "slurmstepd: error: Detected 1 oom_kill event\n")


def test_following_a_log_to_the_next_job(slurm, here, capsys):
    """What is added, also by the job that resumes the work; it ends with the last one."""
    first = started(here / "runs/a", "12", output="old\none\n")
    slurm.job("12", T="RUNNING")
    slurm.job("13", r="Dependency", E="afterany:12(unfulfilled)")
    (here / "runs/a/jobs/submitted.jsonl").write_text(
        '{"id": "13", "after": "afterany:12", "resumes": "12", "kind": "train", "time": 9e9}\n')

    def work() -> None:
        pause()
        with open(first, "a") as file:
            file.write("two\nstop")
            file.flush()
            pause()
            file.write("ped\n")
        slurm.job("12", T="FAILED", r="NonZeroExitCode")
        slurm.job("13", T="RUNNING", r="None")
        started(here / "runs/a", "13", output="three\n")
        (here / "runs/a/jobs/12.outcome").write_text("75")
        pause()
        slurm.job("13", T="COMPLETED", r="None")
        (here / "runs/a/jobs/13.outcome").write_text("0")

    def pause() -> None:
        time.sleep(0.4)

    worker = threading.Thread(target=work)
    worker.start()
    assert run("logs", "runs/a", "-f", "-n", "1", "--every", "1") == 0
    worker.join()
    out, err = capsys.readouterr()
    assert out == "one\ntwo\nstopped\nthree\n"
    assert "----- job 13 follows\n" in err and err.endswith("----- job 13: finished\n")


def test_following_a_job_that_runs_and_has_no_log_yet(slurm, here, capsys):
    started(here / "runs/a", "12").unlink()
    slurm.job("12", T="RUNNING")

    def work() -> None:
        time.sleep(1.5)  # asked for more than once
        (here / "runs/a/hd-12.log").write_text("one\n")
        (here / "runs/a/jobs/12.outcome").write_text("0")
        slurm.job("12", T="COMPLETED", r="None")

    worker = threading.Thread(target=work)
    worker.start()
    assert run("logs", "runs/a", "-f", "--every", "1") == 0
    worker.join()
    out, err = capsys.readouterr()
    assert out == "one\n"
    assert err.count(f"- job 12 (running) has no log yet, {here}/runs/a/hd-12.log: waiting") == 1


def test_a_log_that_is_cut_replaced_or_long(tmp_path):
    path = tmp_path / "log"
    tail = Tail(path, 5)
    assert list(tail.lines()) == []
    path.write_bytes(b"a\nb")
    assert list(tail.lines()) == ["a"]
    with open(path, "ab") as file:
        file.write(b"c\n\xff\n")
    assert list(tail.lines()) == ["bc", "�"]
    path.write_bytes(b"new\n")  # from its beginning
    assert list(tail.lines()) == ["new"]
    (tmp_path / "other").write_bytes(b"other and longer\n")
    os.replace(tmp_path / "other", path)
    assert list(tail.lines()) == ["other and longer"]
    lines = [f"{number:06} {'x' * (number % 50)}" for number in range(5000)]
    path.write_text("\n".join(lines) + "\n")
    for count in (0, 1, 3000, 4999, 5000, 6000):
        assert list(Tail(path, count).lines()) == (lines[-count:] if count else [])
    path.write_text("\n".join(lines))
    assert list(Tail(path, 2).lines(last=True)) == lines[-2:]


def test_a_successor_recorded_while_the_scheduler_is_asked_is_followed(monkeypatch):
    """The records are read first: a job may end, and leave its successor, before the scheduler's
    answer."""
    stopped, running = Job("1", "pbs", state="stopped"), Job("2", "pbs", state="running")
    answers = iter([Selection([stopped]), Selection([stopped, running])])
    monkeypatch.setattr(logs, "look", lambda subject: next(answers))
    before = Selection([Job("1", "pbs", state="running")])
    assert logs._look_again("run", before).current.id == "2"


# --- cancel


def test_cancelling_a_pipeline(slurm, here, capsys):
    """Those that wait first, so that none starts; what was submitted meanwhile too; others' jobs
    stay. It says what is kept, and how to resume."""
    assert run("submit", "slurm", "train_cpu", "--var", "RUN=runs/a") == 0
    slurm.job("101", T="RUNNING")
    started(here / "runs/a", "101")
    trained(here / "runs/a", 7, 30)
    (here / "runs/a/checkpoints").mkdir()
    (here / "runs/a/checkpoints/step-000000070.npz").touch()
    slurm.job("102", r="Dependency", E="afterany:101(unfulfilled)")
    slurm.job("103", U="1", u="alice")
    records_file = here / "runs/a/jobs/submitted.jsonl"
    with open(records_file, "a") as file:
        for number in (102, 103, 104):
            file.write(f'{{"id": "{number}", "kind": "evaluate", "time": 9e9}}\n')
    with pytest.raises(InputError, match="nothing was cancelled: confirm with --yes"):
        run("cancel", "runs/a")
    assert not [call for call in slurm.calls if call[0] == "scancel"]
    added = {**slurm.jobs, "104": {**slurm.jobs["102"], "i": "104"}}
    slurm.then(f"cat >'{slurm.folder}/jobs.json' <<'END'\n{json.dumps(added)}\nEND")
    capsys.readouterr()
    assert run("cancel", "runs/a", "--yes") == 0
    out, err = capsys.readouterr()
    scancels = [call[1:] for call in slurm.calls if call[0] == "scancel"]
    assert scancels[:2] == [["102"], ["101"]] and ["104"] in scancels
    assert "job 103 belongs to alice and is left alone" in err
    assert slurm.jobs["103"]["T"] == "PENDING"
    assert records.cancelled(here / "runs/a/jobs") >= {"101", "102", "104"}
    assert "epoch 7 of 30 and its last checkpoint (so far step-000000070.npz) stay" in out
    resume = out.partition("to resume: ")[2].split("\n")[0].split()
    assert resume[:5] == ["hpc-deepfake", "job", "submit", "slurm", "--script"]
    assert run(*resume[2:]) == 0  # the command that was printed works
    assert slurm.calls[-1][0] == "sbatch"


def test_cancelling_a_sweep(slurm, here, capsys):
    """An array of many runs in one line; and a job that has begun one trial after another."""
    slurm.job("14_1", T="RUNNING"), slurm.job("14_[2-9%2]")
    script = SCRIPT.replace("\ntrain\n", "\nsweep\n")
    started(here / "s/trials/000", "14_0", script=script, outcome=0)
    started(here / "s/trials/001", "14_1", script=script)
    slurm.job("15", T="RUNNING")
    started(here / "s/trials/003", "15", script=script, output="first\n", outcome=0)
    started(here / "s/trials/002", "15", script=script, output="second\n")
    os.utime(here / "s/trials/002/jobs/15.env", (1795646000,) * 2)
    (here / "s/jobs").mkdir()
    (here / "s/jobs/submitted.jsonl").write_text('{"id": "14", "kind": "sweep", "time": 1}\n')
    assert run("status", "s") == 0 and "log: second" in capsys.readouterr().out
    assert run("cancel", "s", "--yes") == 0
    assert [call[1:] for call in slurm.calls if call[0] == "scancel"][:2] == [
        ["14_[2-9]"], ["14_1", "15"]]
    assert "runs: what they have finished or saved stays" in capsys.readouterr().out


def test_cancelling_all_leaves_other_work_alone(slurm, here, capsys):
    """Jobs of this project are known by their name or their records."""
    slurm.job("31", j="hd-train-cpu"), slurm.job("32", j="weather")
    slurm.job("33", j="renamed", Z=str(here))
    started(here / "runs/a", "33")
    for words in (["--yes"], ["31", "--all"]):
        with pytest.raises(InputError, match="either runs and job ids, or --all"):
            run("cancel", *words)
    assert run("cancel", "--all", "--yes") == 0
    assert "cancelled: 31, 33" in capsys.readouterr().out
    assert slurm.jobs["32"]["T"] == "PENDING"


def test_nothing_to_cancel(slurm, here, capsys):
    started(here / "runs/a", "12", outcome=0)
    assert run("cancel", "runs/a") == 0
    assert capsys.readouterr().out == "nothing to cancel: 1 job: 1 finished\n"


def test_a_question_on_a_terminal(slurm, here, capsys, monkeypatch):
    slurm.job("12", T="RUNNING")
    answers = iter(["n\n", "yes\n"])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stdin, "readline", lambda: next(answers), raising=False)
    assert run("cancel", "12") == 1 and "cancel 1 job? [y/N]" in capsys.readouterr().out
    assert run("cancel", "12") == 0 and slurm.jobs["12"]["T"] == "COMPLETING"


# --- PBS


@pytest.fixture
def pbs_here(pbs, here, monkeypatch):
    for name, value in pbs.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("USER", "LOGNAME"):
        monkeypatch.setenv(name, getpass.getuser())
    return pbs


def test_a_chain_of_successors_on_pbs(pbs_here, here, capsys):
    """A stopped job submits its successor; both are one chain, whose log is followed to its end."""
    pbs_here.plan("train 75")
    first = pbs_here.submit(ROOT / "jobs/pbs/train_cpu.sh", cwd=here, DATA="x.h5", RUN="runs/a",
                            **pbs_here.stand_in())
    until(here / f"runs/a/jobs/{first}.env")
    assert run("logs", "runs/a", "-f", "--every", "1") == 0
    assert "training is done" in capsys.readouterr().out
    second = list(pbs_here.jobs)[1]
    assert run("status", "runs/a") == 0
    out = capsys.readouterr().out
    assert f"chain: {first} (stopped) → {second} (finished)\n" in out
    assert run("status", second.partition(".")[0]) == 0
    assert f"chain: {first}" in capsys.readouterr().out


def test_cancelling_on_pbs(pbs_here, here, capsys):
    """A job that waits for another one, and the one that runs; nothing is submitted after them."""
    pbs_here.configure(kill_delay=1)
    pbs_here.plan("train wait")
    script = ROOT / "jobs/pbs/train_cpu.sh"
    words = {"DATA": "x.h5", "RUN": "runs/a", **pbs_here.stand_in()}
    first = pbs_here.submit(script, cwd=here, **words)
    pbs_here.wait(first, "R")
    assert run("submit", "pbs", "evaluate", "--after", f"{first}:any", "--var", "RUN=runs/a") == 0
    until(pbs_here.folder / "programs")
    assert run("status") == 0
    assert f"after job {first.partition('.')[0]} has ended" in capsys.readouterr().out
    assert run("cancel", "runs/a", "--yes") == 0
    pbs_here.wait_all()
    assert run("status", "runs/a") == 0
    assert "2 jobs: 2 cancelled" in capsys.readouterr().out
    assert len(pbs_here.jobs) == 2


def test_history_that_is_off(pbs_here, here, capsys):
    """What ended is known by its records, and what runs by qstat without -x."""
    pbs_here.configure(history=False)
    pbs_here.plan("train 0", "train wait")
    first = pbs_here.submit(ROOT / "jobs/pbs/train_cpu.sh", cwd=here, DATA="x.h5", RUN="runs/a",
                            **pbs_here.stand_in())
    pbs_here.wait_all()
    assert run("status", "runs/a") == 0
    out, err = capsys.readouterr()
    assert "finished" in out and first in out and not err
    second = pbs_here.submit(ROOT / "jobs/pbs/train_cpu.sh", cwd=here, DATA="x.h5", RUN="runs/a",
                             **pbs_here.stand_in())
    until(here / f"runs/a/jobs/{second}.env")
    assert run("status", "runs/a") == 0
    assert "2 jobs: 1 finished, 1 running" in capsys.readouterr().out


def test_a_cancelled_job_that_is_stopping_is_not_submitted_again(pbs_here, here):
    """The signal before the limit arrives first: the record decides."""
    pbs_here.plan("train 75")
    (here / "runs/a/jobs").mkdir(parents=True)
    (here / "runs/a/jobs/cancelled").write_text("1.server\n")
    first = pbs_here.submit(ROOT / "jobs/pbs/train_cpu.sh", cwd=here, DATA="x.h5", RUN="runs/a",
                            **pbs_here.stand_in())
    assert first == "1.server"
    pbs_here.wait_all()
    assert len(pbs_here.jobs) == 1
    assert "stopped by hpc-deepfake job cancel" in pbs_here.log(first)


def test_the_command_line(capsys):
    """Each has a help with examples; a wrong option ends with 2."""
    for name in ("status", "logs", "cancel"):
        with pytest.raises(SystemExit) as end:
            run(name, "--help")
        assert end.value.code == 0
        out = capsys.readouterr().out
        assert f"hpc-deepfake job {name} " in out and "exit codes: 0 " in out
    assert "job" in cli.COMMANDS
