"""How far a job's work is: its log's last line, its last error, its epoch."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from hpc_deepfake.core import json_data
from hpc_deepfake.core.json_data import dictionary, finite
from hpc_deepfake.core.text import printable
from hpc_deepfake.jobs.queue.state import BAD, Job

_TAIL = 1 << 16  # bytes read of the end of a log
_LONG = 1 << 24  # bytes of a log in which its runs are counted
_COUNT = re.compile(r"([\d,]+ of [\d,]+ \w+ \(\d+%\))")


def add(job: Job) -> None:
    """Fill in what the log and the records of a job say: ``line``, ``error``, ``progress``,
    ``runs``."""
    text = tail(job.log)
    lines = [clean(line) for line in text.split("\n") if line.strip()]
    job.line = lines[-1].strip() if lines else ""
    job.error = _error(job, lines)
    job.progress = _progress(job)
    if job.log is not None:
        job.runs = max(job.runs, _runs(job.log, job.id))


def clean(line: str) -> str:
    """A line of a log as it may be printed: what programs wrote there is not trusted."""
    return printable(line.rstrip("\r\n").rpartition("\r")[2].expandtabs())


def tail(path: Path | None, size: int = _TAIL) -> str:
    """The last ``size`` bytes of a file as text; empty if it can't be read."""
    try:
        if path is None or not os.path.isfile(path):  # a pipe would be waited for
            return ""
        with open(path, "rb") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - size))
            return file.read(size).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


def error_text(job: Job) -> str:
    """The error of the first rank that failed, as job.sh keeps it; empty without one."""
    if job.records is None:
        return ""
    return "\n".join(clean(line) for line in tail(job.records / f"{job.id}.error").split("\n")
                     if line.strip())


def _error(job: Job, lines: list[str]) -> str:
    first = error_text(job).partition("\n")[0]
    if first or job.state not in BAD:
        return first
    failed = [line for line in lines if line.startswith(("----- job ", "error:"))]
    return failed[-1].removeprefix("----- ") if failed else ""


def _progress(job: Job) -> str:
    if job.work in ("train", "sweep") and job.records is not None and job.runs:
        return _epochs(job.records.parent)
    counted = _COUNT.search(job.line) if job.active else None
    return counted[1] if counted else ""


def _epochs(run: Path) -> str:
    """The last epoch of a training that is complete."""
    done = None
    for line in tail(run / "metrics.jsonl").split("\n"):
        with suppress(ValueError):
            done = finite(dictionary(json_data.parse(line)).get("epoch")) or done
    if done is None:
        return ""
    planned = None
    with suppress(OSError, ValueError):
        planned = finite(dictionary(json_data.read(run / "config.json")).get("epochs"))
    return f"epoch {done:.0f}" + (f" of {planned:.0f}" if planned else "")


def _runs(log: Path, job: str) -> int:
    """How often a job was started, by the lines that job.sh begins with."""
    numbers = re.findall(rf"^job {re.escape(job)}: .*?, run (\d{{1,6}});", tail(log, _LONG),
                         re.MULTILINE)
    return max(map(int, numbers), default=0)
