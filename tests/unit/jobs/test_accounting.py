"""``hpc-deepfake job report``: recorded output of a real sacct, qstat's format, runs' own files."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest
from speed import limit

from hpc_deepfake import cli
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.jobs import command as job
from hpc_deepfake.jobs.accounting import account, table, values
from hpc_deepfake.jobs.accounting.pbs import parse_qstat
from hpc_deepfake.jobs.accounting.slurm import FIELDS, parse_sacct
from hpc_deepfake.jobs.accounting.values import read_duration, read_size

# sacct of SLURM 22.05 on four nodes, as ask_sacct() calls it: two nodes with two GPUs each; a job
# that requeued itself twice; one that failed; an array; one over its time limit; one that was
# cancelled while it was held; one that is waiting; one that is running.
SACCT = {"11": """\
11|COMPLETED|0:0|1795645818|1795645818|1795645819|17|8|2||00:21.243||4194304K|billing=8,cpu=8,gres/gpu=4,mem=4194304K,node=2|rep-steps
11.batch|COMPLETED|0:0|1795645819|1795645819|1795645819|17|4|1|1|00:00.083|12512K||cpu=4,gres/gpu=2,mem=2097152K,node=1|batch
11.0|COMPLETED|0:0|1795645819|1795645819|1795645819|12|8|2|4|00:21.130|66788K||cpu=8,gres/gpu=4,mem=4194304K,node=2|burn
11.1|COMPLETED|0:0|1795645831|1795645831|1795645831|5|2|1|1|00:00.029|1584K||cpu=2,gres/gpu=2,mem=2097152K,node=1|wait a|bit
""", "12": """\
12|REQUEUED|0:0|1795645818|1795645818|1795645819|4|2|1||00:02.734||819200K|billing=2,cpu=2,mem=819200K,node=1|rep-requeue
12.batch|CANCELLED|0:15|1795645819|1795645819|1795645819|4|2|1|1|00:00.091|12204K||cpu=2,mem=819200K,node=1|batch
12.0|COMPLETED|0:0|1795645819|1795645819|1795645819|4|2|1|2|00:02.643|8084K||cpu=2,mem=819200K,node=1|python3
12|REQUEUED|0:0|1795645823|1795645944|1795645944|4|2|1||00:08.078||819200K|billing=2,cpu=2,mem=819200K,node=1|rep-requeue
12.batch|CANCELLED|0:15|1795645944|1795645944|1795645944|4|2|1|1|00:00.105|12192K||cpu=2,mem=819200K,node=1|batch
12.0|COMPLETED|0:0|1795645944|1795645944|1795645944|4|2|1|2|00:07.972|8068K||cpu=2,mem=819200K,node=1|python3
12|COMPLETED|0:0|1795645948|1795646069|1795646070|5|2|1||00:07.965||819200K|billing=2,cpu=2,mem=819200K,node=1|rep-requeue
12.batch|COMPLETED|0:0|1795646070|1795646070|1795646070|5|2|1|1|00:00.071|12448K||cpu=2,mem=819200K,node=1|batch
12.0|COMPLETED|0:0|1795646070|1795646070|1795646070|5|2|1|2|00:07.893|8040K||cpu=2,mem=819200K,node=1|python3
""", "13": """\
13|FAILED|3:0|1795645818|1795645818|1795645819|0|1|1||00:00.092||409600K|billing=1,cpu=1,mem=409600K,node=1|rep-fail
13.batch|FAILED|3:0|1795645819|1795645819|1795645819|0|1|1|1|00:00.058|||cpu=1,mem=409600K,node=1|batch
13.0|FAILED|1:0|1795645819|1795645819|1795645819|0|1|1|1|00:00.033|||cpu=1,mem=409600K,node=1|false
""", "14": """\
14_1|COMPLETED|0:0|1795645818|1795645819|1795645819|3|1|1||00:00.085||409600K|billing=1,cpu=1,mem=409600K,node=1|rep-array
14_1.batch|COMPLETED|0:0|1795645819|1795645819|1795645819|3|1|1|1|00:00.052|3152K||cpu=1,mem=409600K,node=1|batch
14_2|COMPLETED|0:0|1795645818|1795645819|1795645819|3|1|1||00:00.090||409600K|billing=1,cpu=1,mem=409600K,node=1|rep-array
14_2.batch|COMPLETED|0:0|1795645819|1795645819|1795645819|3|1|1|1|00:00.057|3304K||cpu=1,mem=409600K,node=1|batch
14_2.0|COMPLETED|0:0|1795645822|1795645822|1795645822|0|1|1|1|00:00.033|||cpu=1,mem=409600K,node=1|hostname
""", "15": """\
15|TIMEOUT|0:0|1795645818|1795645818|1795645819|79|1|1||00:00.039||409600K|billing=1,cpu=1,mem=409600K,node=1|rep-timeout
15.batch|CANCELLED|0:15|1795645819|1795645819|1795645819|79|1|1|1|00:00.039|3276K||cpu=1,mem=409600K,node=1|batch
""", "16": """\
16|CANCELLED by 1001|0:0|1795645818|Unknown|1795645818|0|1|1||00:00:00||409600K||rep-held
""", "34": """\
34|PENDING|0:0|1795646507|Unknown|Unknown|0|1|1||00:00:00||409600K||rep-wait
""", "35": """\
35|RUNNING|0:0|1795646507|1795646507|1795646507|17|1|1||00:00.032||409600K|billing=1,cpu=1,mem=409600K,node=1|rep-run
35.batch|RUNNING|0:0|1795646507|1795646507|1795646507|17|1|1|1|00:00:00|||cpu=1,mem=409600K,node=1|batch
35.0|COMPLETED|0:0|1795646507|1795646507|1795646507|1|1|1|1|00:00.032|||cpu=1,mem=409600K,node=1|sleep
"""}  # noqa: E501

# Not recorded, but in the format of OpenPBS: folded lines, sizes and times.
QSTAT = """\
Job Id: 4711.pbs
    Job_Name = hd-train-4gpu
    Job_Owner = me@login1.cluster
    resources_used.cpupercent = 2950
    resources_used.cput = 26:40:00
    resources_used.mem = 50331648kb
    resources_used.ncpus = 32
    resources_used.walltime = 01:00:00
    job_state = F
    queue = gpu
    ctime = Wed Nov 25 08:00:00 2026
    exec_vnode = (gpu01:ncpus=32:ngpus=4:mem=100663296kb)+(gpu02:ncpus=32:ngpu
\ts=4:mem=100663296kb)
    qtime = Wed Nov 25 08:00:00 2026
    Resource_List.mem = 192gb
    Resource_List.ncpus = 64
    Resource_List.ngpus = 8
    Resource_List.nodect = 2
    Resource_List.select = 2:ncpus=32:mpiprocs=4:ngpus=4:mem=96gb
    stime = Wed Nov 25 08:30:00 2026
    Variable_List = PBS_O_HOME=/home/me,PBS_O_WORKDIR=/home/me/a folder,
