"""``submitted.jsonl`` in a folder of job records: a line of JSON for each job that was submitted.

Without it, a job that waits is known to the scheduler alone. ``note_job`` of
jobs/lib/submit.sh writes such lines too.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc_deepfake.core import json_data
from hpc_deepfake.core.errors import reason
from hpc_deepfake.core.json_data import finite
from hpc_deepfake.core.log import log
from hpc_deepfake.jobs.queue.state import is_id
from hpc_deepfake.jobs.script.request import Request

NAME = "submitted.jsonl"


@dataclass(frozen=True)
class Entry:
    """A submitted job.

    Attributes:
        id: as the scheduler printed it.
        name: of the job; may be empty.
        kind: of work, as ``state.Job.work``.
        scheduler: ``slurm`` or ``pbs``.
        after: dependency, such as ``afterok:12:13``; may be empty.
        resumes: id of the job whose work it resumes; may be empty.
        time: seconds since the epoch.
        log: file of its output; may be empty.
        script: the script as it was submitted; may be empty.
        records: folder in which the job keeps its records; empty if it is this one.
    """

    id: str
    name: str = ""
    kind: str = ""
    scheduler: str = ""
    after: str = ""
    resumes: str = ""
    time: float | None = None
    log: str = ""
    script: str = ""
    records: str = ""


def read(folder: Path) -> list[Entry]:
    """The jobs submitted according to a folder of records, the oldest first; none without the file.
    """
    if not os.path.isfile(folder / NAME):
        return []
    try:
        lines = json_data.read_lines(folder / NAME)
    except OSError:
        return []
    entries = []
    for line in lines:
        words = {name: value for name, value in line.items() if isinstance(value, str)
                 and name in Entry.__dataclass_fields__ and name != "time"}
        if is_id(words.get("id", "")):
            if script := words.get("script"):  # beside this file, wherever both have been moved
                words["script"] = str(folder.absolute() / Path(script).name)
            entries.append(Entry(**words, time=finite(line.get("time"))))
    return entries


def write(folder: Path, entry: Entry, text: str) -> None:
    """Add a job, and keep its script to submit it again. A failure is only reported: the job has
    been submitted.

    Args:
        folder: of the records; it is made if necessary.
        entry: the job; its ``script`` is set here.
        text: of its script.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        script = folder / f"{entry.name or 'job'}-{time.time_ns()}.sh"
        script.write_text(text, encoding="utf-8")
        line = {**entry.__dict__, "script": str(script)}
        with open(folder / NAME, "a", encoding="utf-8") as file:
            file.write(json.dumps({name: value for name, value in line.items() if value}) + "\n")
    except OSError as error:
        log.warning("note: job %s is not recorded in %s: %s", entry.id, folder / NAME,
                    reason(error))


def place(work: str, values: Mapping[str, str], arguments: Sequence[str], job: str,
          *, array: bool = False) -> Path | None:
    """The folder in which a job will keep its records, as jobs/lib/job.sh chooses it; None where
    only the job itself can tell.

    Args:
        work: as ``state.Job.work``.
        values: of the script's variables.
        arguments: of the program.
        job: its id.
        array: whether it is an array, each of whose jobs has a run directory of its own.
    """
    option = {"preprocess": "--out", "compare": "--out", "crosseval": "--out",
              "evaluate": "--model"}.get(work, "--run")
    named = _option(arguments, option)
    if work == "preprocess":
        pictures = _option(arguments, "--data") or values.get("PICTURES")
        data = named or values.get("DATA") or (pictures and f"{pictures}/features.h5")
        return Path(f"{data}.jobs").absolute() if data else None
    run = named or values.get("RUN")
    if not run and work in ("train", "compare", "crosseval") and not array \
            and not values.get("CONFIG"):
        run = f"runs/{job}"
    return Path(run, "jobs").absolute() if run else None


def _option(arguments: Sequence[str], name: str) -> str:
    """The value of the last option of this name; empty without it."""
    value = ""
    for at, word in enumerate(arguments):
        if word == name and at + 1 < len(arguments):
            value = arguments[at + 1]
        elif word.startswith(f"{name}="):
            value = word.partition("=")[2]
    return value


def note(job: str, name: str, work: str, scheduler: str, text: str, *,
         after: Sequence[tuple[str, str]], resumes: str, log_file: str, request: Request,
         array: bool) -> None:
    """Record a job that ``hpc-deepfake job submit`` has submitted.

    Args:
        job: its id.
        name: of the job.
        work: as ``state.Job.work``.
        scheduler: ``slurm`` or ``pbs``.
        text: of the script.
        after: the jobs that it waits for, as (condition, id); a condition is ok or any.
        resumes: id of the previous job of a chain, or empty.
        log_file: where its output goes.
        request: variables of the script, and arguments of the program.
        array: whether it is an array.
    """
    passed_on = os.environ if scheduler == "slurm" else {}
    values = {key: request.variables.get(key) or passed_on.get(key, "")
              for key in ("RUN", "DATA", "PICTURES", "CONFIG")}
    folder = place(work, values, request.arguments, job, array=array)
    if folder is not None:
        write(folder, Entry(job, re.sub(r"[^\w.-]", "_", name), work, scheduler, ",".join(
            f"after{condition}:{other}" for condition, other in after), resumes, time.time(),
            log_file), text)
