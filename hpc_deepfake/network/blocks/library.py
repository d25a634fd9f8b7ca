"""The library of the compiled operations: building it, and loading it into TensorFlow.

It lies beside its sources, under a name that changes with these, with TensorFlow's version and with
the kind of processor, so that a library of other sources is never loaded; nor is a damaged one, by
the digest in its name.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc_deepfake.core import mpi
from hpc_deepfake.core.errors import InputError

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.network.settings import Settings

HERE = Path(__file__).resolve().parent
SOURCES = ("loops.h", "loops.cc", "threads.h", "operations.cc")
LAYERS = ("conv1", "bn1", "conv2", "bn2")  # that they compute, unless one of them is frozen
COMMAND = "python -m hpc_deepfake.network.blocks"
_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fno-math-errno", "-fvisibility=hidden", "-Wno-psabi")
# lanes, name and options of the vectors that the loops are compiled for
_SETS: dict[str, tuple[tuple[int, str, tuple[str, ...]], ...]] = {
    "x86_64": ((16, "AVX-512", ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma")),
               (8, "AVX2", ("-mavx2", "-mfma")),
               (4, "SSE2", ())),
    "": ((4, platform.machine(), ()),),
}
_ENDED = 3600  # seconds after which a build is not under way any more
_off: list[str] = []  # why they are switched off in this process


class Library:
    """The loaded operations.

    Attributes:
        vectors: the kind that this processor has.
        lanes: floats in the vectors to compute with; 0: as many as the processor has.
    """

    def __init__(self, path: Path) -> None:
        import tensorflow as tf

        self._operations = tf.load_op_library(str(path))
        self.lanes = 0
        name = ctypes.CDLL(str(path)).hpc_deepfake_vectors
        name.restype = ctypes.c_char_p
        self.vectors = name().decode()

    def call(self, name: str, **arguments: Any) -> Any:
        """Call an operation of ``operations.cc``."""
        return getattr(self._operations, f"hpc_deepfake_{name}")(lanes=self.lanes, **arguments)


def built() -> Path | None:
    """The library of these sources for this TensorFlow; None if there is none."""
    return next(iter(sorted((HERE / "built").glob(f"{_key()}-*.so"))), None)


def _key() -> str:
    """What the file's name begins with; it ends with a digest of its content."""
    import tensorflow as tf

    sources = b"".join((HERE / name).read_bytes() for name in SOURCES)
    made_of = sources + tf.__version__.encode() + repr(_FLAGS + _sets()).encode()
    return f"{platform.machine()}-{_digest(made_of)}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def loaded() -> Library | None:
    """The operations; None if they were not built or are switched off."""
    found = None if _off else _load()
    return found if isinstance(found, Library) else None


def usable(own: Any) -> bool:
    """Whether these operations compute training passes of weights of the type ``own``: they were
    built and not switched off, and TensorFlow has no GPU."""
    if loaded() is None:
        return False
    import tensorflow as tf

    return own == tf.float32 and not tf.config.get_visible_devices("GPU")


def vectors(settings: Settings, strategy: str) -> str:
    """The kind of vectors, such as ``AVX-512``, with which these operations compute a training;
    empty if it uses TensorFlow's own.

    Args:
        settings: of the training.
        strategy: value of ``--strategy``; a mesh cuts the layers that are one here.
    """
    frozen = any(fnmatchcase(name, pattern) for pattern in settings.freeze.split(",")
                 for name in LAYERS)
    fits = settings.network == "table" and strategy != "mesh" and not frozen and \
        settings.precision in ("float32", "bfloat16")
    library = loaded() if fits and usable("float32") else None
    return library.vectors if library else ""


def missing() -> str:
    """Why there are none; empty if there are."""
    if _off:
        return _off[-1]
    found = _load()
    return found if isinstance(found, str) else ""