\tNOTE=job_state = R
    etime = Wed Nov 25 08:20:00 2026
    run_count = 1
    Exit_status = 0

Job Id: 4712.pbs
    Job_Name = a-name-of-more-characters-than-qstat-puts-on-one-line-so-that-it-goes
\t-on-here
    job_state = Q
    ctime = Wed Nov 25 08:00:00 2026
    Resource_List.ncpus = 4

"""
FAKE = f"""#!{sys.executable}
import os, sys
from pathlib import Path
name, folder = os.path.basename(sys.argv[0]), Path(__file__).parent
job = sys.argv[2] if name == "sacct" else sys.argv[-1]
with open(folder / f"{{name}}.asked", "a") as file:
    print(*sys.argv[1:], os.environ.get("SLURM_TIME_FORMAT"), file=file)
answer = folder / f"{{name}}.{{job}}"
if not answer.exists():
    print(f"{{name}}: error: no such job, maintenance", file=sys.stderr)
    sys.exit(1 if name == "qstat" else 0)
print(answer.read_text(), end="")
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Only fake commands in PATH; returns a function that sets their answers by job."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.chdir(tmp_path)

    def answers(command: str, jobs: dict[str, str]) -> Path:
        (folder / command).write_text(FAKE)
        (folder / command).chmod(0o755)
        for name, text in jobs.items():
            (folder / f"{command}.{name}").write_text(text)
        return folder / f"{command}.asked"

    return answers


