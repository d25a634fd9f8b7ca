"""``hpc-deepfake job status``, ``logs`` and ``cancel``: jobs from their submission to their end.

What is known of a job comes from the records that it and its submission leave (``records``,
``journal``) and from its scheduler (``slurm``, ``pbs``); ``lookup`` puts both together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hpc_deepfake.jobs.queue import cancel, logs, status

COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "status": status.main, "logs": logs.main, "cancel": cancel.main}
