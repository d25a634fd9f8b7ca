"""A site's own Python stack in place of the environment that env/setup.sh builds."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping

from hpc_deepfake.doctor.report import FAIL, Record

# The oldest versions that have what the code uses; tested are only those of env/versions.txt.
OLDEST = {
    "Python": "3.11",  # tomllib, StrEnum
    "NumPy": "1.26", "h5py": "3.8", "mpi4py": "3.1", "OpenCV": "4.5", "Pillow": "9.1",
    "TensorFlow": "2.16",  # the first with Keras 3
    "Keras": "3.0",
    "Horovod": "0.28",  # the first for TensorFlow 2.12 and later
}
_MODULES = {"NumPy": "numpy", "h5py": "h5py", "mpi4py": "mpi4py", "OpenCV": "cv2", "Pillow": "PIL",
            "TensorFlow": "tensorflow", "Keras": "keras", "Horovod": "horovod"}
_OWN = ("load another module with it in the site file, or build an environment of your own:\n"
        "  unset HPC_DEEPFAKE_PYTHON && env/setup.sh")


def of_site(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the site's Python is used (HPC_DEEPFAKE_PYTHON of the site file)."""
    return environ.get("HPC_DEEPFAKE_PYTHON") == "site"


def remedy(command: str, environ: Mapping[str, str] = os.environ) -> str:
    """What to do about a package: this advice with env/setup.sh, or its counterpart at a site."""
    return _OWN if of_site(environ) else command


def without_metadata(name: str) -> bool:
    """Whether a package can be imported though it has no installed metadata, as one built into a
    module."""
    return name in _MODULES and importlib.util.find_spec(_MODULES[name]) is not None


def judge(by_name: Mapping[str, str]) -> Record:
    """Whether the versions of a site's stack are new enough; ``by_name``: those of
    ``software.installed``, where some may be missing or unknown."""
    old = [f"{name} {version} (at least {OLDEST[name]})" for name, version in by_name.items()
           if name in OLDEST and _numbers(version) and _numbers(version) < _numbers(OLDEST[name])]
    if old:
        return Record("Python stack", f"the site's, too old: {', '.join(old)}", FAIL, _OWN,
                      scope="all")
    return Record("Python stack", "the site's, new enough; tested are those of env/versions.txt")


def judge_horovod(with_mpi: bool) -> Record | None:
    """Whether Horovod can communicate by MPI; None if it can."""
    if with_mpi:
        return None
    return Record("Horovod", "is built without MPI", FAIL, "it would see one rank only. " + remedy(
        "Rebuild it for this MPI:\n  env/setup.sh"))


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"\d{1,6}(\.\d{1,6})*", version)
    return tuple(map(int, match[0].split("."))) if match else ()