def make_run(folder: Path, jobs: list[str], **files: object) -> Path:
    """A run directory with records of these jobs, in this order."""
    (folder / "jobs").mkdir(parents=True)
    for number, name in enumerate(jobs):
        record = folder / "jobs" / f"{name}.env"
        record.write_text("SLURM_JOB_ID=1\n")
        os.utime(record, (number, number))
    for name, value in files.items():
        path = folder / name.replace("_json", ".json")
        path.write_text(value if isinstance(value, str) else json.dumps(value))
    return folder


RANKS = [{"host": "n01", "device": "GPU:0", "name": "H100", "threads": 4},
         {"host": "n01", "device": "GPU:1", "name": "H100", "threads": 4},
         {"host": "n02", "device": "GPU:0", "name": "H100", "threads": 4},
         {"host": "n02", "device": "GPU:0", "name": "H100", "threads": 4}]
SUMMARY = {"epochs": 2, "ranks": 4, "seconds": 350.0, "images_per_s": 100.0, "usage": [
    {"cpu_s": 700.0, "max_rss_mb": 1024.0, "wall_s": 360.0}] * 4}
METRICS = "".join(json.dumps({"epoch": epoch, "images_per_s": rate, "seconds": {
    "input": 1.0, "compute": 60.0, "communication": 30.0, "evaluate": 8.0, "checkpoint": 1.0}})
    + "\n" for epoch, rate in ((1, 90.0), (2, 110.0), (3, 120.0))) + '{"epoch": 4, "sec'


# --- sacct


def test_efficiencies_and_gpu_hours_as_in_seff():
    """Job 11: 21.243 CPU s in 17 s × 8 CPUs; its largest step had 4 tasks of up to 66788 KiB, of
    4 GiB; 4 GPUs for 17 s."""
    (usage,) = parse_sacct(SACCT["11"])
    assert (usage.name, usage.state, usage.exit) == ("rep-steps", "COMPLETED", "0:0")
    assert (usage.waited, usage.held, usage.elapsed, usage.nodes) == (1, 0, 17, 2)
    assert usage.cpu_efficiency == pytest.approx(21.243 / (17 * 8))
    assert usage.memory == 66788 * 1024 * 4
    assert usage.memory_efficiency == pytest.approx(66788 * 4 / 4194304)
    assert usage.gpu_hours == pytest.approx(4 * 17 / 3600)
    burn = usage.steps[1]
    assert [step.id for step in usage.steps] == ["batch", "0", "1"]
    assert usage.steps[2].name == "wait a|bit"
    assert burn.cpu_efficiency == pytest.approx(21.130 / (12 * 8))
    assert burn.memory_efficiency == pytest.approx(66788 * 4 / 4194304)


def test_each_run_of_a_requeued_job_keeps_its_own_steps():
    runs = parse_sacct(SACCT["12"])
    assert [(usage.state, usage.waited, usage.held) for usage in runs] == [
        ("REQUEUED", 1, 0), ("REQUEUED", 121, 121), ("COMPLETED", 122, 121)]
    assert [usage.cpu for usage in runs] == [2.734, 8.078, 7.965]
    assert [[step.cpu for step in usage.steps] for usage in runs] == [
        [0.091, 2.643], [0.105, 7.972], [0.071, 7.893]]


def test_totals_weigh_each_run_by_its_allocation(machine):
    machine("sacct", SACCT)
    total = account("12").total
    assert (total.waited, total.elapsed) == (244, 13)
    assert total.cpu_efficiency == pytest.approx((2.734 + 8.078 + 7.965) / (2 * 13))
    assert total.memory == 8084 * 1024 * 2
    assert account("11").total.gpu_hours == pytest.approx(4 * 17 / 3600)


