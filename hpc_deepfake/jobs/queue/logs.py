"""``hpc-deepfake job logs``: the log of the current job, followed over requeues and successors."""

from __future__ import annotations

import dataclasses
import glob
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.log import log
from hpc_deepfake.core.options import Parser, at_least, between
from hpc_deepfake.core.text import plural, printable
from hpc_deepfake.jobs.queue import pbs, progress, slurm
from hpc_deepfake.jobs.queue.lookup import PATIENCE, Selection, Unanswered, look
from hpc_deepfake.jobs.queue.state import PENDING, UNKNOWN, Job

_EXAMPLES = """examples:
  hpc-deepfake job logs runs/first
  hpc-deepfake job logs runs/first -f
  hpc-deepfake job logs 1234 -n 50
  hpc-deepfake job logs runs/first --rank 3
  hpc-deepfake job logs runs/scaling-2026-11-25T10-00-00 --errors

exit codes: 0 printed; 1 with -f: a job has failed; 2 wrong usage, or there is no such log"""
_FIRST = 20  # lines shown before those that follow
_ALL = 1 << 30
_BLOCK = 1 << 16
_LOOK = 1.0  # seconds between two looks at the log
_SOON = 3.0  # seconds after a change of the records until the scheduler is asked
_ERRORS = re.compile(r"\berror\b|^Traceback|\bexception\b|oom.kill|out of memory|\bkilled\b|"
                     r"\bCANCELLED\b|\bFAIL|segmentation fault|no space left|^----- job ",
                     re.IGNORECASE)


def parser() -> Parser:
    """The command line."""
    cli = Parser(prog="hpc-deepfake job logs", config=False, epilog=_EXAMPLES, description=(
        "Print the log of the job that is running for a run, a study or a pipeline, or ran last."))
    cli.add_argument("subject", metavar="RUN|JOBID",
                     help="run directory, folder of runs, data file or job id")
    cli.add_argument("-f", "--follow", action="store_true",
                     help="continue printing what is added, also when the job is requeued or "
                          "another one resumes its work, until no job is left")
    cli.add_argument("-n", "--lines", type=at_least(0), metavar="LINES",
                     help=f"only the last LINES (default: all, with -f {_FIRST})")
    cli.add_argument("--rank", type=at_least(0), metavar="R",
                     help="the log of this rank; the job has them if RANK_LOGS=1 was set")
    cli.add_argument("--errors", action="store_true",
                     help="of each job, only the error of the first rank that failed, or the "
                          "lines of the log that look like errors")
    cli.add_argument("--every", type=between(1, 3600), default=30.0, metavar="S",
                     help="with -f, ask the scheduler every S seconds whether the job has ended")
    return cli


def main(argv: Sequence[str]) -> int:
    """The command. Returns the exit code."""
    cli = parser()
    options = cli.parse(argv)
    if options.errors and (options.follow or options.rank is not None):
        cli.error("--errors goes with neither -f nor --rank")
    selection = look(options.subject)
    for note in selection.notes:
        log.warning("note: %s", note)
    if options.errors:
        return _errors(selection)
    if options.follow:
        lines = _FIRST if options.lines is None else options.lines
        return _follow(options.subject, selection, lines, options.rank, options.every)
    job = selection.current
    _say_others(selection, job)
    path = log_of(job, options.rank)
    if path is None or not os.path.isfile(path):
        raise InputError(_missing(job, path, options.rank))
    for line in Tail(path, options.lines).lines(last=True):
        print(line)
    return 0


def log_of(job: Job, rank: int | None = None) -> Path | None:
    """The file of a job's output, or of one rank's; None if no record and no scheduler says it."""
    if rank is not None:
        return job.records / f"{job.id}.ranks" / f"rank-{rank:04}.log" if job.records else None
    if job.log is not None and "*" in job.log.name:  # of an array: that of the latest element
        files = [Path(name) for name in glob.glob(str(job.log))]
        return max((file for file in files if os.path.isfile(file)),
                   key=lambda file: file.stat().st_mtime, default=None)
    if job.log is None and job.active:
        ask = {"slurm": slurm.log_file, "pbs": pbs.log_file}.get(job.scheduler)
        name = ask(job.id, PATIENCE) if ask else ""
        return Path(name) if name else None
    return job.log


def _missing(job: Job, path: Path | None, rank: int | None) -> str:
    name = printable(job.id)
    if rank is not None:
        return (f"job {name} has no log of rank {rank}{f' ({path})' if path else ''}: submit with "
                "RANK_LOGS=1 to get a log of each rank")
    if job.state in PENDING:
        return f"job {name} has not started yet{f': {job.reason}' if job.reason else ''}"
    target = f" ({printable(os.path.realpath(path))})" if path else ""
    return (f"there is no log of job {name}{target}: it was moved or deleted, or its scheduler "
            "brings it when the job has ended")


def _say_others(selection: Selection, job: Job) -> None:
    """Name the other running jobs, whose logs are not printed."""
    others = [other.id for other in selection.active
              if other.state not in PENDING and other is not job]
    if others:
        log.info("job %s; also running: %s (name one for its log)", printable(job.id),
                 printable(", ".join(others)))


