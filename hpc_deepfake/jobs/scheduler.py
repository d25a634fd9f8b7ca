"""Calling ``sbatch`` and ``qsub``: with which options and environment, and what they answer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.jobs.script import SLURM
from hpc_deepfake.jobs.script.dialect import Dialect, Directives

# What jobs/lib sets for one job.
_OF_ONE_JOB = {"OMP_NUM_THREADS"} | {f"HPC_DEEPFAKE_{name}" for name in (
    "CHAIN", "STAGED", "RANK_LOGS", "ERROR_FILE", "OUTCOME_FILE")}
_SITE = {option: f"HPC_DEEPFAKE_{option.upper()}" for option in ("account", "partition", "qos")}


def environment(dialect: Dialect, changed: Iterable[str]) -> dict[str, str]:
    """For sbatch or qsub: without what would win over the changed directives, and without what
    the job around this one, if there is one, was given."""
    hidden = set(_OF_ONE_JOB)
    if dialect is SLURM:
        changed = set(changed)
        changed |= {key for group in SLURM.alternatives if changed & set(group) for key in group}
        hidden |= {SLURM.variable(key) for key in changed}
    inside = "SLURM_JOB_ID" in os.environ
    return {name: value for name, value in os.environ.items()
            if name not in hidden and (name == "SLURM_CONF" or not inside
                                       or not name.startswith(("SLURM_", "SRUN_")))}


def site_words(dialect: Dialect, asked: Directives, variables: Mapping[str, str]) -> list[str]:
    """Options for what the site file says and neither the script nor SLURM's variables do."""
    words = []
    for option, name in _SITE.items():
        key, value = dialect.keys[option], variables.get(name)
        told = key in asked or (dialect is SLURM and SLURM.variable(key) in variables)
        if value and not told:
            words += dialect.option(key, value)
    return words


def after(dialect: Dialect, jobs: Sequence[tuple[str, str]]) -> list[str]:
    """Options for a start after other jobs, given as (how, id)."""
    if not jobs:
        return []
    listed = ",".join(f"after{how}:{job}" for how, job in jobs)
    if dialect is not SLURM:  # PBS deletes a job that can never start by itself
        return ["-W", f"depend={listed}"]
    return [f"--dependency={listed}", "--kill-on-invalid-dep=yes"]


def queue(command: Sequence[str], script: str, variables: Mapping[str, str],
          before: Sequence[str]) -> str:
    """Submit; returns the job's id.

    Raises:
        InputError: the scheduler isn't there, or refuses. Names the jobs submitted ``before``.
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
        said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        advice = ("what there is: sinfo, sacctmgr show associations user=$USER" if
                  program == "sbatch" else "what there is: qstat -Q, pbsnodes -a; where compute "
                  "nodes may not submit, do it on a login node")
        if before:
            remove = "scancel" if program == "sbatch" else "qdel"
            advice += (f".\nSubmitted before that: {', '.join(before)}; to take them back: "
                       f"{remove} {' '.join(before)}")
        raise InputError(f"{program} refused the job: {said}\nChange directives with --set "
                         f"KEY=VALUE or --unset KEY; {advice}")
    sys.stderr.write(done.stderr)  # warnings
    return job


def log_file(dialect: Dialect, asked: Directives, job: str) -> str:
    """Where the job's output will be; of an array, with * for what differs."""
    name, array = asked.get(dialect.keys["name"], "job"), dialect.keys["array"] in asked
    if dialect is SLURM:
        job = "*" if array else job
        file = asked.get("output", "slurm-%j.out")
        for mark, value in (("%x", name), ("%j", job), ("%A", job)):
            file = file.replace(mark, value)
        return os.path.join(asked.get("chdir", os.getcwd()), file)
    number = re.match(r"\d*", job)[0] + ".*" * array
    return os.path.join(os.getcwd(), asked.get("o") or f"{name}.o{number}")
