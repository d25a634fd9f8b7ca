"""The run directory: settings, environment, metrics and results of a run."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import hpc_deepfake
from hpc_deepfake.core import files, holder, json_data
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.log import log
from hpc_deepfake.core.text import plural
from hpc_deepfake.network.ensemble import NAME as ENSEMBLE

_PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "horovod", "mpi4py", "h5py", "numpy",
             "pillow", "opencv-python-headless")
# environment variables that are recorded: no tokens, no names of people
_VARIABLES = ("SLURM_JOB_ID", "SLURM_JOB_NUM_NODES", "SLURM_NTASKS", "SLURM_CPUS_PER_TASK",
              "SLURM_GPUS_PER_NODE", "SLURM_RESTART_COUNT", "PBS_JOBID", "PBS_NUM_NODES", "NCPUS",
              "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "LOADEDMODULES", "SITE")
_PREFIXES = ("HOROVOD_", "NCCL_", "UCX_", "PRTE_MCA_rmaps", "PRTE_MCA_hwloc", "TF_CPP_",
             "TF_ENABLE_", "TF_XLA_", "TF_GPU_", "TF_DETERMINISTIC_", "TF_CUDNN_", "NVIDIA_TF32_",
             *(f"OMPI_MCA_{framework}" for framework in (
                 "btl", "coll", "hwloc_base", "mpi_yield", "osc", "pml", "rmaps")))

# files that only the training writes, unlike the report
_OWN = ("config.json", "environment.json", "metrics.jsonl", "model.keras", "model.json",
        "model.pictures.h5", "summary.json", "predictions.csv", "diverged.json", "initial.json",
        "network.json")


def default_run() -> Path:
    """``runs/<job id>`` under a scheduler, ``runs/<time>`` elsewhere."""
    job = os.environ.get("SLURM_JOB_ID") or os.environ.get("PBS_JOBID")
    return Path("runs") / (job or time.strftime("%Y-%m-%dT%H-%M-%S"))


class RunDir:
    """Writes the files of one run; rank 0 only."""

    def __init__(self, path: Path, resume: bool = False) -> None:
        """Create the directory, or with ``resume`` reopen an existing one; this process holds it.

        Raises:
            InputError: it can't be created, another process holds it, or it already holds a run.
        """
        self.path = path
        check(path, resume)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot create the run directory {path}: {error.strerror}; "
                             "choose another place with --run") from None
        holder.hold(path, "a training", "--run")
        files.remove_temporary(path, *_OWN, "report.html", "timeline.json")
        files.remove_temporary(path / "checkpoints")
        check(path, resume)  # another job may have started there since

    def forget_from(self, epoch: int) -> None:
        """Drop the metrics of this and later epochs, which will be run again."""
        file = self.path / "metrics.jsonl"
        if file.exists():
            kept = []
            for line in file.read_text(encoding="utf-8", errors="replace").split("\n"):
                with suppress(ValueError, KeyError, TypeError):  # an incomplete line
                    if json_data.parse(line)["epoch"] < epoch:
                        kept.append(line)
            files.write_text(file, "".join(f"{line}\n" for line in kept))
            lost = sorted(set(range(1, epoch)) - {json_data.parse(line)["epoch"] for line in kept})
            if lost:
                log.warning(f"warning: {file} has no readable line of {plural(len(lost), 'epoch')} "
                            f"({', '.join(map(str, lost))}); it continues without")

    def unfinish(self) -> None:
        """Drop the results of a finished run, which is continued."""
        for name in ("summary.json", "predictions.csv", "report.html"):
            self.remove(name)

    def remove(self, name: str) -> None:
        """Remove one of the run's files, if it is there."""
        holder.verify(self.path / name)
        (self.path / name).unlink(missing_ok=True)

    def computed(self) -> dict[str, Any]:
        """What the summary of a finished run says of the programs that computed it."""
        summary = self.recorded("summary.json")
        return {name: summary[name] for name in ("strategy", "ranks", "seconds", "usage",
                                                 "allreduce", "deterministic", "compiled")
                if name in summary}

    def recorded(self, name: str) -> dict[str, Any]:
        """The content of one of the run's JSON files; empty without one."""
        try:
            return json_data.dictionary(json_data.read(self.path / name))
        except (OSError, ValueError):
            return {}

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Write a JSON file whole."""
        files.write_json(self.path / name, value)

    def append(self, name: str, value: dict[str, Any]) -> None:
        """Add a line to a JSON-lines file."""
        holder.verify(self.path / name)
        path = self.path / name
        with files.writing(path), open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(files.finite_only(value)) + "\n")


def check(path: Path, resume: bool, of_ensemble: bool = False) -> None:
    """Raise InputError if ``path`` can't be a new run's directory, or with ``resume`` a run's; or
    an ensemble's folder."""
    if path.exists() and not path.is_dir():
        raise InputError(f"--run {path} is a file: name a folder for the run")
    other = _other_file(path)
    if other is not None:
        raise InputError(f"--run {path} is a folder of other files, such as {other}: name a new "
                         "folder, or that of a run")
    if (path / ENSEMBLE).exists() and not of_ensemble:
        raise InputError(f"--run {path} holds an ensemble: name another folder, or give --seeds to "
                         "continue it")
    if not resume and any((path / name).exists() for name in ("metrics.jsonl", "checkpoints")):
        raise InputError(f"the run directory {path} already holds a run: continue it with "
                         "--resume, or choose another --run")


def _other_file(path: Path) -> str | None:
    """A file in a folder that holds no run, other than logs and options of one to come; None if
    there is none."""
    try:
        names = sorted(os.listdir(path))
    except OSError:  # it doesn't exist, or the next step says why it can't be used
        return None
    if {*_OWN, ENSEMBLE, "checkpoints", "jobs", holder.NAME} & set(names):
        return None
    return next((name for name in names if not name.startswith(".")
                 and not re.fullmatch(r"seed-\d+", name)  # of members of an ensemble
                 and not name.endswith((".out", ".err", ".log", ".toml"))), None)


def environment(ranks: list[dict[str, Any]]) -> dict[str, Any]:
    """What a run ran on: versions, MPI, source revision, scheduler, and ``ranks`` as given."""
    from mpi4py import MPI

    versions = {"hpc_deepfake": hpc_deepfake.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    variables = {name: value for name, value in sorted(os.environ.items())
                 if name in _VARIABLES or name.startswith(_PREFIXES)}
    return {"versions": versions, "mpi": MPI.Get_library_version().split("\n")[0].strip("\0 "),
            "platform": platform.platform(), "command": sys.argv, "git": _revision(),
            "ranks": ranks, "variables": variables,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z")}


def _revision() -> str | None:
    """Commit of the clone that contains this file, with ``+changes`` if files were changed; None
    without git."""
    package = Path(__file__).resolve().parent.parent
    try:
        done = subprocess.run(["git", "-C", package, "describe", "--always", "--dirty=+changes",
                               "--abbrev=40", "--exclude=*"], capture_output=True, text=True,
                              timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
