"""A job as ``hpc-deepfake job status`` shows it, whichever scheduler or record it is known from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# states of a job that has not ended
WAITING, HELD, STARTING, RUNNING, SUSPENDED, ENDING = (
    "waiting", "held", "starting", "running", "suspended", "ending")
# how a job ended; STOPPED: everything is saved, and it can be resumed
FINISHED, STOPPED, CANCELLED, FAILED, TIMEOUT, MEMORY, NODE, PREEMPTED = (
    "finished", "stopped", "cancelled", "failed", "time limit", "out of memory", "node failed",
    "preempted")
UNKNOWN = "unknown"

PENDING = (WAITING, HELD)
ACTIVE = (*PENDING, STARTING, RUNNING, SUSPENDED, ENDING)
BAD = (FAILED, TIMEOUT, MEMORY, NODE)  # the work needs somebody
STOPPED_CODE = 75  # exit code of a program that was stopped with everything saved


@dataclass
class Job:
    """What is known of a job; empty or None where nothing is.

    Attributes:
        id: as the scheduler spells it.
        scheduler: ``slurm``, ``pbs``, or empty.
        name: of the job.
        work: the function of jobs/lib/work.sh that does its work, such as ``train``.
        state: one of the constants above.
        raw_state: as the scheduler spells it.
        reason: why it waits, or how it ended, in words.
        owner: user name, where the scheduler says it.
        own: whether the scheduler says that it belongs to this user.
        submitted: seconds since the epoch.
        start: seconds since the epoch; of a waiting job when it is expected to start.
        elapsed: seconds.
        limit: time limit in seconds.
        nodes: number of nodes.
        partition: partition or queue.
        directory: folder in which it was submitted.
        after: ids of the jobs that it waits for, or waited for.
        resumes: id of the job whose work it resumes.
        runs: how often it was started, at least.
        code: exit code of its program.
        records: folder of its records, ``RUN/jobs`` or ``DATA.jobs``.
        script: the script as it was submitted, to submit it again.
        log: file of its output.
        line: last line of the log.
        error: last error.
        progress: of its work, such as ``epoch 7 of 30``.
    """

    id: str
    scheduler: str = ""
    name: str = ""
    work: str = ""
    state: str = UNKNOWN
    raw_state: str = ""
    reason: str = ""
    owner: str = ""
    own: bool = False
    submitted: float | None = None
    start: float | None = None
    elapsed: float | None = None
    limit: float | None = None
    nodes: int | None = None
    partition: str = ""
    directory: str = ""
    after: list[str] = field(default_factory=list)
    resumes: str = ""
    runs: int = 0
    code: int | None = None
    records: Path | None = None
    script: Path | None = None
    log: Path | None = None
    line: str = ""
    error: str = ""
    progress: str = ""

    @property
    def key(self) -> str:
        """The id without what differs between spellings."""
        return key(self.id)

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return self.state in ACTIVE

    @property
    def run(self) -> Path | None:
        """The run directory or data file whose records the job has."""
        return owner_of(self.records) if self.records else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with units in the names."""
        def path(value: Path | None) -> str | None:
            return str(value) if value else None

        return {"id": self.id, "scheduler": self.scheduler or None, "name": self.name,
                "work": self.work, "state": self.state, "scheduler_state": self.raw_state or None,
                "reason": self.reason, "submitted": self.submitted, "start": self.start,
                "elapsed_s": self.elapsed, "limit_s": self.limit, "nodes": self.nodes,
                "partition": self.partition or None, "after": self.after,
                "resumes": self.resumes or None, "runs": self.runs or None, "exit": self.code,
                "run": path(self.run), "log": path(self.log), "last_line": self.line,
                "last_error": self.error, "progress": self.progress}


def is_id(text: str) -> bool:
    """Whether a text has the form of a job's id."""
    return re.fullmatch(r"\d[\w.+-]*(\[\d*\][\w.-]*)?", text, re.ASCII) is not None


def key(job: str) -> str:
    """A job's id without the PBS server's name, and in lower case: ``12`` of ``12.pbs.site``."""
    return job.partition(".")[0].lower()


def within(job: str, array: str) -> bool:
    """Whether the key ``job`` is that of ``array`` or of a part of it: ``14_2``, ``14_[3-9]`` or
    ``14+1`` of ``14``, ``14[2]`` of ``14[]``."""
    return job == array or job.startswith((f"{array}_", f"{array}+")) or (
        array.endswith("[]") and job.startswith(array[:-1]))


def scheduler_of(job: str) -> str:
    """The scheduler that gives such ids: PBS adds its server's name. Empty if both might."""
    if re.fullmatch(r"\d+(\[\d*\])?\.[\w.-]+", job) or "[]" in job:
        return "pbs"
    return "slurm" if re.fullmatch(r"\d+_\S+|\d+\+\d+", job) else ""


def owner_of(records: Path) -> Path:
    """The run directory or data file that a folder of records belongs to."""
    return records.parent if records.name == "jobs" else records.with_suffix("")


def ended(code: int) -> tuple[str, str]:
    """State and reason of a job whose program ended with this exit code."""
    if code == 0:
        return FINISHED, ""
    if code == STOPPED_CODE:
        return STOPPED, "stopped with everything saved; can be resumed"
    reasons = {2: "options or input rejected", 3: "the training diverged",
               137: "a rank was killed, often because memory ran out"}
    return FAILED, f"exit code {code}" + (f": {reasons[code]}" if code in reasons else "")