@functools.cache
def _load() -> Library | str:
    """The library, or why there is none."""
    import tensorflow as tf

    library: Path | None = HERE / "built"
    try:
        library = built()
        if library is None:
            return f"they are not built (to build them: {COMMAND})"
        if library.stem.rpartition("-")[2] != _digest(library.read_bytes()):
            return f"{library} is damaged (to build it anew: {COMMAND})"
        return Library(library)
    except (tf.errors.OpError, OSError) as error:
        why = "".join(str(error).strip().splitlines()[:1])
        return f"{library} can't be loaded: {why} (to build it anew: {COMMAND})"


def switch_off(why: str) -> None:
    """Use TensorFlow's own operations from here on."""
    _off.append(why)


def agree(comm: Comm, wanted: bool) -> None:
    """Have all ranks compute in the same way: with these operations if all have them. Collective.

    Args:
        comm: all ranks.
        wanted: value of ``--compiled``.
    """
    _off.clear()  # of an earlier training in this process
    if not wanted:
        switch_off("--no-compiled")
    from mpi4py import MPI

    reasons, hosts = zip(*mpi.gather(comm, (missing(), MPI.Get_processor_name())), strict=True)
    if any(reasons) and not missing():
        rank = next(rank for rank, why in enumerate(reasons) if why)
        switch_off(f"rank {rank} on {hosts[rank]}: {reasons[rank]}")


def build() -> Path:
    """Compile the library; with ``$CXX``, else g++ or c++.

    Raises:
        InputError: there is no compiler, it failed, or the folder can't be written.
    """
    import tensorflow as tf

    try:
        compiler = shlex.split(os.environ.get("CXX", "")) or \
            [name for name in ("g++", "c++") if shutil.which(name)][:1]
    except ValueError as error:
        raise InputError(f"CXX={os.environ['CXX']}: {error}; name a compiler, with its options, "
                         "such as CXX=g++") from None
    if not compiler or not shutil.which(compiler[0]):
        named = "".join(f" {name!r}" for name in compiler[:1])
        raise InputError(f"no C++ compiler{named}: install g++ (apt-get install g++), or name "
                         f"another one: CXX=FILE {COMMAND}")
    folder = HERE / "built"
    try:
        folder.mkdir(exist_ok=True)
        for left in folder.glob("tmp*"):  # by builds that were ended, not by one beside this one
            if time.time() - left.stat().st_mtime > _ENDED:
                shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=folder) as beside:
            made = Path(beside)
            parts = [(made / f"{lanes}.o", ["loops.cc", f"-DLANES={lanes}", f"-DSET={name}",
                                            *flags]) for lanes, name, flags in _sets()]
            parts.append((made / "operations.o",
                          ["operations.cc", "-O1", f"-I{tf.sysconfig.get_include()}"]))
            with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
                list(threads.map(lambda part: _run([*compiler, *_FLAGS, *part[1], "-c", "-o",
                                                    str(part[0])]), parts))
            _run([*compiler, "-shared", "-o", str(made / "whole.so"),
                  *(str(file) for file, _ in parts), *tf.sysconfig.get_link_flags(), "-lpthread"])
            target = folder / f"{_key()}-{_digest((made / 'whole.so').read_bytes())}.so"
            os.replace(made / "whole.so", target)
            for other in folder.glob(f"{_key()}-*.so"):
                if other != target:
                    other.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{folder} can't be written ({error.strerror}): build the operations as "
                         f"the owner of that folder, with {COMMAND}; remove {folder} if it is no "
                         "folder") from error
    return target


def _sets() -> tuple[tuple[int, str, tuple[str, ...]], ...]:
    return _SETS.get(platform.machine(), _SETS[""])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    target = Path(command[command.index("-o") + 1])
    if done.returncode or not target.exists():
        last = "".join(f"\n{line}" for line in done.stderr.splitlines()[-15:])
        raise InputError(f"{command[0]} could not compile {HERE} (exit code {done.returncode}"
                         + f", no {target.name}" * (not done.returncode) + f"):{last}\n"
                         f"Name another compiler: CXX=g++ {COMMAND}")
