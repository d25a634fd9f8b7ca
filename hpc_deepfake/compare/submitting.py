"""A job for each training, through the job scripts in ``jobs/``."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence

from hpc_deepfake.compare.plan import Training
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.jobs import CLONE, DIALECTS, Portable, Request, submit

_SET_BY_SCRIPT = ("--run", "--resume")  # by jobs/lib/job.sh


def submit_all(trainings: Sequence[Training], scheduler: str) -> None:
    """Submit each training, on one node, with its planned processes and threads.

    Args:
        trainings: those to submit.
        scheduler: a key of ``DIALECTS``.

    Raises:
        InputError: the job scripts are missing, or the scheduler refuses.
    """
    dialect = DIALECTS[scheduler]
    for training in trainings:
        gpu = training.settings["device"] == "gpu"
        name = "train_4gpu" if gpu else "train_cpu"
        path = CLONE / "jobs" / scheduler / f"{name}.sh"
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot read the script {path}: {error.strerror}; use the "
                             "hpc-deepfake of a clone (git clone, env/setup.sh)") from None
        processes = training.layout.processes
        resources = Portable(nodes=1, cpus_per_rank=training.layout.threads,
                             name=training.name[:15],
                             gpus_per_node=processes if gpu else None,
                             ranks_per_node=None if gpu else processes)
        site = {"SITE": os.environ["SITE"]} if os.environ.get("SITE") else {}
        request = Request(resources, variables={"RUN": str(training.path), **site},
                          arguments=_arguments(training.arguments),
                          inserted={"HPC_DEEPFAKE_HOME": str(CLONE)})
        submit(Namespace(chain=None, dry_run=False, after=None), dialect, name, text, request)


def _arguments(arguments: Sequence[str]) -> tuple[str, ...]:
    """The arguments that the job script doesn't set itself; ``--run`` is left out with its value.
    """
    at = arguments.index("--run")
    return tuple(word for word in (*arguments[:at], *arguments[at + 2:])
                 if word not in _SET_BY_SCRIPT)
