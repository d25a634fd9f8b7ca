"""Settings that other work leaves in the environment of a process, and what is done about them.

What the programs can decide for themselves they decide here, before any other package is imported,
and the doctor lists it. A package that still can't be loaded is one message with the variables that
may be the cause.
"""

from __future__ import annotations

import os
import re
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from hpc_deepfake.core import heap, launcher, mpi_library, stop
from hpc_deepfake.core.errors import EXIT_USAGE, InputError

_PROJECT = ("hpc_deepfake", "preprocessing")
# packages that a module's PYTHONPATH often has too, in other versions
PACKAGES = ("numpy", "h5py", "mpi4py", "cv2", "PIL", "psutil", "tensorflow", "keras", "horovod",
            "matplotlib", "google", "ml_dtypes", "typing_extensions")
# Keras' own settings: of the file keras.json in KERAS_HOME, which is never one here, and variables
_KERAS = {"KERAS_HOME": os.devnull, "KERAS_BACKEND": "tensorflow"}
_KERAS_FILE = ('{ "floatx": "float32", "epsilon": 1e-07, "backend": "tensorflow", '
               '"image_data_format": "channels_last" }')  # as Keras itself writes it
_KERAS_DROPPED = ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH", "KERAS_NNX_ENABLED",
                  "TF_USE_LEGACY_KERAS")
# horovodrun's, which contradict MPI's ranks; mpi4py's, with which MPI isn't started or ended; a
# choice of protobuf's that TensorFlow's version may not have; OpenCV's bounds, other pictures' size
_DROPPED = re.compile(r"HOROVOD_(RANK|SIZE|(LOCAL|CROSS)_(RANK|SIZE)|HOSTNAME|ELASTIC|GLOO_\w+|"
                      r"CONTROLLER|CPU_OPERATIONS)|MPI4PY_RC_(INITIALIZE|FINALIZE)|"
                      r"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION|OPENCV_IO_MAX_IMAGE_\w+")
# with 1 and without its GPU transport library, Cray MPICH ends every rank
GPU_SUPPORT = "MPICH_GPU_SUPPORT_ENABLED"
_PLAIN = re.compile(r"[\w./+,=@%~-]+")  # characters of folders with which Open MPI can start
# Variables that are dropped if their value has another form: OpenMP's number for each level of
# threads, and flags of TensorFlow, which ends at once if there are others
_SHAPES = {"OMP_NUM_THREADS": re.compile(r"([1-9]\d{0,4}(\s*,\s*[1-9]\d{0,4})*)?"),
           "TF_XLA_FLAGS": re.compile(r"(--(tf_|xla_|mark_)\w+(=\S*)?\s*)*")}

# what ``pip install`` leaves out, as only ranks need it: what for, and where to get it
_FOR_RANKS = {
    "mpi4py": ("this command runs on the ranks of MPI, and the package mpi4py",
               "env/setup.sh in a clone of the project builds the environment for all commands, "
               "and source env/activate.sh takes it; preprocess, and predict and evaluate under "
               "mpirun, only need an MPI library and pip install mpi4py"),
    "horovod": ("training averages gradients by Horovod, which",
                "env/setup.sh in a clone of the project compiles it for the TensorFlow and MPI at "
                "hand, and source env/activate.sh takes that environment")}


class Decision(NamedTuple):
    """A setting that isn't followed.

    Attributes:
        name: of the variable or file.
        value: what it says.
    """

    name: str
    value: str


decisions: list[Decision] = []  # of this process
settled = False  # whether this process is one of the project's programs, not of one that imports it


def settle() -> None:
    """Decide what this process, one of the project's programs, decides for itself, how it uses
    memory included; to be called before other packages are imported."""
    global settled
    settled = True
    sys.excepthook = _hook
    stop.end_in_a_line()
    heap.keep_freed()
    try:
        os.getcwd()
    except OSError as error:
        raise InputError(f"the current folder can't be used: {error.strerror}; it may have been "
                         "deleted or moved: cd to another one") from None
    _own_packages_first()
    for_keras()
    if os.environ.get("MPLBACKEND", "agg").lower() != "agg":  # such as a notebook's
        _decide("MPLBACKEND", "agg")
    for name in list(os.environ):
        shape = _SHAPES.get(name)
        if _DROPPED.fullmatch(name) or (shape and not shape.fullmatch(os.environ[name].strip())):
            _decide(name)
    if os.environ.get(GPU_SUPPORT, "0") not in ("", "0") and not mpi_library.gpu_transport():
        _decide(GPU_SUPPORT, "0")
    if any(option.partition(":")[0] == "error" for option in sys.warnoptions):
        decisions.append(Decision("PYTHONWARNINGS", ",".join(sys.warnoptions)))
        warnings.resetwarnings()  # other packages' warnings are no errors of a job
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning,
                         ResourceWarning):  # as without the variable
            warnings.simplefilter("ignore", category)


def for_keras() -> None:
    """Keras' settings for this process, if Keras isn't loaded yet: its backend is TensorFlow, and
    no ``keras.json`` of other work is read."""
    if "keras" in sys.modules:
        return
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    file = os.path.join(home, "keras.json")
    with suppress(OSError, UnicodeDecodeError):
        text = " ".join(Path(file).read_text(encoding="utf-8").split())
        if home != os.devnull and text != _KERAS_FILE:
            decisions.append(Decision(file, text[:120]))
    for name, value in _KERAS.items():
        if os.environ.get(name, value) != value and name != "KERAS_HOME":
            decisions.append(Decision(name, os.environ[name]))
        os.environ[name] = value
    for name in _KERAS_DROPPED:
        _decide(name)


