"""From a run, a study, a pipeline, a job id or nothing to jobs: what the records and the schedulers
know, put together."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import printable
from hpc_deepfake.jobs.accounting.values import ask_anew
from hpc_deepfake.jobs.queue import pbs, records, slurm
from hpc_deepfake.jobs.queue.state import (
    BAD,
    CANCELLED,
    FAILED,
    PENDING,
    STOPPED,
    STOPPED_CODE,
    TIMEOUT,
    UNKNOWN,
    Job,
    ended,
    key,
    scheduler_of,
    within,
)

PATIENCE = 20.0  # seconds for each answer of a scheduler
_COMMANDS = {"slurm": slurm.COMMAND, "pbs": pbs.COMMAND}


@dataclass
class Selection:
    """The jobs of a subject.

    Attributes:
        jobs: the oldest first.
        notes: which schedulers could not be asked, and why.
    """

    jobs: list[Job]
    notes: list[str] = field(default_factory=list)

    @property
    def active(self) -> list[Job]:
        return [job for job in self.jobs if job.active]

    @property
    def bad(self) -> list[Job]:
        """Jobs that ended badly and whose work no later job has taken up."""
        latest = {(job.run or job.id, job.work): job for job in self.jobs}
        return [job for job in latest.values() if job.state in BAD]

    @property
    def current(self) -> Job:
        """The job that is running, or else the one that ran last, or else the last one."""
        running = [job for job in self.jobs if job.active and job.state not in PENDING]
        started = [job for job in self.jobs if job.runs]
        return (running or started or self.jobs)[-1]


class Unanswered(InputError):
    """A scheduler that is there did not answer, and nothing else is known."""


def look(subject: str | None) -> Selection:
    """The jobs of a run directory, a data file, a folder of runs, a job and its chain, or, without
    a subject, of this user.

    Args:
        subject: path or job id.

    Raises:
        InputError: there are none; the message says where they were looked for.
        Unanswered: it is not known whether there are any.
    """
    ask_anew()
    if subject is None:
        return _mine()
    path = Path(subject)
    folders = records.folders(path)
    if os.path.exists(path) or folders:
        selection = _ask(records.jobs(folders))
        if not selection.jobs:
            raise InputError(f"{printable(subject)} holds no job records (jobs/*.env, "
                             "jobs/submitted.jsonl): a job leaves them when it starts. Jobs that "
                             "wait: hpc-deepfake job status")
        return selection
    if not re.match(r"\d+(\D|$)", subject):
        raise InputError(f"{printable(subject)} is neither a run directory, a data file nor a job "
                         "id: give one, like runs/first or 1234, or nothing for all of your jobs")
    return _one(subject)


def _mine() -> Selection:
    """All of this user's jobs in the queues, with their records below the folders of submission."""
    jobs, notes = _all()
    if not jobs and len(notes) == len(_COMMANDS):
        raise InputError("no scheduler can be asked: " + "; ".join(notes) + "\nName a run "
                         "directory, whose records tell what is known")
    places = {Path(job.directory) for job in jobs if job.directory}
    recorded = {job.key: job for job in records.jobs(_near(places))}
    merged = [_join(recorded.get(job.key), job) for job in jobs]
    if not merged and _doubtful(notes):
        raise Unanswered(f"it is not known what is queued or running{_as_lines(notes)}")
    if not merged:
        raise InputError(f"none of your jobs is in the queue{_as_lines(notes)}\nJobs that have "
                         "ended: hpc-deepfake job status RUN")
    return Selection(sorted(merged, key=records.age), [] if jobs else notes)


def _one(job: str) -> Selection:
    """A job, with the others of its chain."""
    recorded = records.jobs(_near({Path()}))
    live, notes = _all()
    wanted = [other for other in (*recorded, *live) if within(other.key, key(job))]
    if not wanted:
        recorded = [Job(job, scheduler_of(job))]
    elif not any(other.key == record.key for other in wanted for record in recorded):
        places = {Path(other.directory) for other in wanted if other.directory}
        recorded += records.jobs(_near(places))
    chain = _chain({key(job)} | {other.key for other in wanted}, recorded)
    missing = [Job(other.id, other.scheduler, other.name) for other in wanted
               if other.key not in {record.key for record in chain}]
    selection = _ask(chain + missing)
    if all(other.state == UNKNOWN and not other.records for other in selection.jobs):
        if _doubtful(notes):
            raise Unanswered(f"it is not known whether there is a job {printable(job)}"
                             f"{_as_lines(notes)}\nOnce more when it answers, or name its run "
                             "directory, whose records tell what is known")
        raise InputError(f"no job {printable(job)}{_as_lines(selection.notes or notes)}\nIts "
                         "records are neither below runs/ nor beside a data file here: if its run "
                         "directory is elsewhere, name that instead")
    return selection


def _doubtful(notes: list[str]) -> bool:
    """Whether a scheduler that is there did not answer."""
    return any("not in PATH" not in note for note in notes)


def _as_lines(notes: list[str]) -> str:
    """Notes as lines of a message; if one scheduler is there, that the other isn't says nothing."""
    missing = [note for note in notes if "not in PATH" in note]
    return "".join(f"\n{note}" for note in notes
                   if note not in missing or len(missing) == len(_COMMANDS))


def _chain(wanted: set[str], recorded: list[Job]) -> list[Job]:
    """Those of the known jobs that resume each other's work with one of the wanted."""
    groups = [{job.key, key(job.resumes)} for job in recorded if job.resumes]
    grown = True
    while grown:
        before = len(wanted)
        for group in groups:
            if wanted & group:
                wanted = wanted | group
        grown = len(wanted) > before
    return [job for job in recorded if job.key in wanted]


