"""Versions: the same on all ranks, and those that were tested together."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from pathlib import Path

import hpc_deepfake
from hpc_deepfake.doctor.place import Place, count, label
from hpc_deepfake.doctor.report import FAIL, OK, WARN, Record

_SETUP = "build the environment:\n  env/setup.sh"
_BOTH = {"NumPy": ("numpy",), "mpi4py": ("mpi4py",), "h5py": ("h5py",)}
_PACKAGES = {
    "preprocess": {**_BOTH, "OpenCV": ("opencv-python-headless", "opencv-python"),
                   "Pillow": ("pillow",)},
    "train": {**_BOTH, "TensorFlow": ("tensorflow", "tensorflow-cpu"), "Keras": ("keras",),
              "Horovod": ("horovod",)},
}
MISSING = "missing"
PINS = Path(hpc_deepfake.__file__).resolve().parent.parent / "env" / "versions.txt"


def installed(purpose: str) -> dict[str, str]:
    """Versions of what the purpose needs; ``missing`` where it isn't there. Imports the small."""
    found = {"hpc_deepfake": hpc_deepfake.__version__, "Python": platform.python_version()}
    for name, packages in _PACKAGES[purpose].items():
        found[name] = next(filter(None, map(_version, packages)), MISSING)
    import h5py
    import numpy  # noqa: F401 (its libraries load or don't)

    found["HDF5"] = h5py.version.hdf5_version
    if purpose == "preprocess":
        import cv2  # noqa: F401
        import PIL.Image  # noqa: F401
    return found


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions(place: Place, purpose: str) -> list[Record]:
    """Collective."""
    try:
        found = installed(purpose)
    except Exception as error:  # a library that doesn't load: the others wait in the gather
        found = {"import": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    place.meet()
    everyone = place.comm.gather(found)
    return judge(everyone, place.hosts, place.nodes) if everyone else []


def judge(everyone: list[dict[str, str]], hosts: tuple[str, ...],
          nodes: tuple[int, ...]) -> list[Record]:
    """Records from the versions of each rank, in rank order."""
    broken = [rank for rank, found in enumerate(everyone) if "import" in found]
    if broken:
        text = f"{label(broken, hosts, nodes)}: {everyone[broken[0]]['import']}"
        return [Record("versions", text, FAIL, f"a package is missing or doesn't load; {_SETUP}",
                       scope="all")]
    mine = everyone[0]
    names = [name for name in mine if name != "HDF5"]
    text = ", ".join(f"{name} {mine[name]}" + f" (HDF5 {mine.get('HDF5')})" * (name == "h5py")
                     for name in names)
    missing = MISSING in mine.values()
    records = [Record("versions", text, FAIL if missing else OK, _SETUP, scope="all")]
    differing: dict[tuple[str, ...], list[int]] = {}
    for rank, found in enumerate(everyone):
        if found != mine:
            what = tuple(f"{name} {version}" for name, version in found.items()
                         if mine.get(name) != version)
            differing.setdefault(what, []).append(rank)
    if differing:
        text = "; ".join(f"{label(ranks, hosts, nodes)}: {', '.join(what)}"
                         for what, ranks in list(differing.items())[:4])
        records.append(Record("the same on all", f"no: {text}", FAIL,
                              "all nodes must use one environment, on a file system that they "
                              "share; in the job, before srun or mpirun:\n"
                              "  source env/activate.sh", scope="all"))
    elif len(everyone) > 1:
        records.append(Record("the same on all", f"yes, {count(len(everyone), 'rank')}"))
    return records


def pinned(pins: Path = PINS) -> Record | None:
    """Whether the versions are those of env/versions.txt; None without a clone."""
    if not pins.is_file():
        return None
    wanted = {canonical(name): version for name, version in
              re.findall(r"^([\w.-]+)==(\S+)", pins.read_text(encoding="utf-8"), re.MULTILINE)}
    there = {canonical(one.metadata["Name"] or ""): one.version
             for one in importlib.metadata.distributions()}
    wrong = [f"{name} {there[name]} (not {version})" for name, version in sorted(wanted.items())
             if there.get(name, version) != version]
    if wrong:
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        return Record("tested versions", ", ".join(wrong[:4]) + more, WARN,
                      "not the versions that were tested together (env/versions.txt); on purpose, "
                      "or a module's PYTHONPATH comes first. To get them:\n"
                      "  unset PYTHONPATH && env/setup.sh", scope="all")
    return Record("tested versions",
                  f"{count(len(wanted.keys() & there.keys()), 'package')} as in env/versions.txt")


def canonical(name: str) -> str:
    """A package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
