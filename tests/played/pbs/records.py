"""The jobs of the played server: one JSON file, changed under a lock."""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SERVER = "server"  # what job ids end with
DEFAULTS: dict[str, Any] = {
    "hosts": [os.uname().nodename, "n02"],  # in the order in which chunks are placed
    "queues": {"workq": {}},  # name: {"route": destination} or {"from_route_only": true}
    "default_queue": "workq",
    "resources": [],  # further ones than PBS's own, such as ngpus
    "history": True,  # whether finished jobs are shown with -x
    "start": True,  # whether jobs start at all
    "submit_from_jobs": True,  # whether jobs may call qsub and qstat
    "refuse": [],  # beginnings of names of jobs that qsub refuses
    "kill_delay": 10,  # seconds between TERM and KILL
    "sampled": {},  # resources_used that were sampled, such as {"cput": "00:01:00"}
}
Job = dict[str, Any]  # attributes as in qstat -f, and the server's own, which begin with _


class Refused(Exception):
    """A command's message and exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code & 255 or 1


class Server:
    """All that is known of all jobs, in the folder ``$PLAYED_PBS``."""

    def __init__(self) -> None:
        self.folder = Path(os.environ["PLAYED_PBS"])
        own = self.folder / "config.json"
        self.config = DEFAULTS | (json.loads(own.read_text()) if own.exists() else {})
        self.jobs: dict[str, Job] = {}

    @contextmanager
    def changed(self) -> Iterator[None]:
        """Within it, jobs may be changed; after it, those that can start have been started."""
        with open(self.folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.read()
            yield
            self._schedule()
            whole = self.folder / "jobs.json.new"
            whole.write_text(json.dumps(self.jobs, indent=1))
            whole.replace(self.folder / "jobs.json")

    def read(self) -> None:
        file = self.folder / "jobs.json"
        self.jobs = json.loads(file.read_text()) if file.exists() else {}

    def new_number(self) -> int:
        return 1 + max((int(name.split(".")[0].split("[")[0]) for name in self.jobs), default=0)

    def may_ask(self) -> None:
        """Refuse a command within a job where compute nodes may not call it."""
        if "PBS_JOBID" in os.environ and not self.config["submit_from_jobs"]:
            raise Refused("cannot connect to server server (errno=15010)", 15010)

    def find(self, name: str) -> tuple[str, Job]:
        """A job by its id, with or without the server's name."""
        full = name if "." in name else f"{name}.{SERVER}"
        job = self.jobs.get(full)
        if job is None or (finished(job) and not self.config["history"]):
            raise Refused(f"Unknown Job Id {full}", 15001)
        return full, job

    def elements(self, name: str) -> dict[str, Job]:
        """The elements of an array."""
        return {other: job for other, job in self.jobs.items() if job.get("_array") == name}

    def end(self, name: str, substate: int, **attributes: Any) -> None:
        """A job is over: it becomes history."""
        job = self.jobs[name]
        job |= {"job_state": "X" if "_array" in job else "F", "substate": str(substate),
                "obittime": time.time(), "_over": True, **attributes}

    # --- what may start -------------------------------------------------------------------

    def _schedule(self) -> None:
        while any([self._consider(name, job) for name, job in list(self.jobs.items())]):
            pass

    def _consider(self, name: str, job: Job) -> bool:
        """Whether something was done with a job."""
        if job.get("array") == "True":
            return self._consider_array(name, job)
        if job["job_state"] not in "QH" or "u" in job["Hold_Types"]:
            return False
        owner = self.jobs[job["_array"]] if "_array" in job else job
        for how, other in owner["_after"]:
            parent = self.jobs.get(other)
            if parent is None:  # PBS accepts it, and then deletes the job
                self._aborted(name, f"Dependency request for job rejected by {other}")
                return True
            if not finished(parent):
                return False
            good = parent.get("Exit_status") == "0" and parent["substate"] != "91"
            if (how, good) in (("afterok", False), ("afternotok", True)):
                self._aborted(name, f"Job deleted as result of dependency on job {other}")
                return True
        if owner["job_state"] == "H":
            owner |= {"job_state": "Q", "Hold_Types": "n", "etime": time.time()}
        never = self._never(job)
        if never or not self.config["start"]:
            job["comment"] = never or "Not Running: Insufficient amount of resource: ncpus"
            return False
        job |= {"job_state": "R", "substate": "42", "Hold_Types": "n", "stime": time.time(),
                "exec_host": job["_hosts"], "exec_vnode": job["_vnodes"],
                "run_count": str(int(job.get("run_count", 0)) + 1),
                "comment": f"Job run at {time.strftime('%a %b %d at %H:%M')} on "
                           f"{job['_vnodes']}"}
        self._start(name)
        return True

    def _consider_array(self, name: str, job: Job) -> bool:
        elements = self.elements(name).values()
        if finished(job):
            return False
        if all(map(finished, elements)):
            codes = [element.get("Exit_status", "1") for element in elements]
            self.end(name, 92 if set(codes) == {"0"} else 93, **{
                "Exit_status": "0" if set(codes) == {"0"} else "1"})
            return True
        if job["job_state"] != "B" and any(item["job_state"] not in "QH" for item in elements):
            job |= {"job_state": "B", "substate": "70", "stime": time.time()}
            return True
        return False

    def _never(self, job: Job) -> str:
        scattered = "scatter" in job.get("Resource_List.place", "")
        if scattered and int(job["Resource_List.nodect"]) > len(self.config["hosts"]):
            return "Can Never Run: Not enough total nodes available"
        return ""

    def _aborted(self, name: str, why: str) -> None:
        self.end(name, 91, comment=why)

    def _start(self, name: str) -> None:
        """By the server itself, which is no child of any job: a successor outlives what
        submitted it."""
        (self.folder / "start" / name).touch()


def finished(job: Job) -> bool:
    return bool(job.get("_over"))


def chunks(select: str) -> list[dict[str, str]]:
    """A dictionary of resources for each chunk of ``2:ncpus=4:mpiprocs=2+1:ncpus=1``."""
    found = []
    for part in select.split("+"):
        words = part.split(":")
        count = int(words.pop(0)) if re.fullmatch(r"\d+", words[0]) else 1
        found += [dict(word.split("=", 1) for word in words)] * count
    return found


def seconds(text: str) -> int:
    """Of [[HH:]MM:]SS."""
    total = 0
    for part in text.split(":"):
        total = total * 60 + int(part)
    return total
