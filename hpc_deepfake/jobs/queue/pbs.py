"""Jobs of PBS by ``qstat -f``, with ``-x`` also ended ones where the server keeps them."""

from __future__ import annotations

import getpass
import os
import pwd
import re
from collections.abc import Iterable, Sequence

from hpc_deepfake.core.text import printable, whole_number
from hpc_deepfake.jobs.accounting.pbs import records
from hpc_deepfake.jobs.accounting.values import answer, read_duration, read_time
from hpc_deepfake.jobs.queue import reasons
from hpc_deepfake.jobs.queue.state import (
    CANCELLED,
    ENDING,
    FAILED,
    FINISHED,
    HELD,
    RUNNING,
    STARTING,
    STOPPED_CODE,
    SUSPENDED,
    TIMEOUT,
    UNKNOWN,
    WAITING,
    Job,
    ended,
    is_id,
)

COMMAND = "qstat"
_STATES = {"Q": WAITING, "W": WAITING, "T": WAITING, "M": WAITING, "H": HELD, "R": RUNNING,
           "B": RUNNING, "S": SUSPENDED, "U": SUSPENDED, "E": ENDING, "F": FINISHED, "X": FINISHED}
_DELETED = "91"  # substate of a job that was deleted, by a user or by its dependency
_LIMIT = -29  # exit status of a job that PBS ended at its time limit (JOB_EXEC_KILL_WALLTIME)


def own_jobs(patience: float) -> tuple[list[Job], str]:
    """This user's jobs that have not ended; and what went wrong, if anything."""
    text, problem = answer("qselect", "-u", user(), patience=patience)
    ids = [job for job in text.split() if is_id(job)]
    if problem or not ids:
        return [], f"qselect: {problem.removeprefix('qselect: ')}" if problem else ""
    return _qstat(["-f"], ids, patience)


def ask(ids: Iterable[str], patience: float) -> tuple[list[Job], str]:
    """These jobs, of any user and also ended ones as far as the server keeps them; and what went
    wrong, if anything."""
    names = list(ids)
    jobs, problem = _qstat(["-x", "-f"], names, patience)
    if not jobs and "history" in problem:
        jobs, problem = _qstat(["-f"], names, patience)
    return jobs, problem


def log_file(job: str, patience: float) -> str:
    """Where the output of a job goes; empty if PBS doesn't say."""
    for _, attributes in records(answer("qstat", "-f", job, patience=patience)[0]):
        return attributes.get("Output_Path", "").partition(":")[2]
    return ""


def cancel(ids: Sequence[str]) -> str:
    """Delete jobs; returns what went wrong, if anything."""
    problem = answer("qdel", *ids)[1]
    return "" if re.search(r"has finished|Unknown Job", problem) else problem


def user() -> str:
    """Name of the user; ``qselect`` takes no number."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # not in this node's list of users
        return getpass.getuser()


def _qstat(options: list[str], ids: list[str], patience: float) -> tuple[list[Job], str]:
    # -t: the elements of arrays too
    text, problem = answer("qstat", *options, *(["-t"] if any("[" in job for job in ids) else []),
                           *ids, patience=patience)
    return parse_qstat(text), f"qstat: {problem.removeprefix('qstat: ')}" if problem else ""


def parse_qstat(text: str) -> list[Job]:
    """Jobs in the output of ``qstat -f``; of an array, its elements if they are listed."""
    listed = records(text)
    arrays = {job.partition("[")[0] for job, attributes in listed
              if "[" in job and attributes.get("array") != "True"}
    return [_job(job, attributes) for job, attributes in listed
            if attributes.get("array") != "True" or job.partition("[")[0] not in arrays]


def _job(name: str, attributes: dict[str, str]) -> Job:
    def get(key: str) -> str:
        return attributes.get(key, "")

    raw, code = get("job_state"), get("Exit_status")
    job = Job(name, "pbs", get("Job_Name"), state=_STATES.get(raw, UNKNOWN), raw_state=raw,
              owner=get("Job_Owner").partition("@")[0],
              submitted=read_time(get("ctime") or get("qtime")),
              start=read_time(get("estimated.start_time" if raw in ("Q", "H", "W") else "stime")),
              elapsed=read_duration(get("resources_used.walltime")),
              limit=read_duration(get("Resource_List.walltime")),
              nodes=whole_number(get("Resource_List.nodect")), partition=get("queue"),
              after=reasons.awaited(get("depend")), runs=whole_number(get("run_count")) or 0)
    job.own = job.owner == user()
    for variable in get("Variable_List").split(","):
        if variable.startswith("PBS_O_WORKDIR="):
            job.directory = variable.partition("=")[2]
    if raw == "R" and get("substate") in ("41", "71"):
        job.state = STARTING
    if job.state in (WAITING, HELD):
        waits_for_job = bool(job.after) and job.state == HELD
        job.state = WAITING if waits_for_job else job.state
        job.reason = reasons.pbs(get("comment"), get("depend") if waits_for_job else "")
        if job.state == HELD and not job.reason:
            job.reason = "held; qrls lets it go"
        job.elapsed = None
    elif job.state == FINISHED:
        _end(job, code, get("substate"))
        if job.state == CANCELLED and "dependency" in get("comment"):
            job.reason = printable(get("comment"))
    return job


def _end(job: Job, code: str, substate: str) -> None:
    """How a job ended. 256 and more: it was killed by this signal + 256; negative: by PBS."""
    number = whole_number(code.removeprefix("-"))
    number = -number if number is not None and code.startswith("-") else number
    if number is None:
        job.state, job.reason = CANCELLED, "deleted before it started"
        if substate != _DELETED:
            job.state, job.reason = FINISHED, ""
    elif number == _LIMIT:
        job.state, job.reason = TIMEOUT, "ended by PBS at its time limit"
    elif number < 0:
        job.state, job.reason = FAILED, f"PBS could not run it to its end (exit status {number})"
    elif number >= 256 or (substate == _DELETED and number != STOPPED_CODE):
        job.state = CANCELLED
        job.reason = f"ended by signal {number % 256}" if number >= 256 else ""
    else:
        job.code = number
        job.state, job.reason = ended(number)
        if substate == _DELETED:
            job.state, job.reason = CANCELLED, "stopped with everything saved"