class Tail:
    """A file that grows: its lines, of which programs may have written anything, printable.

    Args:
        path: of the file; it may be missing so far, or be replaced.
        last: how many lines there are to be returned first; None: all.
    """

    def __init__(self, path: Path, last: int | None = None) -> None:
        self._path, self._at, self._file = path, 0, (0, 0)
        self._rest = b""
        if last is not None:
            self._at = _start_of_last(path, last)
            self._file = self._identity()[0]

    def lines(self, *, last: bool = False) -> Iterator[str]:
        """The lines that have been added and are complete.

        Args:
            last: also what follows the last line end, since nothing more will come.
        """
        identity, size = self._identity()
        if identity != self._file or size < self._at:  # a new file, or written from its beginning
            self._file, self._at, self._rest = identity, 0, b""
        if not os.path.isfile(self._path):
            return
        try:
            with open(self._path, "rb") as file:
                file.seek(self._at)
                while block := file.read(_BLOCK):
                    self._at += len(block)
                    *complete, self._rest = (self._rest + block).split(b"\n")
                    yield from map(_text, complete)
        except OSError:
            return
        if last and self._rest:
            yield _text(self._rest)
            self._rest = b""

    def _identity(self) -> tuple[tuple[int, int], int]:
        try:
            facts = self._path.stat()
        except OSError:
            return (0, 0), 0
        return (facts.st_dev, facts.st_ino), facts.st_size


def _text(line: bytes) -> str:
    return progress.clean(line.decode("utf-8", "replace"))


def _start_of_last(path: Path, lines: int) -> int:
    """Offset at which the last lines of a file begin."""
    try:
        if not os.path.isfile(path):
            return 0
        with open(path, "rb") as file:
            at = size = file.seek(0, 2)
            if not lines:
                return size
            wanted = lines + 1  # ends of lines from the end of the file
            while at and wanted:
                start = max(0, at - _BLOCK)
                file.seek(start)
                block = file.read(at - start)
                if at == size and not block.endswith(b"\n"):
                    wanted -= 1
                while wanted and (end := block.rfind(b"\n")) >= 0:
                    wanted, block, at = wanted - 1, block[:end], start + end
                if wanted:
                    at = start
            return at + 1 if not wanted else 0
    except OSError:
        return 0


def _follow(subject: str, selection: Selection, lines: int, rank: int | None, every: float) -> int:
    """Print what is added to the logs until no job of the subject is left. Returns the exit
    code."""
    if not selection.active:  # a successor may have been recorded while the scheduler was asked
        selection = _look_again(subject, selection)
    job, tail, path, said = selection.current, None, None, ""
    _say_others(selection, job)
    while True:
        if tail is None and (path := log_of(job, rank)) is not None:
            tail = Tail(path, lines)
        over = not _goes_on(selection)
        if not over and (awaited := _awaited(job, path)) not in ("", said):
            said = awaited
            log.info("----- job %s %s", printable(job.id), awaited)
        _print(tail, last=over)
        if over:
            log.info("----- job %s: %s%s", printable(job.id), job.state,
                     f" ({job.reason})" if job.reason else "")
            return 1 if selection.bad else 0
        _wait(job, tail, every)
        selection = _look_again(subject, selection)
        if selection.current.key != job.key:
            _print(tail, last=True)
            log.info("----- job %s follows", printable(selection.current.id))
            tail, path, lines, said = None, None, _ALL, ""
        job = selection.current


def _awaited(job: Job, path: Path | None) -> str:
    """What keeps a job from printing anything into its log; empty if that is there."""
    if job.state in PENDING:
        return f"is {job.state}: {job.reason}".rstrip(": ")
    if path is not None and os.path.isfile(path):
        return ""
    place = f", {printable(os.path.realpath(path))}" if path else ""
    return (f"({job.state}) has no log yet{place}: waiting for it; some schedulers bring it when "
            "the job has ended")


def _print(tail: Tail | None, *, last: bool = False) -> None:
    for line in tail.lines(last=last) if tail else ():
        print(line, flush=True)


def _wait(job: Job, tail: Tail | None, every: float) -> None:
    """Print what is added until it is time to ask the scheduler again: after ``every`` seconds, or
    soon after the job has left a record."""
    asked, stamp, changed = time.monotonic(), _stamp(job), 0.0
    while True:
        time.sleep(_LOOK)
        _print(tail)
        now = time.monotonic()
        if _stamp(job) != stamp:
            stamp, changed = _stamp(job), now
        if now - asked >= every or (changed and now - changed >= _SOON):
            return


def _goes_on(selection: Selection) -> bool:
    """Whether a job is left; where no scheduler can be asked, until the last has recorded its
    end."""
    job = selection.current
    unsure = bool(selection.notes) and job.state == UNKNOWN and job.code is None
    return bool(selection.active) or unsure


def _look_again(subject: str, before: Selection) -> Selection:
    """The jobs now; those of before if a scheduler doesn't answer for once."""
    try:
        selection = look(subject)
        if not selection.active:  # a successor may have been recorded after the records were read
            selection = look(subject)
    except Unanswered:
        return before
    except InputError:  # it knows the job no longer, and there are no records
        return Selection([dataclasses.replace(job, state=UNKNOWN) for job in before.jobs])
    return before if selection.notes and not before.notes and not selection.active else selection


def _stamp(job: Job) -> tuple[int, ...]:
    """Changes when a job, or one that follows it, leaves a record."""
    stamp = []
    for name in (f"{job.id}.outcome", "outcome", "next", "submitted.jsonl", "."):
        try:
            stamp.append((job.records / name).stat().st_mtime_ns if job.records else 0)
        except OSError:
            stamp.append(0)
    return tuple(stamp)


def _errors(selection: Selection) -> int:
    """Print the errors of all jobs."""
    none = True
    for job in selection.jobs:
        lines = progress.error_text(job).split("\n")
        path = log_of(job)
        if lines == [""] and path is not None:
            lines = [line for line in Tail(path).lines(last=True) if _ERRORS.search(line)]
        if any(lines):
            none = False
            print(f"----- job {printable(job.id)}, {job.work or printable(job.name)}: {job.state}"
                  + (f" ({job.reason})" if job.reason else ""))
            for line in lines:
                print(line)
    if none:
        print(f"no errors in the logs of {plural(len(selection.jobs), 'job')}")
    return 0
