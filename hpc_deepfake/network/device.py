"""Which device a rank computes on, with how many threads; TensorFlow's start."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpc_deepfake.core.errors import InputError

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

CHOICES = ("auto", "cpu", "gpu")


@dataclass(frozen=True)
class Device:
    """Where this rank computes: ``CPU`` or ``GPU:i``, its name, and threads per operation."""

    kind: str
    name: str
    threads: int

    @property
    def gpu(self) -> bool:
        return self.kind != "CPU"


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Keep back what C++ libraries write to stderr while they load; shown if loading fails."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(saved, 2)
            kept.seek(0)
            sys.stderr.write(kept.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


@contextlib.contextmanager
def _without(module: str) -> Iterator[None]:
    """Have a module not be found, unless it is there already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None
    try:
        yield
    finally:
        del sys.modules[module]


def local_ranks(comm: Comm) -> tuple[int, int]:
    """This rank's number on its node, and how many ranks the node has; collective."""
    from mpi4py import MPI

    node = comm.Split_type(MPI.COMM_TYPE_SHARED, comm.rank)
    try:
        return node.rank, node.size
    finally:
        node.Free()


def start(wanted: str, local_rank: int = 0, ranks_on_node: int = 1, threads: int = 0) -> Device:
    """Start TensorFlow on this rank's device.

    A GPU is taken by local rank modulo the visible ones, its memory as needed. CPU threads are
    ``threads``, else ``$OMP_NUM_THREADS`` (job scripts set it to a rank's share), else the cores
    this process may use, shared among the node's ranks.

    Raises:
        InputError: ``gpu`` is wanted and TensorFlow sees none.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # by default off on processors without AVX-512 VNNI, where a step then takes twice as long
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if wanted == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    # Keras would load matplotlib on every rank, for a quarter of the start, and never use it here
    with quiet_stderr(), _without("matplotlib"):
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU") if wanted != "cpu" else []
    if wanted == "gpu" and not gpus:
        raise InputError(f"--device gpu: {why_no_gpu(tf)}. Use --device cpu, or mend it first")
    if gpus:
        gpu = gpus[local_rank % len(gpus)]
        tf.config.set_visible_devices(gpu, "GPU")
        tf.config.experimental.set_memory_growth(gpu, True)
        name = tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")
        kind = f"GPU:{local_rank % len(gpus)}"
        tf.config.experimental.enable_op_determinism()  # CPU operations are so by themselves
    else:
        kind, name = "CPU", cpu_name()
    threads = threads or _omp_threads() or max(1, len(os.sched_getaffinity(0)) // ranks_on_node)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    return Device(kind, name, threads)


def _omp_threads() -> int:
    """``$OMP_NUM_THREADS``, of whose list the outermost level counts; 0 if not set."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() else 0


def why_no_gpu(tf: object) -> str:
    if not tf.test.is_built_with_cuda():
        return ("this TensorFlow was built without CUDA (tensorflow-cpu); "
                "build the GPU environment with env/setup.sh --gpu")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES is '{visible}', so no GPU is visible to this job"
    if not os.path.exists("/dev/nvidiactl"):
        return "this node has no NVIDIA driver (/dev/nvidiactl is missing)"
    return ("TensorFlow finds no usable GPU: its CUDA libraries or the driver don't fit; "
            "TF_CPP_MIN_LOG_LEVEL=0 shows what it tried")


def cpu_name() -> str:
    """Model name of the processor."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return "CPU"
