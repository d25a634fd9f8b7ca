"""Queues of schedulers, and what jobs leave in their folders of records."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from mutations import Choices, damaged_bytes, damaged_text
from targets import Target
from text_targets import QSTAT

from hpc_deepfake.core.files import write_json
from hpc_deepfake.jobs.queue import logs, progress, reasons, records, table
from hpc_deepfake.jobs.queue.lookup import Selection
from hpc_deepfake.jobs.queue.pbs import parse_qstat
from hpc_deepfake.jobs.queue.slurm import parse_squeue
from hpc_deepfake.jobs.queue.state import Job

SQUEUE = "".join("\x1f".join(fields) + "\x1e\n" for fields in (
    ("12", "RUNNING", "me", "None", "1795645819", "1795645818", "1-02:03:04", "2-00:00:00", "2",
     "gpu", "(null)", "hd-train-cpu", "/work/a b"),
    ("14_[2-9%2]", "PENDING", "me", "Dependency", "N/A", "1795645818", "0:00", "UNLIMITED", "1-4",
     "cpu", "afterok:12(unfulfilled),afterany:13_*(failed)", "a|b", "/work"),
    ("15", "PENDING", "me", "ReqNodeNotAvail, UnavailableNodes:n[01-04]", "1795649999",
     "1795645818", "INVALID", "NOT_SET", "", "cpu", "(null)", "", "")))
WAITING = QSTAT + """\
Job Id: 12.pbs
    Job_Name = hd-evaluate
    Job_Owner = me@login
    job_state = H
    depend = afterany:11.pbs@pbs:10[].pbs@pbs
    comment = Not Running: Insufficient amount of resource: ncpus (R: 64 A: 3 T: 128)
    estimated.start_time = Wed Nov 25 08:30:00 2026
    Exit_status = -29
    substate = 91
    Variable_List = PBS_O_HOME=/home/me,PBS_O_WORKDIR=/work
"""
REASONS = ["Priority", "AssocGrpCPUMinutesLimit", "QOSMaxGRESPerUser", "Dependency", "afterok:12",
           "ReqNodeNotAvail, UnavailableNodes:n[01-04]", "Not Running: Queue not started.",
           "Can Never Run: Insufficient amount of resource: ngpus (R: 8 A: 4 T: 4)"]
RECORDS = {
    "submitted.jsonl": b'{"id": "12", "kind": "train", "after": "afterok:11", "time": 1795645818'
                       b', "script": "a.sh", "records": "/x"}\n{"id": "14[].pbs", "log": "l"}\n',
    "12.env": b"", "12.sh": b"#SBATCH --job-name=x\n\ntrain\n", "12.outcome": b"75\n",
    "12.error": b"error on rank 1\n", "next": b"13.pbs\n", "one.id": b"15\n", "cancelled": b"12\n",
    "12.log": b"job 12: 1 node(s), run 2; x\n5 of 10 images (50%)\n",
    "../metrics.jsonl": b'{"epoch": 3}\n', "../config.json": b'{"epochs": 30}'}


def read_queue(parse: Callable[[str], list[Job]]) -> Callable[[str, Path], None]:
    """A reader of a scheduler's answer, and what is shown of it."""
    def read(text: str, folder: Path) -> None:
        show(parse(text.encode("utf-8", "replace").decode()), folder)

    return read


def show(jobs: list[Job], folder: Path) -> None:
    for columns in (None, 80):
        text = table.text(Selection(jobs), columns) if jobs else ""
        assert "\x1b" not in text and "\r" not in text
    write_json(folder / "status.json", {"jobs": [job.as_dict() for job in jobs]})
    json.loads((folder / "status.json").read_text())


def read_reasons(text: str, folder: Path) -> None:
    text = text.encode("utf-8", "replace").decode()
    for words in (reasons.slurm(text, text), reasons.pbs(text), reasons.pbs("", text)):
        assert words.isprintable()


def damaged_records(choose: Choices) -> dict[str, bytes]:
    """The files of a folder of records, of which one is damaged and one may be missing."""
    files = dict(RECORDS)
    name = choose.one_of(sorted(files))
    files[name] = damaged_bytes(choose, [files[name]], [b"\x1b[2J", b'"', b"{", b"\n", b"9" * 400])
    if choose.integer(0, 1):
        del files[choose.one_of(sorted(files))]
    return files


def read_records(files: dict[str, bytes], folder: Path) -> None:
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    (run / "jobs").mkdir(parents=True)
    for name, content in files.items():
        (run / "jobs" / name).write_bytes(content)
    jobs = records.jobs(records.folders(run))
    for job in jobs:
        progress.add(job)
        records.cancelled(run / "jobs")
    show(jobs, folder)
    for line in logs.Tail(run / "jobs" / "12.log", 1).lines(last=True):
        assert line.isprintable()


TOKENS: Sequence[str] = ["\x1f", "\x1e", "\n", "\x1b[2J", "9" * 30, "after", ":", "(", "\r"]
TARGETS = [
    Target("squeue", partial(damaged_text, seeds=[SQUEUE], tokens=TOKENS),
           read_queue(parse_squeue), ()),
    Target("qstat of waiting jobs", partial(damaged_text, seeds=[WAITING], tokens=[
        *TOKENS, "Job Id: ", " = ", "\n\t", "    job_state = F\n"]), read_queue(parse_qstat), ()),
    Target("reasons for waiting", partial(damaged_text, seeds=REASONS, tokens=TOKENS),
           read_reasons, ()),
    Target("records of jobs", damaged_records, read_records, (), share=0.3),
]
