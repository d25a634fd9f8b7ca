"""The MPI library that mpi4py uses, as far as it can be known without starting MPI."""

from __future__ import annotations

import ctypes
import importlib.util
import re
from contextlib import suppress
from pathlib import Path

# Open MPI, MPICH and Intel MPI, and Cray's for each compiler, such as libmpi_gnu_123.so.12
_LIBRARY = re.compile(r"(/\S*/libmpi(?:ch|_(?:cray|gnu|nvidia|amd|aocc|intel|ibm)\w*)?\.so[.\d]*)$",
                      re.MULTILINE)
_GPU_TRANSPORT = re.compile(r"/libmpi_gtl_\w+\.so")


def loaded(maps: str) -> list[str]:
    """Paths of the MPI libraries of a process, by ``maps``, the text of its /proc/PID/maps."""
    return sorted(set(_LIBRARY.findall(maps)))


def gpu_transport() -> bool:
    """Whether mpi4py comes with Cray's GPU transport layer, without which Cray MPICH ends every
    rank where MPICH_GPU_SUPPORT_ENABLED is 1. Loads the library, as the import of ``mpi4py.MPI``
    will, and doesn't start it."""
    with suppress(ImportError, OSError):
        found = importlib.util.find_spec("mpi4py.MPI")
        if found is not None and found.origin is not None:
            ctypes.CDLL(found.origin)
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    return _GPU_TRANSPORT.search(maps) is not None
