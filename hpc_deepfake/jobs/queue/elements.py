"""Which elements of a job array have not ended."""

from __future__ import annotations

import re

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import printable
from hpc_deepfake.jobs.accounting.values import answer, ask_anew
from hpc_deepfake.jobs.queue import pbs

_PATIENCE = 30.0  # seconds for an answer of the scheduler
_ACTIVE = "PENDING,RUNNING,SUSPENDED,CONFIGURING,COMPLETING,REQUEUED,SIGNALING,STAGE_OUT"
# Answers that a job has ended; any other failure tells nothing about it.
_ENDED = re.compile(r"Invalid job id|Unknown Job|has finished", re.IGNORECASE)


def active_elements(scheduler: str, job: str) -> set[int]:
    """Indices of the elements of an array that wait or run; 0 for a job that is no array.

    Args:
        scheduler: ``slurm`` or ``pbs``.
        job: id of the array, as the scheduler printed it.

    Returns:
        None of them where the scheduler doesn't know the job.

    Raises:
        InputError: the scheduler doesn't say.
    """
    ask_anew()
    if scheduler == "pbs":
        jobs, problem = pbs.ask([job], _PATIENCE)
        ids = [element.id for element in jobs if element.active]
        pattern = r"\d+(?:\[(\d+)\])?(?:\..*)?"  # the array itself, 12[], is no element
    else:
        text, problem = answer("squeue", "--noheader", "--array", f"--states={_ACTIVE}",
                               f"--jobs={job}", "--format=%i", patience=_PATIENCE)
        problem = problem and f"squeue: {problem.removeprefix('squeue: ')}"
        ids, pattern = text.split(), r"\d+(?:_(\d+))?"
    if problem and not _ENDED.search(problem):
        raise InputError("it is not known what is queued or running (asked for job "
                         f"{printable(job)}): {printable(problem)}")
    matches = (re.fullmatch(pattern, found) for found in ids)
    return {int(match[1] or 0) for match in matches if match}
