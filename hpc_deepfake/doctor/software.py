"""Versions: whether they are the same on all ranks, and those that were tested together."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

import hpc_deepfake
from hpc_deepfake.core import surroundings
from hpc_deepfake.core.nodes import label
from hpc_deepfake.core.text import plural, printable
from hpc_deepfake.doctor.place import Place
from hpc_deepfake.doctor.report import FAIL, INFO, OK, WARN, Record
from hpc_deepfake.doctor.stack import remedy, without_metadata

_SETUP = remedy("build the environment:\n  env/setup.sh")
_COMMON = {"NumPy": ("numpy",), "mpi4py": ("mpi4py",), "h5py": ("h5py",)}
_PACKAGES = {
    "preprocess": {**_COMMON, "OpenCV": ("opencv-python-headless", "opencv-python"),
                   "Pillow": ("pillow",)},
    "train": {**_COMMON, "TensorFlow": ("tensorflow", "tensorflow-cpu"), "Keras": ("keras",),
              "Horovod": ("horovod",)},
}
MISSING, UNKNOWN = "missing", "of unknown version"
PINS = Path(hpc_deepfake.__file__).resolve().parent.parent / "env" / "versions.txt"


def installed(purpose: str) -> dict[str, str]:
    """Versions of the packages that the purpose needs, ``missing`` without one. Imports only the
    light packages."""
    by_name = {"hpc_deepfake": hpc_deepfake.__version__, "Python": platform.python_version()}
    for name, packages in _PACKAGES[purpose].items():
        by_name[name] = next(filter(None, map(_version, packages)),
                             UNKNOWN if without_metadata(name) else MISSING)
    import h5py
    import numpy  # noqa: F401 (to load its libraries)

    by_name["HDF5"] = h5py.version.hdf5_version
    if purpose == "preprocess":
        import cv2  # noqa: F401
        import PIL.Image  # noqa: F401
    return by_name


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions(place: Place, purpose: str) -> list[Record]:
    """Compare the versions of all ranks; collective. Rank 0 has the records."""
    try:
        by_name = installed(purpose)
    except Exception as error:  # a library that doesn't load; other ranks wait in the gather
        by_name = {"import": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    place.meet()
    by_rank = place.comm.gather(by_name)
    return judge(by_rank, place.hosts, place.nodes) if by_rank else []


def judge(by_rank: list[dict[str, str]], hosts: tuple[str, ...],
          nodes: tuple[int, ...]) -> list[Record]:
    """Verdicts on the versions of each rank, in rank order."""
    broken = [rank for rank, by_name in enumerate(by_rank) if "import" in by_name]
    if broken:
        text = f"{label(broken, hosts, nodes)}: {by_rank[broken[0]]['import']}"
        return [Record("versions", text, FAIL, f"a package is missing or doesn't load; {_SETUP}",
                       scope="all")]
    first = by_rank[0]
    names = [name for name in first if name != "HDF5"]
    text = ", ".join(f"{name} {first[name]}" + f" (HDF5 {first.get('HDF5')})" * (name == "h5py")
                     for name in names)
    missing = MISSING in first.values()
    records = [Record("versions", text, FAIL if missing else OK, _SETUP, scope="all")]
    differing: dict[tuple[str, ...], list[int]] = {}
    for rank, by_name in enumerate(by_rank):
        if by_name != first:
            differences = tuple(f"{name} {version}" for name, version in by_name.items()
                                if first.get(name) != version)
            differing.setdefault(differences, []).append(rank)
    if differing:
        text = "; ".join(f"{label(ranks, hosts, nodes)}: {', '.join(differences)}"
                         for differences, ranks in list(differing.items())[:4])
        records.append(Record("the same on all", f"no: {text}", FAIL,
                              "all nodes must use one environment, on a shared file system; in the "
                              "job, before srun or mpirun:\n"
                              "  source env/activate.sh", scope="all"))
    elif len(by_rank) > 1:
        records.append(Record("the same on all", f"yes, {plural(len(by_rank), 'rank')}"))
    return records


def pinned(pins: Path = PINS) -> Record | None:
    """Whether the installed versions are those of env/versions.txt; None without a clone."""
    if not pins.is_file():
        return None
    tested = {canonical(name): version for name, version in
              re.findall(r"^([\w.-]+)==(\S+)", pins.read_text(encoding="utf-8"), re.MULTILINE)}
    present = {canonical(package.metadata["Name"] or ""): package.version
               for package in importlib.metadata.distributions()}
    wrong = [f"{name} {present[name]} (not {version})" for name, version in sorted(tested.items())
             if present.get(name, version) != version]
    if wrong:
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        return Record("tested versions", ", ".join(wrong[:4]) + more, WARN,
                      "these are not the versions that were tested together (env/versions.txt). "
                      "Unless this is intended, PYTHONPATH of a module may hide them. To get "
                      "them:\n"
                      "  unset PYTHONPATH && env/setup.sh", scope="all")
    matching = plural(len(tested.keys() & present.keys()), "package")
    return Record("tested versions", f"{matching} as in env/versions.txt")


def other_settings() -> list[Record]:
    """What other work has set in this process's environment, and what became of it."""
    records = [judge_decisions(surroundings.decisions),
               *judge_gpu_support(surroundings.decisions, os.environ)]
    folder = os.environ.get("TMPDIR", "")
    if folder and not surroundings.usable(folder):
        why = "has characters that MPI doesn't accept"
        if not os.path.isdir(folder):
            why = "doesn't exist"
        elif not os.access(folder, os.W_OK | os.X_OK):
            why = "can't be written to"
        records.append(Record("TMPDIR", f"{folder} {why}", WARN,
                              "MPI's temporary files, and others' too, go elsewhere; to choose "
                              "where:\n  export TMPDIR=/tmp"))
    return records


def judge_decisions(decisions: list[surroundings.Decision]) -> Record:
    """The settings that the project's programs don't follow."""
    if not decisions:
        return Record("other settings", "none that would be in the way")
    text = printable("; ".join(f"{decision.name}: {decision.value}" for decision in decisions))
    return Record("other settings", f"not followed by these programs: {text}", INFO)


def judge_gpu_support(decisions: list[surroundings.Decision],
                      environ: Mapping[str, str]) -> list[Record]:
    """What became of a request that Cray MPICH handles arrays in the GPU's memory; empty without
    one."""
    name = surroundings.GPU_SUPPORT
    if any(decision.name == name for decision in decisions):
        return [Record("GPU-aware MPI", f"off: {name}=1 is not followed, since mpi4py's MPI is not "
                       "linked with libmpi_gtl, and would end every rank. Nothing is lost: arrays "
                       "of GPUs are reduced by NCCL", INFO)]
    if environ.get(name, "0") in ("", "0"):
        return []
    return [Record("GPU-aware MPI", f"on ({name}=1, libmpi_gtl is linked)", INFO)]


def canonical(name: str) -> str:
    """A package's name in PyPI's normal form."""
    return re.sub(r"[-_.]+", "-", name).lower()
