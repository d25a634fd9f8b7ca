"""The command lines that start a site's ranks, from the functions that jobs call."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import plural
from hpc_deepfake.jobs.script.request import Portable
from hpc_deepfake.jobs.site import CLONE, PREFIX, Site

SECONDS = 20  # after which bash is given up

# Arguments: the scheduler, jobs/lib, whether to ask for the launcher, and for each job its nodes,
# ranks on a node, CPUs, GPUs and device. Prints words that end with a null byte, and an empty one
# after each command: that of the container, then the launcher's.
_ASK = r"""
job_scheduler=$1 job_lib=$2 ask=$3 job_step=program
shift 3
die() { printf '%s\n' "$*" >&2; exit 2; }
show() { printf '%s\0' "$@" ''; }
source "$job_lib/container.sh" && source "$job_lib/launch.sh" || exit
while (($#)); do
    job_nodes=$1 job_ranks=$(($1 * $2)) job_cpus=$3 job_gpus=$4 contained=() launcher=()
    ! in_container || container "$5" "$PWD" "$HPC_DEEPFAKE_HOME" || exit
    [[ $ask == no ]] || launcher "$job_ranks" "$2" || exit
    show "${contained[@]}"
    show "${launcher[@]}"
    shift 5
done
"""


@dataclass(frozen=True)
class Started:
    """How the program of a job is started.

    Attributes:
        launcher: what stands before the program.
        container: what stands between the two; empty without a container, or if srun starts it.
    """

    launcher: str
    container: str


def commands(site: Site, scheduler: str, jobs: Sequence[tuple[Portable, str]]) -> list[Started]:
    """How programs are started at a site.

    Args:
        site: its words.
        scheduler: slurm or pbs.
        jobs: what each requests, and the device that it computes on.

    Raises:
        InputError: the site's words make no command.
    """
    kind = site.words.get("LAUNCHER", "auto")
    if kind == "auto":  # which MPI the modules bring is not known here
        kind = "srun" if scheduler == "slurm" else "mpirun"
    numbers = [str(number) for asked, device in jobs for number in (
        asked.nodes or 1, asked.ranks_per_node or 1, asked.cpus_per_rank or 1,
        asked.gpus_per_node or 0, device)]
    words = {PREFIX + name: value for name, value in site.words.items()}
    words |= {PREFIX + "HOME": str(CLONE), PREFIX + "LAUNCHER": kind, "SITE": site.name}
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    try:
        done = subprocess.run(
            ["bash", "-c", _ASK, "bash", scheduler, CLONE / "jobs" / "lib",
             "no" if kind == "mpirun" else "yes", *numbers], env=kept | words, timeout=SECONDS,
            stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8",
            errors="backslashreplace")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"bash can't tell how ranks are started: {error}") from None
    if done.returncode:
        raise InputError(done.stderr.strip().removeprefix("error: ")
                         or f"bash ended with exit code {done.returncode}")
    found = [shlex.join(words) for words in _commands(done.stdout)]
    return [Started(launcher or _mpirun(asked), container) for (asked, _), container, launcher
            in zip(jobs, found[::2], found[1::2], strict=True)]


def _commands(text: str) -> list[list[str]]:
    """The commands, of words that end with a null byte, and an empty one after each."""
    found: list[list[str]] = [[]]
    for word in text.split("\0")[:-1]:
        if word:
            found[-1].append(word)
        else:
            found.append([])
    return found[:-1]


def _mpirun(asked: Portable) -> str:
    """In words: its options depend on the MPI that the site's modules bring."""
    per_node, nodes = asked.ranks_per_node or 1, asked.nodes or 1
    return f"mpirun for {plural(nodes * per_node, 'rank')}, {per_node} on each node"
