"""Jobs in the records of PBS, read by ``qstat -xf``."""

from __future__ import annotations

import re

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


def ask_qstat(job: str) -> tuple[list[Usage], str]:
    """A job of PBS, or the jobs of an array; and, if there is none, why."""
    text, problem = answer("qstat", "-x", "-f", *(["-t"] if "[]" in job else []), job)
    return parse_qstat(text), f"qstat: {problem or 'no such job'}"


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

    state = attributes.get("job_state", "")
    usage = Usage(job, attributes.get("Job_Name", ""), _STATES.get(state, state), "qstat -xf",
                  attributes.get("Exit_status", ""), elapsed=read_duration(used("walltime")),
                  cpu=read_duration(used("cput")), cpus=whole_number(requested("ncpus")),
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
    return usage
