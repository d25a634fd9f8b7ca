"""What is wrong or missing in a site file, as far as that shows without the site."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from hpc_deepfake.jobs.script.template import places
from hpc_deepfake.jobs.site import KINDS, PREFIX, Site, placeholders

_MPI = re.compile(r"(?i)mpi|PrgEnv|conda|intel")
_FILES = {"ENV": "environment", "IMAGE": "image", "PROFILE": "profile script",
          "BIND": "folder to bind", "DATA": "folder of pictures"}
_OF_SLURM = ("SRUN_MPI", "SRUN_OPTIONS")
_OF_PBS = ("RESOURCES", *(f"{kind.upper()}_RESOURCES" for kind in KINDS), "RESUBMIT",
           "STOP_MARGIN")


def problems(site: Site, scheduler: str) -> Iterator[str]:
    """What must be fixed before a job is submitted."""
    words = site.words
    yield from placeholders(site)
    if scheduler == "pbs" and words.get("LAUNCHER") == "srun":
        yield f"{site.place('LAUNCHER')}: srun is SLURM's, but the scheduler is pbs"
    for name in ("PARTITION", "ACCOUNT"):
        of_kind = {kind: words.get(site.word(name, kind)) for kind in KINDS}
        missing = [kind for kind, value in of_kind.items() if not value]
        if missing and len(missing) < len(KINDS):
            yield (f"{site.where}: no {name.lower()} for {' and '.join(missing)} jobs: set "
                   f"{PREFIX}{missing[0].upper()}_{name}, or {PREFIX}{name} for all")
    if words.get("GPUS") == "0" and words.get("DEVICE", "gpu") == "gpu":
        yield (f"{site.place('GPUS')}: without GPUs, jobs that compute on them fail: set "
               f"{PREFIX}DEVICE=cpu")
    if words.get("CONTAINER") and not words.get("IMAGE"):
        yield f"{site.place('CONTAINER')}: names a container, but there is no {PREFIX}IMAGE"


def notes(site: Site, scheduler: str, machine: Path = Path("/")) -> Iterator[str]:
    """What may be right, and what this machine can't tell."""
    words = site.words
    container = words.get("IMAGE") or "--environment" in words.get("SRUN_OPTIONS", "")
    if not container and not any(map(_MPI.search, site.modules)):
        yield ("no module of an MPI is loaded" if site.modules else "no modules are loaded") + (
            ": right where MPI belongs to the system, as on Debian")
    own = words.get("LAUNCHER", "auto")
    if own not in ("auto", "srun", "mpirun") and not {"nodes", "ranks"} & set(places(own)):
        yield (f"the launcher '{own}' is not told how many ranks to start: {{ranks}} and "
               "{per_node}")
    unused = [name for name in (_OF_PBS if scheduler == "slurm" else _OF_SLURM) if name in words]
    if unused:
        yield f"not used with {scheduler}: {', '.join(PREFIX + name for name in unused)}"
    if words.get("DEVICE") == "cpu" and words.get("GPUS") != "0":
        yield (f"jobs still request GPUs, although they compute on CPUs ({PREFIX}DEVICE); to "
               f"request none: {PREFIX}GPUS=0")
    if site.environment.get("MPICH_GPU_SUPPORT_ENABLED") == "1" and not any(
            module.startswith("craype-accel-") for module in site.modules):
        yield ("MPICH_GPU_SUPPORT_ENABLED=1 stops every rank (\"GTL library is not linked\") unless"
               " MPI is linked with the module craype-accel-…; these programs set it to 0 then")
    if site.missing:
        yield f"commands that this machine lacks were skipped: {', '.join(site.missing)}"
    yield from site.failed
    yield from _elsewhere(words, machine)


def _elsewhere(words: Mapping[str, str], machine: Path) -> Iterator[str]:
    """What this machine lacks, and the site may have."""
    lacking = []
    interface = words.get("INTERFACE", "")
    if interface and not (machine / "sys/class/net" / interface).exists():
        lacking.append(f"network interface {interface}")
    for name, kind in _FILES.items():
        paths = words.get(name, "").split(":" if name == "BIND" else None)
        lacking += [f"{kind} {path}" for path in paths
                    if path.startswith("/") and not (machine / path[1:]).exists()]
    command = words.get("LAUNCHER", "auto").split()[0]
    if command not in ("auto", "srun", "mpirun") and not shutil.which(command):
        lacking.append(f"launcher {command}")
    if lacking:
        yield f"not on this machine: {', '.join(lacking)}"
