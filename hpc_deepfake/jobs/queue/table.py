"""Jobs as a table: as wide as the terminal, or of any width elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from pathlib import Path

from hpc_deepfake.core.text import plural, printable
from hpc_deepfake.jobs.queue.lookup import Selection
from hpc_deepfake.jobs.queue.state import BAD, PENDING, Job

_HEAD = ("job", "name", "work", "state", "elapsed", "limit", "")


def width() -> int | None:
    """Columns of the terminal; None if standard output is none."""
    if not sys.stdout.isatty():
        return None
    try:
        return max(60, os.get_terminal_size(sys.stdout.fileno()).columns)
    except OSError:
        return 100


def text(selection: Selection, columns: int | None = None) -> str:
    """The table, a line or more for each job, below the run that it belongs to.

    Args:
        selection: the jobs.
        columns: at most this many; None: no limit.
    """
    rows = [_cells(job) for job in selection.jobs]
    sizes = [max(map(len, cells)) for cells in zip(_HEAD, *rows)]
    right = (4, 5)

    def line(cells: tuple[str, ...]) -> str:
        words = [cell.rjust(size) if at in right else cell.ljust(size)
                 for at, (cell, size) in enumerate(zip(cells, sizes))]
        return _cut("  ".join(words).rstrip(), columns)

    lines, run = [line(_HEAD)], None
    several = len({job.run for job in selection.jobs}) > 1
    for job, cells in zip(selection.jobs, rows):
        if several and job.run != run and job.run is not None:
            lines.append(_cut(f"{short(job.run)}:", columns))
        run = job.run
        lines.append(line(cells))
        lines += [_cut(f"  {detail}", columns) for detail in _details(job)]
    for chain in chains(selection.jobs):
        lines.append(_cut("chain: " + " → ".join(f"{job.id} ({job.state})" for job in chain),
                          columns))
    lines.append(summary(selection.jobs))
    return "\n".join(lines)


def summary(jobs: list[Job]) -> str:
    """Numbers of jobs by state, in one line."""
    counts = Counter(job.state for job in jobs)
    states = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    return f"{plural(len(jobs), 'job')}: {states}"


def chains(jobs: list[Job]) -> list[list[Job]]:
    """Jobs that resume each other's work, each chain in its order."""
    by_key = {job.key: job for job in jobs}
    following = {previous: job for job in jobs if job.resumes
                 and (previous := job.resumes.partition(".")[0].lower()) in by_key}
    heads = [job for job in jobs if job.key in following
             and job.key not in {other.key for other in following.values()}]
    complete = []
    for head in heads:
        chain = [head]
        while (after := following.get(chain[-1].key)) and after not in chain:
            chain.append(after)
        complete.append(chain)
    return complete


def _cells(job: Job) -> tuple[str, ...]:
    return (printable(job.id), printable(job.name), job.work, job.state, hms(job.elapsed),
            hms(job.limit), _about(job))


def _about(job: Job) -> str:
    """What matters now: why it waits and until when, how far it is, how it ended."""
    words = [job.progress, job.reason]
    if job.state in PENDING and job.start:
        words.append(f"expected to start {clock(job.start)}")
    if job.runs > 1:
        words.append(f"run {job.runs}" if job.active else f"{job.runs} runs")
    if job.nodes and job.nodes > 1:
        words.append(f"{job.nodes} nodes")
    return "; ".join(word for word in words if word)


def _details(job: Job) -> list[str]:
    if job.error and (job.state in BAD or not job.active):
        return [f"error: {job.error}"]
    return [f"log: {job.line}"] if job.line and job.state not in PENDING else []


def hms(seconds: float | None) -> str:
    """Seconds as H:MM:SS, or days-H:MM:SS; empty for None."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{f'{days}-' if days else ''}{hours}:{minutes:02}:{rest:02}"


def clock(moment: float) -> str:
    """A time as 14:30 of today, or with the date."""
    try:
        at = time.localtime(moment)
    except (OverflowError, OSError, ValueError):
        return "?"
    today = time.strftime("%Y-%m-%d")
    day = time.strftime("%Y-%m-%d", at)
    return time.strftime("%H:%M", at) if day == today else time.strftime("%Y-%m-%d %H:%M", at)


def short(path: Path) -> str:
    """A path as short as it can be given here."""
    try:
        return printable(str(path.relative_to(Path.cwd())))
    except ValueError:
        return printable(str(path))


def _cut(line: str, columns: int | None) -> str:
    return line if columns is None or len(line) <= columns else line[:columns - 1] + "…"
