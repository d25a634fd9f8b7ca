"""Jobs in the records of PBS, read by ``qstat -xf``."""

from __future__ import annotations

import re
import signal

from hpc_deepfake.core.text import whole_number
from hpc_deepfake.jobs.accounting.usage import Usage
from hpc_deepfake.jobs.accounting.values import (
    answer,
    read_duration,
    read_size,
    read_time,
)

_STATES = {"B": "BEGUN", "E": "EXITING", "F": "FINISHED", "H": "HELD", "M": "MOVED",
           "Q": "QUEUED", "R": "RUNNING", "S": "SUSPENDED", "T": "MOVING", "U": "SUSPENDED",
           "W": "WAITING", "X": "FINISHED"}
_DELETED, _FAILED = "91", "93"  # substates of finished jobs
_SAMPLING = 120  # seconds between two samples of what a job uses, or so
# Exit statuses of jobs that PBS itself has ended for what they used.
_EXCEEDED = {"-24": "CPUs at once", "-25": "CPUs on average", "-26": "virtual memory",
             "-27": "memory", "-28": "CPU time", "-29": "walltime"}


def ask_qstat(job: str) -> tuple[list[Usage], str]:
    """A job of PBS, an element of an array, or all elements; and, if there is none, why."""
    number, _, server = job.partition(".")
    problems = []
    # 12 may be the array 12[], which also knows its elements longer than they know themselves.
    array = re.sub(r"(\[.*\])?$", "[]", number, count=1) + (server and f".{server}")
    for name in dict.fromkeys((job, array)):
        text, problem = answer("qstat", "-x", "-f", *(["-t"] if "[]" in name else []), name)
        usages = [usage for usage in parse_qstat(text)
                  if not re.search(r"\[\d", number) or usage.id.partition(".")[0] == number]
        if usages:
            return usages, ""
        problems.append(problem)
    return [], f"qstat: {problems[0] or 'no such job'}"


def records(text: str) -> list[tuple[str, dict[str, str]]]:
    """Ids and attributes of the jobs in the output of ``qstat -f``."""
    jobs = []
    for record in re.split(r"^Job Id: ", text, flags=re.MULTILINE)[1:]:
        first, _, rest = record.replace("\n\t", "").partition("\n")  # long lines are folded
        attributes = dict(re.findall(r"^ +([\w.]+) = (.*)$", rest, re.MULTILINE))
        jobs.append((first.strip(), attributes))
    return jobs


def parse_qstat(text: str) -> list[Usage]:
    """Jobs in the output of ``qstat -f``. The record of an array as a whole is left out if its jobs
    have their own."""
    jobs = records(text)
    single = [job for job in jobs if job[1].get("array") != "True"]
    return [_usage(*job) for job in single or jobs]


def _usage(job: str, attributes: dict[str, str]) -> Usage:
    def used(key: str) -> str:
        return attributes.get(f"resources_used.{key}", "")

    def requested(key: str) -> str:
        return attributes.get(f"Resource_List.{key}", "")

    state, status = attributes.get("job_state", ""), attributes.get("Exit_status", "")
    # A job without samples has figures of 0.
    usage = Usage(job, attributes.get("Job_Name", ""), _state(attributes), "qstat -xf",
                  status, elapsed=read_duration(used("walltime")),
                  cpu=read_duration(used("cput")) or None, cpus=whole_number(requested("ncpus")),
                  gpus=whole_number(requested("ngpus")) or 0,
                  nodes=whole_number(requested("nodect")),
                  memory=read_size(used("mem")), memory_asked=read_size(requested("mem")))
    runs = whole_number(attributes.get("run_count", "")) or 1
    if runs > 1:
        usage.notes.append(f"PBS ran it {runs} times; these are the figures of the last run")
    else:
        submitted = attributes.get("ctime") or attributes.get("qtime", "")
        times = (submitted, attributes.get("etime", ""), attributes.get("stime", ""))
        usage.wait(*map(read_time, times), still=state in ("Q", "H", "W"))
    if state in ("R", "E", "S", "U"):
        usage.notes.append("still running: these are the figures so far")
    elif usage.elapsed is not None and usage.elapsed < 2 * _SAMPLING:
        usage.notes.append("PBS samples CPU time and memory only every two minutes or so")
    if why := _ended(status):
        usage.notes.append(f"exit status {status}: {why}")
    return usage


def _state(attributes: dict[str, str]) -> str:
    """The state in words; of a finished job, also whether it was deleted or failed."""
    state, substate = attributes.get("job_state", ""), attributes.get("substate", "")
    if state in ("F", "X"):
        if substate == _DELETED or (substate and "stime" not in attributes):
            return "DELETED"  # by qdel or, before it could start, as its dependency can't be met
        if substate == _FAILED:
            return "FAILED"
    return _STATES.get(state, state)


def _ended(status: str) -> str:
    """What an exit status of PBS means that is no program's."""
    if status in _EXCEEDED:
        return f"PBS ended it for its {_EXCEEDED[status]}"
    number = whole_number(status) or 0
    if 256 < number < 256 + signal.NSIG:
        name = signal.Signals(number - 256).name if number - 256 in set(signal.Signals) else ""
        reason = ", as sent by qdel and at the walltime" if name == "SIGTERM" else ""
        return f"ended by signal {number - 256} ({name or 'unknown'}{reason})"
    return ""