def test_jobs_that_failed_or_have_not_ended(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1795646507 + 60)
    failed, over, cancelled, waits, runs = (
        parse_sacct(SACCT[name])[0] for name in ("13", "15", "16", "34", "35"))
    assert (failed.state, failed.exit, failed.cpu_efficiency) == ("FAILED", "3:0", None)
    assert (over.state, over.elapsed) == ("TIMEOUT", 79)
    assert (cancelled.state, cancelled.waited, cancelled.gpu_hours) == ("CANCELLED", 0, 0)
    assert waits.waited == 60
    later = parse_sacct(SACCT["34"].replace("|Unknown|", f"|{1795646507 + 120}|", 1))[0]
    assert (later.waited, later.held) == (60, 60)  # eligible in a minute's time
    assert "still waiting" in waits.notes[0] and waits.cpu_efficiency is None
    assert runs.cpu_efficiency is None and "once a step has ended" in runs.notes[0]
    assert runs.steps[1].cpu == 0.032


def test_elements_of_an_array_are_jobs_of_their_own():
    jobs = parse_sacct(SACCT["14"])
    assert [(usage.id, len(usage.steps)) for usage in jobs] == [("14_1", 1), ("14_2", 2)]


def row(**fields: str) -> str:
    """A line of sacct with these values of its fields."""
    defaults = dict.fromkeys(FIELDS, "") | {
        "JobID": "1", "State": "COMPLETED", "ElapsedRaw": "10", "AllocCPUS": "8", "NNodes": "2"}
    return "|".join((defaults | fields)[name] for name in FIELDS) + "\n"


@pytest.mark.parametrize(("text", "alloc", "expected"), [
    ("400Mc", "", 400 * 2**20 * 8), ("3Gn", "", 3 * 2**30 * 2), ("3200M", "", 3200 * 2**20),
    ("4194304K", "", 2**32), ("0n", "cpu=8,mem=64G", 64 * 2**30), ("0", "mem=1.50G", 1.5 * 2**30),
    ("?n", "", None), ("", "", None)])
def test_requested_memory_of_old_and_new_slurm(text, alloc, expected):
    """Before 21.08 with suffix c or n: of each CPU or node. With --mem=0: the allocated memory."""
    assert parse_sacct(row(ReqMem=text, AllocTRES=alloc))[0].memory_asked == expected


@pytest.mark.parametrize(("alloc", "gpus"), [
    ("billing=8,cpu=8,gres/gpu=4,node=2", 4), ("gres/gpu:a100=2,gres/gpu=2", 2),
    ("gres/gpu:a100=2,gres/gpu:v100=1", 3), ("cpu=8,gres/nic=2", 0), ("", 0)])
def test_gpus_with_and_without_their_type(alloc, gpus):
    assert parse_sacct(row(AllocTRES=alloc))[0].gpu_hours == pytest.approx(gpus * 10 / 3600)


def test_times_as_text_or_seconds_and_lines_without_a_job():
    text = row(Submit="2026-11-25T22:30:18", Eligible="2026-11-25T22:31:18",
               Start="2026-11-25T22:32:18")
    (usage,) = parse_sacct(f"sacct: warning\n\n{text}9.batch|short\n")
    assert (usage.waited, usage.held) == (120, 60)
    (usage,) = parse_sacct(row(Submit="Unknown", Eligible="Unknown", Start="None"))
    assert usage.waited is None


def test_a_step_without_its_job_is_left_out():
    assert parse_sacct(row(JobID="7.batch")) == []


@pytest.mark.parametrize(("text", "seconds"), [
    ("00:21.243", 21.243), ("00:00:00", 0), ("01:02:03", 3723), ("1-02:03:04", 93784),
    ("26:40:00", 96000), ("2-01:00", 172860), ("59.5", 59.5), ("", None), ("INVALID", None),
    ("1:2:3:4", None)])
def test_durations(text, seconds):
    assert read_duration(text) == seconds


