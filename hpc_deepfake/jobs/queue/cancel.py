"""``hpc-deepfake job cancel``: ends the jobs of a run, a chain, a pipeline or a study for good."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.core.log import log
from hpc_deepfake.core.options import Parser
from hpc_deepfake.core.streams import work_matters
from hpc_deepfake.core.text import plural, printable
from hpc_deepfake.jobs.queue import pbs, progress, slurm, table
from hpc_deepfake.jobs.queue.lookup import Selection, look
from hpc_deepfake.jobs.queue.state import PENDING, Job

_EXAMPLES = """examples:
  hpc-deepfake job cancel runs/first
  hpc-deepfake job cancel runs/pipeline-2026-11-25T10-00-00 --yes
  hpc-deepfake job cancel 1234 1240
  hpc-deepfake job cancel --all

A running training or preprocessing is asked to save its work first; how long it has for that is set
by the site (SLURM: KillWait, PBS: kill_delay). What is saved stays, and can be resumed.

exit codes: 0 cancelled, or nothing was left to cancel; 1 not confirmed; 2 wrong usage, or the
scheduler refused"""
_ROUNDS = 5  # looks for jobs that were submitted meanwhile
_PAUSE = 1.0  # seconds between them
_CANCEL = {"slurm": slurm.cancel, "pbs": pbs.cancel}


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake job cancel", config=False, epilog=_EXAMPLES, description=(
        "Cancel the jobs of a run, a study, a pipeline or a sweep, or a job with its chain of\n"
        "successors: those that wait first, so that none starts or is submitted again. Only your\n"
        "own jobs."))
    cli.add_argument("subject", nargs="*", metavar="RUN|JOBID",
                     help="run directory, folder of runs, data file or job id")
    cli.add_argument("--all", action="store_true",
                     help="all jobs of yours in the queue that are this project's: with its "
                          "records, or named hd-…")
    cli.add_argument("--yes", action="store_true", help="don't ask")
    return cli


def main(argv: Sequence[str]) -> int:
    """The command. Returns the exit code."""
    options = parser().parse(argv)
    if options.all == bool(options.subject):
        raise InputError("name what to cancel: either runs and job ids, or --all")
    selection = _look(options.subject)
    for note in selection.notes:
        log.warning("note: %s", note)
    jobs = _own(selection)
    if not jobs and selection.notes:
        raise InputError("nothing was cancelled: it is not known what is queued or running")
    if not jobs:
        print(f"nothing to cancel: {table.summary(selection.jobs)}")
        return 0
    print(table.text(Selection(jobs), table.width()))
    if not options.yes and not _confirmed(len(jobs)):
        return 1
    work_matters()
    _cancel_all(options.subject, jobs)
    for line in _what_stays(jobs):
        print(line)
    return 0


def _look(subjects: Sequence[str]) -> Selection:
    """The jobs of all subjects, each once; without a subject, this project's of this user."""
    jobs: dict[str, Job] = {}
    notes: dict[str, None] = {}
    for subject in subjects or (None,):
        selection = look(subject)
        jobs |= {job.key: job for job in selection.jobs
                 if subject is not None or job.work or job.name.startswith("hd-")}
        notes |= dict.fromkeys(selection.notes)
    return Selection(list(jobs.values()), list(notes))


def _own(selection: Selection) -> list[Job]:
    """This user's jobs that have not ended; says which ones are others'."""
    for job in selection.active:
        if not job.own:
            log.warning("note: job %s belongs to %s and is left alone", printable(job.id),
                        printable(job.owner) or "somebody else")
        progress.add(job)
    return [job for job in selection.active if job.own]


def _confirmed(count: int) -> bool:
    if not sys.stdin.isatty():
        raise InputError("nothing was cancelled: confirm with --yes where no terminal can be asked")
    print(f"cancel {plural(count, 'job')}? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _cancel_all(subjects: Sequence[str], jobs: list[Job]) -> None:
    """Cancel jobs, and those that were submitted for the same work meanwhile."""
    done: set[str] = set()
    for _ in range(_ROUNDS):
        _mark(jobs)
        for batch in ([job for job in jobs if job.state in PENDING],
                     [job for job in jobs if job.state not in PENDING]):
            for scheduler, cancel in _CANCEL.items():
                ids = [job.id for job in batch if job.scheduler == scheduler]
                if ids and (problem := cancel(ids)):
                    raise InputError(f"{scheduler} did not cancel all of {', '.join(ids)}: "
                                     f"{printable(problem)}\nWhat is left: hpc-deepfake job status "
                                     f"{shlex.join(subjects)}".rstrip())
                if ids:
                    print(f"cancelled: {printable(', '.join(ids))}", flush=True)
        done |= {job.key for job in jobs}
        time.sleep(_PAUSE)
        try:
            jobs = [job for job in _own(_look(subjects)) if job.key not in done]
        except InputError:  # no scheduler knows them any more
            return
        if not jobs:
            return


def _mark(jobs: list[Job]) -> None:
    """Tell the jobs (``stopped`` in jobs/lib/job.sh) that nothing is to resume their work."""
    for folder in {job.records for job in jobs if job.records is not None}:
        ids = [job.id for job in jobs if job.records == folder]
        try:
            with open(folder / "cancelled", "a", encoding="utf-8") as file:
                file.write("".join(f"{job}\n" for job in ids))
        except OSError as error:
            log.warning("note: cannot write %s (%s): a job that is stopping just now may be "
                        "resumed", folder / "cancelled", reason(error))


def _what_stays(jobs: list[Job]) -> list[str]:
    """For each run, what stays and how it can be resumed."""
    resumable = {job.run: job for job in reversed(jobs)
                 if job.run is not None and job.work in _RESUMABLE}
    if len(resumable) > _FEW or any(job.work == "sweep" for job in resumable.values()):
        return [f"{plural(len(resumable), 'run')}: what they have finished or saved stays\n"
                "  to resume: the command that submitted them, again"]
    return [f"{table.short(run)}: {_stays(run, job)}\n  to resume: {_resume(run, job)}"
            for run, job in sorted(resumable.items(), key=lambda item: str(item[0])) if run]


_RESUMABLE = ("train", "compare", "crosseval", "preprocess", "sweep")
_FEW = 4  # runs that are listed


def _stays(run: Path, job: Job) -> str:
    if job.work == "preprocess":
        return "the finished blocks of rows stay"
    if job.work in ("compare", "crosseval"):
        return "finished trainings stay, and the last checkpoint of the present one"
    saved = sorted(run.glob("checkpoints/step-*.npz"))
    if not saved and not job.progress:
        return "no checkpoint so far"
    last = f" (so far {saved[-1].name})" if saved else ""
    return f"{job.progress or 'the training'} and its last checkpoint{last} stay"


def _resume(run: Path, job: Job) -> str:
    """The command that resumes the work of a cancelled job."""
    name = "DATA" if job.work == "preprocess" else "RUN"
    value = f"{name}={table.short(run)}"
    if job.script is None or not os.path.isfile(job.script):
        return f"submit the same job again with {shlex.quote(value)}"
    return shlex.join(["hpc-deepfake", "job", "submit", job.scheduler, "--script",
                       table.short(job.script), "--var", value])
