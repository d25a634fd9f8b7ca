"""A PBS server that is played: ``qsub``, ``qstat``, ``qdel``, ``qrls``, ``pbs_tmrsh``,
``pbsnodes`` and ``qrerun`` in a folder for PATH, which answer as OpenPBS 23 does and really run
what is submitted.

Formats and messages are those of OpenPBS's source (github.com/openpbs/openpbs) and of a real
OpenPBS 23.06. What is played: a copy of the script in a spool folder, run in $HOME with umask 077
and PBS's variables; PBS_NODEFILE; the walltime, with TERM and then KILL; dependencies, which delete
what can't start any more; arrays; routing queues; finished jobs that are only listed with -x;
refusals; resources_used that nobody has sampled. All hosts are this machine.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from speed import limit

PROGRAMS = Path(__file__).resolve().parent / "played" / "pbs"

# What the jobs start instead of Python: it does what the plan says (PlayedPbs.plan).
_STAND_IN = """#!/bin/bash
# Programs of the project, played: python -m MODULE …
case "$*" in
    *"cli doctor"*) name=doctor ;;
    *"-m preprocessing"*) name=preprocess ;;
    *"-m hpc_deepfake.train"*) name=train ;;
    *"cli evaluate"*) name=evaluate ;;
    *) exit 0 ;;
esac
exec 8>"$PLAYED_PBS/plan.lock"
flock 8 # each line counts once, also if two programs start together
do=$(sed -n "s/^$name //p" "$PLAYED_PBS/plan" | sed -n '1p')
[[ -z $do ]] || sed -i "0,/^$name /{/^$name /d}" "$PLAYED_PBS/plan"
exec 8>&-
end() { echo "$1" >"$HPC_DEEPFAKE_OUTCOME_FILE"; exit "$1"; }
trap 'end 75' USR1
trap 'exit 1' TERM # as mpirun
[[ $do != stays ]] || trap '' USR1 TERM
echo "$PBS_JOBID $name $*" >>"$PLAYED_PBS/programs"
case $do in
    wait | stays) until false; do sleep 0.1; done ;;
    dies) exit 1 ;;
    after*) while qstat "${do#after }" >/dev/null 2>&1; do sleep 0.1; done && end 0 ;;
    *) end "${do:-0}" ;;
esac
"""


class PlayedPbs:
    """The server, and a user's shell on the login node.

    Args:
        folder: for all that it keeps.
        config: differences from ``DEFAULTS`` in played/pbs/records.py.
    """

    def __init__(self, folder: Path, **config: Any) -> None:
        self.folder = folder
        for name in ("start", "aux", "spool", "home", "tmp"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.configure(**config)
        (folder / "plan").touch()
        self.environment = {"PATH": f"{PROGRAMS / 'bin'}:{os.environ['PATH']}",
                            "PLAYED_PBS": str(folder), "HOME": str(folder / "home")}
        self._server = subprocess.Popen(
            ["python3", "-IS", PROGRAMS / "command.py", "serve"], stdin=subprocess.DEVNULL,
            env={**os.environ, **self.environment})

    def configure(self, **config: Any) -> None:
        """Other settings from now on."""
        (self.folder / "config.json").write_text(json.dumps(config))

    def close(self) -> None:
        """The server ends, and all jobs with it."""
        self._server.terminate()
        self._server.wait(limit(30))

    def shell(self, *command: str | Path, cwd: Path,
              **variables: str) -> subprocess.CompletedProcess[str]:
        """A command on the login node, with these variables."""
        return subprocess.run(command, cwd=cwd, text=True, capture_output=True,
                              stdin=subprocess.DEVNULL, timeout=limit(120),
                              env={**self.environment, **variables})

    def submit(self, script: Path, *options: str, cwd: Path, **variables: str) -> str:
        """``qsub OPTIONS -v NAME=VALUE,… SCRIPT``; returns the job's id."""
        given = ",".join(f"{name}=" + re.sub(r"([\\,'\"])", r"\\\1", value)
                         for name, value in variables.items())
        done = self.shell("qsub", *options, *(["-v", given] if given else []), str(script), cwd=cwd)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def plan(self, *lines: str) -> None:
        """What the next programs do, one line each: ``train 75`` (this exit code), ``train wait``
        (until USR1, then 75), ``train stays`` (until KILL), ``train dies`` (without an outcome)
        or ``train after 7.server`` (until that job has ended). Others succeed at once."""
        (self.folder / "plan").write_text("".join(f"{line}\n" for line in lines))

    def stand_in(self) -> dict[str, str]:
        """Variables for jobs whose programs follow the plan: one process, started by ``env``."""
        programs = self.folder / "env" / "bin"
        programs.mkdir(parents=True, exist_ok=True)
        (programs / "python").write_text(_STAND_IN)
        (programs / "python").chmod(0o755)
        return {"HPC_DEEPFAKE_ENV": str(programs.parent), "DOCTOR": "off",
                "HPC_DEEPFAKE_LAUNCHER": "env RANKS={ranks}"}

    def real_programs(self) -> dict[str, str]:
        """Variables for jobs that run real ranks on this machine."""
        return {"HPC_DEEPFAKE_ENV": sys.prefix, "OMPI_ALLOW_RUN_AS_ROOT": "1",
                "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1",
                "OMPI_MCA_btl_tcp_if_include": "lo", "OMPI_MCA_oob_tcp_if_include": "lo"}

    @property
    def jobs(self) -> dict[str, dict[str, Any]]:
        """All jobs by id, the oldest first, with attributes as in ``qstat -xf``."""
        file = self.folder / "jobs.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def wait(self, job: str, state: str = "FX", seconds: float = 20) -> dict[str, Any]:
        """A job's attributes once it is in one of these states."""
        deadline = time.monotonic() + limit(seconds)
        while (facts := self.jobs[job])["job_state"] not in state:
            assert time.monotonic() < deadline, (facts["job_state"], self.log(job))
            time.sleep(0.05)
        return facts

    def wait_all(self, seconds: float = 60) -> dict[str, dict[str, Any]]:
        """All jobs, once none is left that runs or waits."""
        deadline = time.monotonic() + limit(seconds)
        while not all(job.get("_over") for job in self.jobs.values()):
            assert time.monotonic() < deadline, {
                job: facts["job_state"] for job, facts in self.jobs.items()}
            time.sleep(0.05)
        return self.jobs

    def log(self, job: str) -> str:
        """What a job printed."""
        file = Path(self.jobs[job]["Output_Path"].split(":", 1)[1])
        return file.read_text() if file.exists() else ""