@pytest.mark.parametrize(("text", "size"), [
    ("66788K", 66788 * 1024), ("1.5G", 1.5 * 2**30), ("45460kb", 45460 * 1024), ("1484b", 1484),
    ("96636764160b", 96636764160), ("4gb", 2**32), ("2T", 2**41), ("123", 123), ("0", None),
    ("", None), ("16?", None)])
def test_sizes(text, size):
    assert read_size(text) == size


# --- qstat


def test_a_finished_job_of_pbs():
    """26:40 CPU hours of 64; 48 GiB of 192; 8 GPUs for an hour; 30 minutes from submission to
    start, 20 of them before it was eligible."""
    usage, _ = parse_qstat(QSTAT)
    assert (usage.id, usage.name, usage.state, usage.exit) == (
        "4711.pbs", "hd-train-4gpu", "FINISHED", "0")
    assert (usage.waited, usage.held, usage.elapsed, usage.nodes) == (1800, 1200, 3600, 2)
    assert usage.cpu_efficiency == pytest.approx(96000 / (3600 * 64))
    assert usage.memory_efficiency == pytest.approx(48 / 192)
    assert usage.gpu_hours == 8
    assert not usage.notes and not usage.steps


def test_a_waiting_and_a_running_job_of_pbs():
    _, waiting = parse_qstat(QSTAT)
    assert waiting.name.endswith("-so-that-it-goes-on-here")
    assert (waiting.state, waiting.elapsed, waiting.cpu_efficiency) == ("QUEUED", None, None)
    assert "still waiting" in waiting.notes[0]
    running = parse_qstat(QSTAT.replace("job_state = F", "job_state = R"))[0]
    assert running.elapsed == 3600 and "so far" in running.notes[0]


def test_a_job_that_pbs_ran_again_has_a_note():
    """PBS keeps only the last run's figures, so the waiting time is unknown."""
    usage = parse_qstat(QSTAT.replace("run_count = 1", "run_count = 3"))[0]
    assert usage.waited is None and "3 times" in usage.notes[0]


def test_what_pbs_has_not_sampled_is_blank_and_the_runs_own_figures_are_shown(machine, tmp_path):
    text = QSTAT.replace("26:40:00", "00:00:00").replace("50331648kb", "0kb")
    machine("qstat", {"4711.pbs": text})
    run = make_run(tmp_path / "runs" / "first", ["4711.pbs"], summary_json=SUMMARY,
                   environment_json={"ranks": RANKS})
    report = account("4711.pbs")
    usage = report.jobs[0]
    assert (usage.cpu_efficiency, usage.memory_efficiency) == (None, None)
    assert report.measured[0]["folder"] == str(run.relative_to(tmp_path))
    text = table.text(report)
    assert "4711.pbs" in text and " 0.0%" not in text
    assert "measured by the run itself, runs/first:" in text


def test_the_record_of_a_whole_pbs_array_is_left_out():
    head = "Job Id: 9[].pbs\n    array = True\n    job_state = B\n\n"
    element = "Job Id: 9[1].pbs\n    job_state = X\n    resources_used.walltime = 00:00:09\n"
    assert [usage.id for usage in parse_qstat(head + element)] == ["9[1].pbs"]
    assert [usage.state for usage in parse_qstat(head)] == ["BEGUN"]


# --- which scheduler


def test_sacct_is_asked_for_every_run_of_the_job(machine):
    asked = machine("sacct", SACCT)
    assert len(account("12").jobs) == 3
    words = asked.read_text().split()
    assert words[:2] == ["-j", "12"] and "--duplicates" in words and words[-1] == "%s"
    assert f"--format={','.join(FIELDS)}" in words


def test_qstat_is_asked_where_sacct_has_no_record(machine):
    machine("sacct", {})
    asked = machine("qstat", {"4711": QSTAT, "4711.pbs": QSTAT, "9[].pbs": QSTAT})
    for name in ("4711", "4711.pbs", "9[].pbs"):
        assert account(name).jobs[0].source == "qstat -xf"
    assert asked.read_text().splitlines() == ["-x -f 4711 %s", "-x -f 4711.pbs %s",
                                              "-x -f -t 9[].pbs %s"]