def check_keras() -> None:
    """Whether the Keras of this process, which other code may have loaded first, can be used.

    Raises:
        InputError: it computes with another backend.
    """
    import keras

    backend = keras.config.backend()
    if backend != "tensorflow":
        raise InputError(f"Keras was loaded with the backend {backend}, before this project could "
                         "choose TensorFlow: set KERAS_BACKEND=tensorflow, or import "
                         "hpc_deepfake.network first", everywhere=True)


@contextmanager
def for_mpi() -> Iterator[None]:
    """An environment in which MPI can start, inside the block.

    A process without a launcher is a world of its own. Open MPI refuses that inside a SLURM job if
    it was built without SLURM's PMI, and in a temporary folder with other characters than usual,
    such as ``pbs.1234[7].server``."""
    changed: dict[str, str | None] = {}
    folder = os.environ.get("TMPDIR")
    if folder and not usable(folder):
        changed["TMPDIR"] = next(filter(usable, ("/tmp", "/var/tmp", "/dev/shm")), None)
    if launcher.alone_in_slurm(os.environ):
        changed["SLURM_NODELIST"] = None
    before = {name: os.environ[name] for name in changed if name in os.environ}
    _update(changed)
    try:
        yield
    finally:
        os.environ.update(before)


def usable(folder: str) -> bool:
    """Whether MPI can keep its temporary files in this folder."""
    return (_PLAIN.fullmatch(folder) is not None and os.path.isdir(folder)
            and os.access(folder, os.W_OK | os.X_OK))


def explain(error: ImportError) -> str | None:
    """A message about a package that can't be loaded; None for a module of the project's own,
    where it is a mistake of ours."""
    name = (error.name or "").partition(".")[0]
    for entry in sys.path:  # of a library, only the file is named
        if entry and error.path and error.path.startswith(entry + "/"):
            name = error.path.removeprefix(entry + "/").partition("/")[0].partition(".")[0]
    if name in _PROJECT:
        return None
    if isinstance(error, ModuleNotFoundError) and name in _FOR_RANKS:
        return f"{_FOR_RANKS[name][0]} isn't installed in {sys.prefix}: {_FOR_RANKS[name][1]}"
    what = f"the package {name}" if name else "a package"
    reason = " ".join(str(error).split("\n\n")[0].split())
    if "failed to map segment" in reason:  # what the loader says of noexec
        return (f"{what} can't be loaded: {reason}. Its file system is mounted noexec: build the "
                "environment elsewhere, HPC_DEEPFAKE_ENV=/folder env/setup.sh")
    hints = []
    for variable in ("PYTHONPATH", "LD_LIBRARY_PATH", "LD_PRELOAD"):
        value = ":".join(entry for entry in os.environ.get(variable, "").split(":")
                         if entry and not entry.startswith(sys.prefix))
        hints += [f"{variable}={value}"] * bool(value)
    cause = f". What other modules have set may be the cause: {', '.join(hints)}" if hints else ""
    return (f"{what} can't be loaded: {reason}{cause}. In a new shell, source env/activate.sh and "
            "run hpc-deepfake doctor; env/setup.sh builds the environment")


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """One message instead of a traceback for what a user can fix or has caused, outside of
    ``mpi.run``, which does the same."""
    if isinstance(error, KeyboardInterrupt):  # such as while packages are imported
        if launcher.rank(os.environ) == 0:
            print("\ninterrupted", file=sys.stderr, flush=True)
        os._exit(130)
    message = explain(error) if isinstance(error, ImportError) else \
        str(error) if isinstance(error, InputError) else None
    if message is None:
        sys.__excepthook__(kind, error, trace)
        return
    from hpc_deepfake.core import mpi  # which uses this module

    if mpi.launched_rank() == 0:
        mpi.report(f"error: {message}")
        mpi.ended(EXIT_USAGE)
    else:
        time.sleep(2)  # until rank 0 has printed
    os._exit(EXIT_USAGE)


def _own_packages_first() -> None:
    """Search the folders of PYTHONPATH, and the current one, after the environment's own, whose
    packages fit together."""
    named = {"PYTHONPATH": os.environ.get("PYTHONPATH", "").split(os.pathsep),
             "current folder": [os.getcwd(), ""]}
    for name, entries in named.items():
        for entry in entries:
            if entry not in sys.path or _has(os.path.join(entry, _PROJECT[0]), "__init__"):
                continue
            others = [other for other in sys.path if other != entry]
            sys.path[:] = [*others, entry]
            hidden = [package for package in PACKAGES if _has(entry, package) and any(
                _has(other, package) for other in others if other.startswith(sys.prefix))]
            if hidden:
                decisions.append(Decision(name, f"{entry} ({', '.join(hidden)})"))


def _has(folder: str, package: str) -> bool:
    return any(os.path.exists(os.path.join(folder, package + end)) for end in ("", ".py"))


def _decide(name: str, value: str | None = None) -> None:
    """Set a variable for this process and those that it starts, or drop it."""
    if name in os.environ:
        decisions.append(Decision(name, os.environ[name]))
        _update({name: value})


def _update(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