def _near(places: Iterable[Path]) -> list[Path]:
    """Folders of records below runs/ of these folders, and beside data files there."""
    return [folder for place in places for folder in (
        *records.folders(place / "runs"),
        *(path for path in sorted(place.glob("*.jobs")) if os.path.isdir(path)))]


def _all() -> tuple[list[Job], list[str]]:
    """This user's jobs of both schedulers; and what could not be asked."""
    jobs, notes = [], []
    for ask in (slurm.own_jobs, pbs.own_jobs):
        batch, problem = ask(PATIENCE)
        jobs += batch
        if problem:
            notes.append(problem)
    return jobs, notes


def _ask(recorded: list[Job]) -> Selection:
    """Jobs of records with what the schedulers know of them: a few calls for all."""
    live: dict[str, Job] = {}
    notes: list[str] = []
    answered = set()
    for scheduler, ask in (("slurm", _ask_slurm), ("pbs", _ask_pbs)):
        sure = [job for job in recorded if job.scheduler == scheduler]
        unsure = (job for job in recorded if not job.scheduler)
        asked = sure + [job for job in unsure if not _in(live.values(), job)]
        if not asked:
            continue
        if shutil.which(_COMMANDS[scheduler]) is None:
            problem = f"{_COMMANDS[scheduler]} is not in PATH"
        else:
            jobs, problem = ask(asked)
            live |= {job.key: job for job in jobs if job.key not in live}
        if not problem:
            answered.add(scheduler)
        elif sure:
            notes.append(f"{problem}; these are the jobs' records alone")
    if not answered and not notes and recorded:
        notes.append("neither squeue nor qstat answers; these are the jobs' records alone")
    joined = []
    for job in recorded:
        matches = [other for other in live.values() if within(other.key, job.key)]
        for other in matches:
            # an element of an array has records of its own
            if other.key == job.key or not any(other.key == record.key for record in recorded):
                joined.append(_join(job if other.key == job.key else _element(job), other))
        if not matches and not _superseded(job, recorded):
            joined.append(_from_records(job, asked=job.scheduler in answered or bool(
                not job.scheduler and answered)))
    return Selection(sorted(joined, key=records.age), notes)


def _in(jobs: Iterable[Job], recorded: Job) -> bool:
    """Whether a job, or an element of it, is among these."""
    return any(within(job.key, recorded.key) for job in jobs)


def _element(array: Job) -> Job:
    """What the elements of an array have in common."""
    return Job(array.id, array.scheduler, array.name, array.work, submitted=array.submitted,
               after=array.after, script=array.script, records=array.records)


def _superseded(job: Job, recorded: list[Job]) -> bool:
    """Whether it is an array whose elements have records."""
    return any(other is not job and within(other.key, job.key) for other in recorded)


def _ask_slurm(jobs: list[Job]) -> tuple[list[Job], str]:
    queued, problem = slurm.own_jobs(PATIENCE)
    answers = [job for job in queued if any(within(job.key, recorded.key) for recorded in jobs)]
    missing = [recorded for recorded in jobs if not _in(answers, recorded)]
    if missing and "no answer" not in problem:  # nor would sacct
        # without accounting, records tell how jobs ended
        old, _ = slurm.history((recorded.id for recorded in missing), PATIENCE)
        answers += old
        unexplained = [recorded.id for recorded in missing if recorded.code is None
                       and not _in(old, recorded)]
        if unexplained and not problem:  # somebody else's?
            answers += slurm.others(unexplained, PATIENCE)
    return answers, problem


def _ask_pbs(jobs: list[Job]) -> tuple[list[Job], str]:
    answers, problem = pbs.ask((job.id for job in jobs), PATIENCE)
    gone = re.search(r"Unknown Job|has finished|history", problem)
    return answers, "" if answers or gone else problem


def _join(record: Job | None, live: Job) -> Job:
    """A job by its records and by its scheduler, which knows its state."""
    if record is None:
        return live
    for name in ("work", "resumes", "script", "log", "records"):
        setattr(live, name, getattr(record, name))
    live.after = live.after or record.after
    live.submitted = live.submitted or record.submitted
    live.runs = max(live.runs, record.runs)
    if live.active:
        return live
    live.code = record.code if live.code is None else live.code
    if live.state in (FAILED, STOPPED) and _cancelled(record):  # it ended in its own way
        live.state, live.reason = CANCELLED, ""
    if live.state == FAILED and record.code:
        live.state, live.reason = ended(record.code)
    elif live.state in (CANCELLED, TIMEOUT) and record.code == STOPPED_CODE:
        live.reason = f"{live.reason}; everything was saved".lstrip("; ")
    return live


def _cancelled(job: Job) -> bool:
    """Whether ``hpc-deepfake job cancel`` has ended it."""
    return job.records is not None and job.key in records.cancelled(job.records)


def _from_records(job: Job, asked: bool) -> Job:
    """A job that no scheduler knows, or that could not be asked."""
    if _cancelled(job):
        job.state = CANCELLED
        job.reason = "everything was saved" if job.code == STOPPED_CODE else ""
    elif job.code is not None:
        job.state, job.reason = ended(job.code)
    elif asked and job.runs:
        job.reason = "ended without an exit code of its program; see its log"
    elif asked:
        job.reason = "no longer in the queue, and never started"
    return job
