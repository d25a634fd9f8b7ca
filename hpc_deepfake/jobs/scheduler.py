"""Calling ``sbatch`` and ``qsub``: their options and environment, and their answers."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.log import log
from hpc_deepfake.jobs.script import SLURM
from hpc_deepfake.jobs.script.dialect import Dialect, Directives
from hpc_deepfake.jobs.site import set_by_activation

# Variables that jobs/lib sets for a single job.
_OF_ONE_JOB = {"OMP_NUM_THREADS"} | {f"HPC_DEEPFAKE_{name}" for name in (
    "CHAIN", "STAGED", "RANK_LOGS", "ERROR_FILE", "OUTCOME_FILE")}


def environment(dialect: Dialect, changed: Iterable[str]) -> dict[str, str]:
    """Environment for sbatch or qsub: without variables that would take precedence over directives
    that the user has changed, without those that env/activate.sh has set for sbatch by hand, and
    without those of the job, if any, in which this runs. Other SBATCH_* of the user remain."""
    hidden = _OF_ONE_JOB | {"HPC_DEEPFAKE_SBATCH"} | set_by_activation("SBATCH")
    if dialect is SLURM:
        keys = set(changed)
        keys |= {key for group in SLURM.alternatives if keys & set(group) for key in group}
        hidden |= {SLURM.variable(key) for key in keys}
    inside = "SLURM_JOB_ID" in os.environ
    return {name: value for name, value in os.environ.items()
            if name not in hidden and (name == "SLURM_CONF" or not inside
                                       or not name.startswith(("SLURM_", "SRUN_")))}


def after(dialect: Dialect, jobs: Sequence[tuple[str, str]]) -> list[str]:
    """Options to start after other jobs, given as (condition, id); a condition is ok or any."""
    if not jobs:
        return []
    dependencies = ",".join(f"after{condition}:{job}" for condition, job in jobs)
    if dialect is not SLURM:  # PBS itself deletes a job that can never start
        return ["-W", f"depend={dependencies}"]
    return [f"--dependency={dependencies}", "--kill-on-invalid-dep=yes"]


def queue(command: Sequence[str], script: str, variables: Mapping[str, str],
          before: Sequence[str]) -> str:
    """Submit a script.

    Args:
        command: of the scheduler, with options.
        script: text of the script.
        variables: environment of the command.
        before: ids of the jobs submitted so far, for the message if this one fails.

    Returns:
        The job's id.

    Raises:
        InputError: the command is missing, or the scheduler refuses the job.
    """
    program = command[0]
    try:
        done = subprocess.run(command, input=script, env=variables, capture_output=True,
                              encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise InputError(f"cannot start {program} ({error.strerror}): submit on a login node of "
                         "the cluster; `hpc-deepfake job render` prints the script") from None
    job = done.stdout.strip().rpartition("\n")[2].partition(";")[0]
    if done.returncode or not job[:1].isdigit():
        answer = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        advice = ("sinfo, sacctmgr show associations user=$USER" if program == "sbatch" else
                  "qstat -Q, pbsnodes -a; where compute nodes may not submit jobs, submit on a "
                  "login node")
        if before:
            cancel = "scancel" if program == "sbatch" else "qdel"
            advice += (f".\nAlready submitted: {', '.join(before)}; to cancel them: "
                       f"{cancel} {' '.join(before)}")
        raise InputError(f"{program} refused the job: {answer}\nChange directives with --set "
                         f"KEY=VALUE or --unset KEY. What is available: {advice}")
    if done.stderr.strip():
        log.warning("%s", done.stderr.rstrip())
    return job


def log_file(dialect: Dialect, directives: Directives, job: str) -> str:
    """Path of the job's output; for an array, with * for the part that differs."""
    name = directives.get(dialect.keys["name"], "job")
    array = dialect.keys["array"] in directives
    if dialect is SLURM:
        job = "*" if array else job
        file = directives.get("output", "slurm-%j.out")
        for mark, value in (("%x", name), ("%j", job), ("%A", job)):
            file = file.replace(mark, value)
        return os.path.join(directives.get("chdir", os.getcwd()), file)
    number = re.sub(r"\D.*", "", job) + ".*" * array
    return os.path.join(os.getcwd(), directives.get("o") or f"{name}.o{number}")
