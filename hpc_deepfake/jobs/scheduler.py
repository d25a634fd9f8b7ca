"""Calling ``sbatch`` and ``qsub``: their options and environment, and their answers."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.log import log
from hpc_deepfake.jobs.queue.state import is_id
from hpc_deepfake.jobs.script import SLURM
from hpc_deepfake.jobs.script.dialect import Dialect, Directives
from hpc_deepfake.jobs.site import set_by_activation

_PATIENCE = 10.0  # seconds until it is said that a submission takes long
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
    """Submit a script, however long the scheduler takes.

    Args:
        command: of the scheduler, with options.
        script: text of the script.
        variables: environment of the command.
        before: ids of the jobs submitted so far, for the message if this one fails.

    Returns:
        The job's id.

    Raises:
        InputError: the command is missing, the scheduler refuses the job, or it gives no id.
    """
    program = command[0]
    slurm = program == "sbatch"
    look = "squeue --me" if slurm else "qstat -u $USER"
    status, output, errors = _run(command, script, variables, look)
    answer = (errors or output).strip()
    job = _id(output)
    if not status and job:
        if errors.strip():
            log.warning("%s", errors.rstrip())
        return job
    if status:
        message = (f"{program} refused the job: {answer or f'exit code {status}'}\nChange "
                   "directives with --set KEY=VALUE or --unset KEY. What is available: ")
        message += ("sinfo, sacctmgr show associations user=$USER" if slurm else "qstat -Q, "
                    "pbsnodes -a; where compute nodes may not submit jobs, submit on a login node")
    else:
        message = f"{program} ended well but gave no job id: look in {look}"
        message += f". It printed: {answer}" if answer else ""
    if before:
        message += (f".\nAlready submitted: {', '.join(before)}; to cancel them: "
                    f"{'scancel' if slurm else 'qdel'} {' '.join(before)}")
    raise InputError(message)


def _run(command: Sequence[str], script: str, variables: Mapping[str, str],
         look: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command that submits; ``look`` shows what is queued."""
    program = command[0]
    try:
        process = subprocess.Popen(command, env=variables, encoding="utf-8",
                                   errors="backslashreplace", stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        raise InputError(f"cannot start {program} ({error.strerror}): submit on a login node of "
                         "the cluster; `hpc-deepfake job render` prints the script") from None
    with process:
        try:
            try:
                output, errors = process.communicate(script, _PATIENCE)
            except subprocess.TimeoutExpired:
                log.info("waiting for %s, which has not answered for %g s", program, _PATIENCE)
                output, errors = process.communicate()
        except KeyboardInterrupt:
            process.kill()
            log.warning("\nnote: %s may have queued the job: look in %s", program, look)
            raise
    return process.returncode, output, errors


def _id(output: str) -> str:
    """The job's id in the output of sbatch, which may ignore --parsable, or of qsub, whatever else
    a site's wrapper prints; empty without one."""
    for line in reversed(output.split("\n")):
        match = re.fullmatch(r"(?:Submitted batch job +)?(\d\S*?)(?:;.*| on cluster .*)?",
                             line.strip())
        if match and is_id(match[1]):
            return match[1]
    return ""


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
