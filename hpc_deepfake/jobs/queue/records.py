"""Jobs by their records in RUN/jobs/ and DATA.jobs/, and those of studies and pipelines."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hpc_deepfake.core.text import whole_number
from hpc_deepfake.jobs.queue import journal, reasons
from hpc_deepfake.jobs.queue.state import Job, is_id, key, scheduler_of
from hpc_deepfake.jobs.script.text import work

_DEPTH = 4  # of folders of records below a study, a sweep or a folder of runs
_NO_RUNS = {"checkpoints", "Au", "Tp", "Sp"}  # folders of many files
_SMALL = 1 << 20  # bytes; records are smaller


def folders(subject: Path) -> list[Path]:
    """Folders of records of a run, of a data file, or of all that lies below a folder."""
    places = [Path(f"{subject}.jobs")]
    if subject.name == "jobs" or subject.suffix == ".jobs":
        places.append(subject)
    elif os.path.isdir(subject):
        places += _below(subject, _DEPTH)
    return [folder for folder in places if os.path.isdir(folder)]


def _below(folder: Path, depth: int) -> Iterator[Path]:
    """Folders of records within a folder: its own first."""
    inside: list[Path] = []
    with suppress(OSError), os.scandir(folder) as entries:
        inside = sorted(Path(entry.path) for entry in entries
                        if entry.is_dir() and entry.name[0] != "." and entry.name not in _NO_RUNS)
    yield from (path for path in inside if path.name == "jobs" or path.suffix == ".jobs")
    if depth:
        for path in inside:
            if path.name != "jobs" and path.suffix not in (".jobs", ".ranks"):
                yield from _below(path, depth - 1)


def jobs(places: list[Path]) -> list[Job]:
    """The jobs that folders of records know, the oldest first."""
    merged: dict[str, Job] = {}
    for folder in places:
        for job in _read(folder):
            before = merged.get(job.key)
            merged[job.key] = job if before is None else _merge(before, job)
    # a pipeline's preprocessing keeps its records beside the data file
    elsewhere = {job.records for job in merged.values() if job.records is not None}
    for folder in elsewhere - set(places):
        for job in _read(folder):
            if job.key in merged:
                merged[job.key] = _merge(merged[job.key], job)
    return sorted(merged.values(), key=age)


def age(job: Job) -> tuple[float, list[int]]:
    """What jobs are sorted by: their numbers, but the day first, since a site may begin to count
    anew, and a run may have moved to another cluster."""
    day = (job.submitted or job.start or 0.0) // 86400
    return day, [int(number) for number in re.findall(r"\d{1,18}", job.key)]


def _merge(left: Job, right: Job) -> Job:
    """One job of two records: what it left itself comes before what others wrote of it."""
    # one job may run several trials: the last one that it began
    first, second = sorted((left, right), key=lambda job: (job.runs, job.submitted or 0.0))[::-1]
    for name in ("scheduler", "name", "work", "submitted", "after", "resumes", "script", "log",
                 "records"):
        if not getattr(first, name):
            setattr(first, name, getattr(second, name))
    if second.submitted and first.submitted:
        first.submitted = min(first.submitted, second.submitted)
    return first


def _read(folder: Path) -> Iterator[Job]:
    """The jobs of one folder; one that several of its files know comes several times."""
    for entry in journal.read(folder):
        yield Job(entry.id, entry.scheduler, entry.name, entry.kind if entry.kind.isidentifier()
                  else "", submitted=entry.time, after=reasons.awaited(entry.after),
                  resumes=entry.resumes if is_id(entry.resumes) else "",
                  script=Path(entry.script) if entry.script else None,
                  log=Path(entry.log) if entry.log else None,
                  records=Path(entry.records) if entry.records else folder)
    started: list[tuple[float, str]] = []
    for file in folder.glob("[0-9]*.env"):
        with suppress(OSError):
            if is_id(file.stem):
                started.append((file.stat().st_mtime, file.stem))
    for at, name in sorted(started):
        yield _started(folder, name, at)
    for file in folder.glob("*.id"):  # of a scaling study, by job.sh
        if is_id(name := _word(file)):
            yield Job(name, scheduler_of(name), work="preprocess" if file.stem.startswith(
                "preprocess") else "train", records=folder)
    follower = _word(folder / "next")  # the job that resumes the last stopped one, on PBS
    began = next((at for at, name in started if key(name) == key(follower)), None)
    earlier = [(at, name) for at, name in started if began is None or at < began]
    if is_id(follower) and earlier:
        previous = max(earlier)[1]
        yield Job(follower, scheduler_of(follower), work=_work(folder, previous),
                  resumes=previous, records=folder)


def _started(folder: Path, name: str, at: float) -> Job:
    """A job that has started, since it left records."""
    job = Job(name, scheduler_of(name), work=_work(folder, name), submitted=at, records=folder,
              runs=1)
    script = _text(folder / f"{name}.sh")
    if title := re.search(r"^#(?:SBATCH --job-name=|PBS -N )(.*)$", script, re.MULTILINE):
        job.name = title[1].strip()
    if not job.scheduler and script:
        job.scheduler = "pbs" if "\n#PBS " in script else "slurm"
    job.code = whole_number(_word(folder / f"{name}.outcome"))
    link = folder / f"{name}.log"
    job.log = link if os.path.lexists(link) else None
    return job


def _work(folder: Path, name: str) -> str:
    """What a job does, by the script that it left."""
    last = work(_text(folder / f"{name}.sh"))
    if last.isidentifier():
        return last
    return "preprocess" if folder.suffix == ".jobs" else ""


def cancelled(folder: Path) -> set[str]:
    """Keys of the jobs that ``hpc-deepfake job cancel`` has cancelled."""
    return {key(line) for line in _text(folder / "cancelled").split()}


def _word(path: Path) -> str:
    return _text(path).strip()


def _text(path: Path) -> str:
    """The beginning of a file as text; empty if it can't be read."""
    try:
        if not os.path.isfile(path):
            return ""
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_SMALL)
    except (OSError, ValueError):
        return ""
