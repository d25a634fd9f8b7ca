"""A job for each training, through the job scripts in ``jobs/``."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence

from hpc_deepfake.compare.plan import Training
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.jobs import CLONE, DIALECTS, Portable, Request, submit

_FROM_SCRIPT = ("--run", "--resume")  # jobs/lib/job.sh gives them


def submit_all(trainings: Sequence[Training], scheduler: str) -> None:
    """Submit each, on one node, with the processes and threads that it has in the plan.

    Raises:
        InputError: no job scripts here, or the scheduler refuses.
    """
    dialect = DIALECTS[scheduler]
    for one in trainings:
        gpu = one.settings["device"] == "gpu"
        name = "train_4gpu" if gpu else "train_cpu"
        path = CLONE / "jobs" / scheduler / f"{name}.sh"
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot read the script {path}: {error.strerror}; use the "
                             "hpc-deepfake of a clone (git clone, env/setup.sh)") from None
        processes = one.layout.processes
        asked = Portable(nodes=1, cpus_per_rank=one.layout.threads, name=one.name[:15],
                         **{"gpus_per_node" if gpu else "ranks_per_node": processes})
        site = {"SITE": os.environ["SITE"]} if os.environ.get("SITE") else {}
        request = Request(asked, variables={"RUN": str(one.path), **site},
                          arguments=_without(one.arguments),
                          inserted={"HPC_DEEPFAKE_HOME": str(CLONE)})
        submit(Namespace(chain=None, dry_run=False, after=None), dialect, name, text, request)


def _without(arguments: Sequence[str]) -> tuple[str, ...]:
    """What the script doesn't give itself; ``--run`` with its value."""
    at = arguments.index("--run")
    return tuple(one for one in (*arguments[:at], *arguments[at + 2:])
                 if one not in _FROM_SCRIPT)
