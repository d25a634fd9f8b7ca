"""Which elements of a job array have not ended."""

from __future__ import annotations

import re

from hpc_deepfake.jobs.accounting.values import answer
from hpc_deepfake.jobs.queue import pbs

_PATIENCE = 30.0  # seconds for an answer of the scheduler
_ACTIVE = "PENDING,RUNNING,SUSPENDED,CONFIGURING,COMPLETING,REQUEUED,SIGNALING,STAGE_OUT"


def active_elements(scheduler: str, job: str) -> set[int]:
    """Indices of the elements of an array that wait or run; 0 for a job that is no array.

    Args:
        scheduler: ``slurm`` or ``pbs``.
        job: id of the array, as the scheduler printed it.

    Returns:
        None of them where the scheduler doesn't know the job, or doesn't answer.
    """
    if scheduler == "pbs":
        ids = [element.id for element in pbs.ask([job], _PATIENCE)[0] if element.active]
        pattern = r"\d+(?:\[(\d+)\])?(?:\..*)?"  # the array itself, 12[], is no element
    else:
        text, _ = answer("squeue", "--noheader", "--array", f"--states={_ACTIVE}", f"--jobs={job}",
                         "--format=%i", patience=_PATIENCE)
        ids, pattern = text.split(), r"\d+(?:_(\d+))?"
    matches = (re.fullmatch(pattern, found) for found in ids)
    return {int(match[1] or 0) for match in matches if match}