def test_the_message_on_an_unknown_job_names_all_that_was_tried(machine, capsys, monkeypatch):
    machine("qstat", {})
    monkeypatch.setattr(sys, "argv", ["hpc-deepfake", "job", "report", "99"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("error: no record of job 99\n")
    assert "sacct: not in PATH; qstat: qstat: error: no such job, maintenance" in err
    assert "has jobs/99.env" in err


def test_a_scheduler_that_does_not_answer_is_not_waited_for(machine, monkeypatch, tmp_path):
    program = tmp_path / "bin" / "sacct"
    program.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(100)\n")
    program.chmod(0o755)
    monkeypatch.setattr(values, "PATIENCE", 0.2)
    began = time.monotonic()
    with pytest.raises(InputError, match=r"sacct: no answer within 0.2 s"):
        account("5")
    assert time.monotonic() - began < limit(20)


@pytest.mark.parametrize("subject", ["runs/none", "abc"])
def test_neither_a_run_nor_a_job(machine, subject):
    with pytest.raises(InputError, match=f"{subject} is neither a run directory nor a job id"):
        account(subject)


@pytest.mark.parametrize("subject", [".", "some.txt"])
def test_a_folder_or_file_without_records(machine, tmp_path, subject):
    (tmp_path / "some.txt").touch()
    with pytest.raises(InputError, match="holds no job records"):
        account(subject)


# --- runs


def test_a_run_has_a_report_for_each_of_its_jobs(machine, tmp_path, capsys):
    machine("sacct", SACCT)
    run = make_run(tmp_path / "run", ["15", "12", "11"], outcome="0\n")
    assert job.main(["report", str(run), "--json", "out.json"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if line[:1].isdigit()] == [
        "15", "12", "12", "12", "11"]
    assert "total of 5 runs" in out and "outcome of the last job: 0 (finished)" in out
    written = json.loads(Path("out.json").read_text())
    assert [usage["id"] for usage in written["jobs"]] == ["15", "12", "12", "12", "11"]
    assert written["jobs"][4]["gpu_hours"] == pytest.approx(68 / 3600)
    assert written["jobs"][4]["steps"][1]["memory_bytes"] == 66788 * 1024 * 4
    assert written["total"]["elapsed_s"] == 79 + 13 + 17


def test_jobs_of_a_comparison_lie_one_folder_deeper(machine, tmp_path):
    machine("sacct", SACCT)
    make_run(tmp_path / "study" / "nodes-001", ["11"])
    make_run(tmp_path / "study" / "nodes-002", ["15"])
    assert {usage.id for usage in account("study").jobs} == {"11", "15"}


@pytest.mark.parametrize("subject", ["casia2.h5", "casia2.h5.jobs"])
def test_the_jobs_and_the_figures_of_a_data_file(machine, tmp_path, subject):
    machine("sacct", SACCT)
    make_run(tmp_path / "other", ["11"])
    (tmp_path / "other" / "jobs").rename(tmp_path / "casia2.h5.jobs")
    (tmp_path / "casia2.h5").touch()
    made = {"ranks": 2, "images": 500, "host": "n01", "seconds": {
        "list": 1.0, "wall": 5.0, "by_rank": [{"read": 1.0, "write": 2.0},
                                              {"read": 3.0, "write": 2.0}]}}
    (tmp_path / "casia2.h5.json").write_text(json.dumps(made))
    report = account(subject)
    assert [usage.id for usage in report.jobs] == ["11"]
    assert report.measured[0]["images_per_s"] == 100
    assert report.measured[0]["seconds"] == {"read": 2.0, "write": 2.0}
    assert report.measured[0]["hosts"] == ["n01"]
    made["hosts"] = ["n01", "n02"]
    (tmp_path / "casia2.h5.json").write_text(json.dumps(made))
    assert account(subject).measured[0]["hosts"] == ["n01", "n02"]


def test_what_a_run_measured_itself(machine, tmp_path):
    """3 GPUs, of which two ranks share one; 4 threads for each of 4 ranks, over 360 s."""
    run = make_run(tmp_path / "run", [], summary_json=SUMMARY, environment_json={"ranks": RANKS})
    (run / "metrics.jsonl").write_text(METRICS)
    (figures,) = account("run").measured
    assert figures["cpu_efficiency"] == pytest.approx(2800 / (360 * 16))
    assert figures["memory_bytes"] == 4 * 2**30
    assert figures["gpu_hours"] == pytest.approx(3 * 360 / 3600)
    assert (figures["epochs"], figures["images_per_s"]) == (3, 110.0)
    assert figures["hosts"] == ["n01", "n02"]
    assert figures["seconds"] == {"input": 3.0, "compute": 180.0, "communication": 90.0,
                                  "evaluate": 24.0, "checkpoint": 3.0}
    text = table.text(account("run"))
    for words in ("wall clock 0:06:00", "CPU time 0:46:40 48.6% of 16 threads", "memory 4.0 GB",
                  "GPU hours 0.30", "images/s 110 median of 3 epochs", "compute 180.0 s 60.0%"):
        assert f" {words} " in " ".join(text.split())
    lines = text.splitlines()
    assert {line.split()[-1] for line in lines[1:]} == {
        "summary.json", "environment.json", "metrics.jsonl"}  # each figure with its source


def test_a_run_that_has_not_finished(machine, tmp_path):
    """Half a last line and no summary: the figures so far."""
    run = make_run(tmp_path / "run", [], environment_json={"ranks": RANKS})
    (run / "metrics.jsonl").write_text(METRICS)
    (figures,) = account("run").measured
    assert figures["wall_s"] is None and figures["epochs"] == 3
    assert "wall clock" not in table.text(account("run"))
    older = make_run(tmp_path / "older", [], summary_json={"seconds": 12.0, "ranks": 2})
    assert account(str(older)).measured[0]["wall_s"] == 12.0


def test_a_run_whose_jobs_no_scheduler_knows_has_its_own_figures(machine, tmp_path):
    make_run(tmp_path / "run", ["77", "78"], environment_json={"ranks": RANKS}, outcome="75\n")
    text = table.text(account("run"))
    assert text.startswith("jobs 77, 78: sacct: not in PATH; qstat: not in PATH\n")
    assert "measured by the run itself, run:" in text
    assert text.endswith("outcome of the last job: 75 (stopped, can be resumed)")
    (tmp_path / "run" / "jobs" / "outcome").write_text("3\n")
    assert table.text(account("run")).endswith("last job: 3 (the training diverged)")


@pytest.mark.parametrize("record", ["runs/first/jobs/77.env", "runs/first/jobs/77.server.env",
                                    "runs/study/nodes-001/jobs/77.env", "runs/77/x"])
def test_a_job_that_no_scheduler_knows_is_looked_for_in_runs(machine, tmp_path, record):
    path = tmp_path / record
    path.parent.mkdir(parents=True)
    path.touch()
    folder = path.parent.parent if path.parent.name == "jobs" else path.parent
    (folder / "environment.json").write_text(json.dumps({"ranks": RANKS}))
    report = account("77")
    assert report.measured[0]["folder"] == str(folder.relative_to(tmp_path))
    assert report.unknown["77"].startswith("sacct: not in PATH")


def test_the_table_fits_100_columns(machine, tmp_path):
    machine("sacct", SACCT)
    machine("qstat", {"4711.pbs": QSTAT})
    run = make_run(tmp_path / "run", [*SACCT, "4711.pbs"], summary_json=SUMMARY,
                   environment_json={"ranks": RANKS})
    (run / "metrics.jsonl").write_text(METRICS)
    text = table.text(account("run"))
    assert "from sacct and qstat -xf:" in text
    lines = text.splitlines()
    assert len(lines) > 8
    assert not [line for line in lines if len(line) > 100]


def test_a_report_that_cannot_be_written(machine, tmp_path):
    machine("sacct", SACCT)
    with pytest.raises(InputError, match=r"write --json none/out.json: there is no folder none"):
        job.main(["report", "11", "--json", "none/out.json"])
