"""Jobs in SLURM's queue, by ``squeue``, and ended ones, by ``sacct``: one call each."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence

from hpc_deepfake.core.text import whole_number
from hpc_deepfake.jobs.accounting.slurm import ask_sacct
from hpc_deepfake.jobs.accounting.usage import Usage
from hpc_deepfake.jobs.accounting.values import answer, read_duration, read_time
from hpc_deepfake.jobs.queue import reasons
from hpc_deepfake.jobs.queue.state import (
    CANCELLED,
    ENDING,
    FAILED,
    FINISHED,
    HELD,
    MEMORY,
    NODE,
    PENDING,
    PREEMPTED,
    RUNNING,
    STARTING,
    STOPPED_CODE,
    SUSPENDED,
    TIMEOUT,
    UNKNOWN,
    WAITING,
    Job,
    ended,
)

COMMAND = "squeue"
_STATES = {
    "PENDING": WAITING, "REQUEUED": WAITING, "REQUEUE_FED": WAITING, "REQUEUE_HOLD": HELD,
    "RESV_DEL_HOLD": HELD, "SPECIAL_EXIT": HELD, "CONFIGURING": STARTING, "POWER_UP_NODE": STARTING,
    "RUNNING": RUNNING, "RESIZING": RUNNING, "SIGNALING": RUNNING, "SUSPENDED": SUSPENDED,
    "STOPPED": SUSPENDED, "COMPLETING": ENDING, "STAGE_OUT": ENDING, "COMPLETED": FINISHED,
    "CANCELLED": CANCELLED, "REVOKED": CANCELLED, "FAILED": FAILED, "LAUNCH_FAILED": FAILED,
    "TIMEOUT": TIMEOUT, "DEADLINE": TIMEOUT, "OUT_OF_MEMORY": MEMORY, "NODE_FAIL": NODE,
    "BOOT_FAIL": NODE, "PREEMPTED": PREEMPTED}
# Fields of squeue. Unlike their texts, these separators occur in no name: a job's name and its
# folder may contain anything else.
_FIELDS = {"id": "i", "state": "T", "owner": "u", "reason": "r", "start": "S", "submitted": "V",
           "elapsed": "M", "limit": "l", "nodes": "D", "partition": "P", "after": "E", "name": "j",
           "directory": "Z"}
_FIELD, _RECORD = "\x1f", "\x1e"
FORMAT = _FIELD.join(f"%{letter}" for letter in _FIELDS.values()) + _RECORD


def own_jobs(patience: float) -> tuple[list[Job], str]:
    """This user's jobs, also those that ended minutes ago; and what went wrong, if anything."""
    jobs, problem = _squeue(f"--user={os.getuid()}", patience)
    for job in jobs:
        job.own = True
    return jobs, problem


def others(ids: Iterable[str], patience: float) -> list[Job]:
    """Jobs of any user in the queue."""
    return _squeue(f"--jobs={','.join(ids)}", patience)[0]


def log_file(job: str, patience: float) -> str:
    """Where the output of a job in the queue goes; empty if SLURM doesn't say."""
    text, _ = answer("scontrol", "show", "job", job, patience=patience)
    match = re.search(r"^ *StdOut=(.*)$", text, re.MULTILINE)
    return match[1] if match else ""


def cancel(ids: Sequence[str]) -> str:
    """Cancel jobs; returns what went wrong, if anything."""
    names = [re.sub(r"%\d+", "", job) for job in ids]  # 14_[3-9%2]: two at once
    return _trouble(answer("scancel", *names)[1])


def _trouble(problem: str) -> str:
    """A problem of scancel; none if a job has ended meanwhile."""
    return "" if re.search(r"already comple|Invalid job id", problem) else problem


def history(ids: Iterable[str], patience: float) -> tuple[list[Job], str]:
    """Jobs in the accounting, each by its last run; and what went wrong, if anything."""
    usages, problem = ask_sacct(*ids, patience=patience)
    jobs: dict[str, Job] = {}
    for usage in usages:
        before = jobs.get(usage.id)
        jobs[usage.id] = _from_accounting(usage)
        jobs[usage.id].runs += before.runs if before else 0
    return list(jobs.values()), "" if usages else problem


def _squeue(whose: str, patience: float) -> tuple[list[Job], str]:
    text, problem = answer("squeue", "--noheader", "--states=all", whose, f"--format={FORMAT}",
                           patience=patience)
    return parse_squeue(text), f"squeue: {problem.removeprefix('squeue: ')}" if problem else ""


def parse_squeue(text: str) -> list[Job]:
    """Jobs in the output of ``squeue`` with ``FORMAT``."""
    jobs = []
    for record in text.split(_RECORD):
        values = record.lstrip("\n").split(_FIELD)
        if len(values) == len(_FIELDS) and values[0][:1].isdigit():
            jobs.append(_from_queue(dict(zip(_FIELDS, values))))
    return jobs


def _from_queue(row: dict[str, str]) -> Job:
    raw = row["state"]
    job = Job(row["id"], "slurm", row["name"], state=_STATES.get(raw, UNKNOWN), raw_state=raw,
              owner=row["owner"], submitted=read_time(row["submitted"]),
              start=read_time(row["start"]), elapsed=read_duration(row["elapsed"]),
              limit=read_duration(row["limit"]), nodes=whole_number(row["nodes"]),
              partition=row["partition"], directory=row["directory"],
              after=reasons.awaited(row["after"]))
    if job.state in PENDING:
        if row["reason"].startswith(("JobHeld", "job requeued in held", "launch failed")):
            job.state = HELD
        job.reason = reasons.slurm(row["reason"], row["after"])
        job.elapsed = None
    elif not job.active:
        job.reason = _ENDED.get(job.state, "")
        job.elapsed = job.elapsed or None  # never started
    return job


_ENDED = {TIMEOUT: "ended by SLURM at its time limit", MEMORY: "killed: memory ran out; ask for "
          "more with --mem", NODE: "a node failed", PREEMPTED: "ended for a job of higher priority"}


def _from_accounting(usage: Usage) -> Job:
    """A job by ``sacct``, whose exit code is that of the script: the program's."""
    job = Job(usage.id, "slurm", usage.name, state=_STATES.get(usage.state, UNKNOWN),
              raw_state=usage.state, elapsed=usage.elapsed, nodes=usage.nodes,
              runs=int(usage.elapsed is not None and usage.state != "PENDING"))
    job.code = whole_number(usage.exit.partition(":")[0])
    job.reason = _ENDED.get(job.state, "")
    if job.state == FAILED and job.code:
        job.state, job.reason = ended(job.code)
    elif job.state == CANCELLED and job.code == STOPPED_CODE:
        job.reason = "stopped with everything saved"
    return job
