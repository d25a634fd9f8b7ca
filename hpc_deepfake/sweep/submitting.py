"""Submitting the missing trials as one job array, and a job that writes the report after it."""

from __future__ import annotations

import re
import shlex
import subprocess
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hpc_deepfake.core import json_data
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.files import write_json
from hpc_deepfake.core.json_data import dictionary, items
from hpc_deepfake.core.log import log
from hpc_deepfake.core.options import Parser
from hpc_deepfake.core.text import plural
from hpc_deepfake.jobs import active_elements, scheduler_here, submit_job
from hpc_deepfake.sweep import plan as plans
from hpc_deepfake.sweep import planning
from hpc_deepfake.sweep.plan import STOPPED, Sweep, Trial

_ARRAYS = "arrays.json"  # in the folder's jobs: the trials of each array that was submitted
_MOST = 1000  # elements: SLURM's MaxArraySize is 1001 unless a site changed it
_REPORT_TIME = "0:10:00"
# Options of `job submit` that hold for the job of the report too.
_SHARED = ("account", "partition", "queue", "qos", "site")


def submit(options: Namespace, sweep: Sweep, others: Sequence[str]) -> int:
    """Submit what has no result and is not queued.

    Args:
        options: of ``options.parser``.
        sweep: the plan.
        others: options of ``hpc-deepfake job submit``.

    Returns:
        The exit code.

    Raises:
        InputError: impossible options, the scheduler refuses the job, or it doesn't say what is
            queued already.
    """
    folder: Path = options.folder
    scheduler = scheduler_here(options.scheduler, _given(others)["site"])
    for word in others:
        if word.partition("=")[0] in ("--array", "--chain", "--after"):
            raise InputError(f"{word}: the trials are one array, which is submitted as a whole; "
                             "leave it out")
    planning.data_file(sweep)
    if options.dry_run:
        print(planning.table(folder, sweep))
    else:
        planning.keep(folder, sweep, "the submission of a sweep")
    missing, queued = planning.missing(folder, sweep), _queued(folder, sweep)
    trials = [trial for trial in missing if trial.number not in queued]
    if queued:
        print(f"already queued or running: {plural(len(queued), 'trial')}")
    if len(trials) > _MOST:
        print(f"{len(trials):,} trials are missing: an array of {_MOST:,} now, the others by the "
              "same command later")
        trials = trials[:_MOST]
    report = ["hpc-deepfake", "sweep", "report", str(folder)]
    if not trials:
        print(f"nothing to submit; the report: {shlex.join(report)}")
        return 0
    words = [scheduler, "sweep", *_size(sweep), *_array(scheduler, len(trials), options.at_once),
             "--var", f"RUN={folder}", "--var",
             f"TRIALS={' '.join(str(trial.number) for trial in trials)}", *others]
    if options.dry_run:
        submit_job([*words, "--dry-run"])
        return 0
    job, = submit_job(words)
    _remember(folder, scheduler, job, trials)
    print(f"trials: {plural(len(trials), 'element')} of job {job}, whose results go to "
          f"{folder / plans.TRIALS}")
    shared = [word for name, value in _given(others).items() if value is not None
              for word in (f"--{name}", value)]
    submit_job([scheduler, "sweep", "--kind", "small", "--nodes", "1", "--ranks-per-node", "1",
                "--cpus-per-rank", "1", "--time", _REPORT_TIME, "--name", "hd-sweep-report",
                *shared, "--var", f"RUN={folder}", "--var", "TRIALS=report", "--after",
                f"{job}:any"])
    return 0


def _size(sweep: Sweep) -> list[str]:
    per_node = sweep.ranks // sweep.nodes
    words = ["--nodes", str(sweep.nodes), "--ranks-per-node", str(per_node)]
    if sweep.device == "gpu":
        words += ["--gpus-per-node", str(per_node), "--var", "DEVICE=gpu"]
    return words


def _array(scheduler: str, trials: int, at_once: int | None) -> list[str]:
    """The array's indices; a single trial is an ordinary job, since PBS has no such array."""
    if trials == 1:
        return []
    limit = ""
    if at_once and at_once < trials:
        if scheduler == "slurm" or _limits_arrays():
            limit = f"%{at_once}"
        else:
            log.warning("note: this PBS can't limit how many elements of an array run at once "
                        "(OpenPBS 20 and PBS Professional 2020 can): --at-once is left out")
    return ["--array", f"0-{trials - 1}{limit}"]


def _limits_arrays() -> bool:
    """Whether ``qsub -J`` takes a limit, by the version of the commands; if that is unknown, it is
    tried."""
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(["qstat", "--version"], capture_output=True, encoding="utf-8",
                              errors="replace", timeout=30)
        version = re.search(r"pbs_version *= *(\d+)\.", done.stdout + done.stderr)
        return version is None or int(version[1]) >= 20
    return True


def _given(others: Sequence[str]) -> dict[str, str | None]:
    """Those of the user's options of ``job submit`` that hold for the report's job too."""
    cli = Parser(prog="hpc-deepfake sweep submit", config=False, add_help=False)
    for name in _SHARED:
        cli.add_argument(f"--{name}")
    return vars(cli.parse_known_args(list(others))[0])


def _queued(folder: Path, sweep: Sweep) -> set[int]:
    """Numbers of the trials that are queued or running, as far as this folder's records tell.

    Raises:
        InputError: the scheduler doesn't say.
    """
    queued: set[int] = set()
    for array in _arrays(folder):
        numbers = items(array.get("trials"))
        active = _active(str(array.get("scheduler")), str(array.get("id")),
                         folder / "jobs" / _ARRAYS)
        queued |= {numbers[index] for index in active if index < len(numbers)}
    for trial in sweep.trials:
        if trial.number in queued or plans.state(folder, trial)[0] != STOPPED:
            continue
        record, successor = plans.path(folder, trial) / "jobs" / "next", ""
        with suppress(OSError):  # a job that resumes it: PBS gives it another id
            successor = record.read_text().strip()
        if successor and _active("pbs", successor, record):
            queued.add(trial.number)
    return queued


def _active(scheduler: str, job: str, record: Path) -> set[int]:
    """As ``active_elements``; the message names the record of the job."""
    try:
        return active_elements(scheduler, job)
    except InputError as error:
        raise InputError(f"nothing was submitted: {error}\nOnce more when it answers; if it never "
                         f"will, and no job of this sweep is left, delete {record}") from None


def _arrays(folder: Path) -> list[dict[str, object]]:
    with suppress(OSError, ValueError):
        return [dictionary(array) for array in
                items(json_data.read(folder / "jobs" / _ARRAYS))]
    return []


def _remember(folder: Path, scheduler: str, job: str, trials: Sequence[Trial]) -> None:
    """Keep which element of the array is which trial, with the arrays submitted before."""
    arrays = [*_arrays(folder), {"scheduler": scheduler, "id": job,
                                 "trials": [trial.number for trial in trials]}]
    (folder / "jobs").mkdir(exist_ok=True)
    write_json(folder / "jobs" / _ARRAYS, arrays)
