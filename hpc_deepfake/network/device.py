"""The device and the number of threads of a rank, and the start of TensorFlow."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpc_deepfake.core import surroundings
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.log import log
from hpc_deepfake.core.options import MOST_THREADS
from hpc_deepfake.core.quiet import quiet_stderr
from hpc_deepfake.network import gpus as listed_gpus

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

CHOICES = ("auto", "cpu", "gpu")


@dataclass(frozen=True)
class Device:
    """The device that this rank computes on.

    Attributes:
        kind: ``CPU`` or ``GPU:i``.
        name: model name of the processor or GPU.
        threads: CPU threads per operation.
        deterministic: whether the same operation always gives the same bits.
        seen: the GPUs that this rank may use, as CUDA numbers them; empty if unknown.
    """

    kind: str
    name: str
    threads: int
    deterministic: bool = True
    seen: tuple[listed_gpus.Gpu, ...] = ()

    @property
    def gpu(self) -> bool:
        return self.kind != "CPU"

    @property
    def own(self) -> listed_gpus.Gpu | None:
        """The GPU; None without one, or if it is unknown."""
        number = int(self.kind.partition(":")[2] or 0)
        return self.seen[number] if self.gpu and number < len(self.seen) else None


@contextlib.contextmanager
def _without(module: str) -> Iterator[None]:
    """Make importing a module fail inside the block, unless it is loaded already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment] # documented to make imports fail
    try:
        yield
    finally:
        del sys.modules[module]


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Don't collect garbage inside the block, which imports so much that collections would take a
    third of the time and find nothing. In a program of the project, what is there at the end is
    left out of later collections too, and of the one at the program's end."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if surroundings.settled:
            gc.freeze()
        if collecting:
            gc.enable()


def local_ranks(comm: Comm) -> tuple[int, int]:
    """This rank's number on its node, and the number of ranks on the node. Collective."""
    from mpi4py import MPI

    node = comm.Split_type(MPI.COMM_TYPE_SHARED, comm.rank)
    try:
        return node.rank, node.size
    finally:
        node.Free()


def start(choice: str, local_rank: int = 0, ranks_on_node: int = 1, threads: int = 0,
          precision: str = "float32", deterministic: bool = True) -> Device:
    """Start TensorFlow on this rank's device.

    The GPU is the visible one whose number is the local rank modulo their count; its memory is
    allocated as needed. Whether it is another rank's too: ``placement``.

    Args:
        choice: one of ``CHOICES``; ``auto`` is a GPU if TensorFlow sees one.
        local_rank: number of this rank on its node.
        ranks_on_node: number of ranks on the node.
        threads: CPU threads per operation; 0 for ``$OMP_NUM_THREADS`` (job scripts set it to a
            rank's share of the cores), else the cores that this process may use divided by the
            ranks on the node.
        precision: of the training. A GPU multiplies float32 numbers in float32, unless this is
            ``tf32``; TensorFlow's own default is TF32, with 10 bits of their mantissas.
        deterministic: have a GPU only use operations that always give the same bits, as those of a
            CPU do.

    Raises:
        InputError: ``choice`` is ``gpu`` and TensorFlow sees none, or the device does not support
            the precision.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # off by default on processors without AVX-512 VNNI, where a step then takes twice as long
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if choice == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    # Keras would load matplotlib, which takes a quarter of the start and is not used here
    with quiet_stderr(), _without("matplotlib"), _uncollected():
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU") if choice != "cpu" else []
    if choice == "gpu" and not gpus:
        raise InputError(f"--device gpu: {why_no_gpu(tf)}. Fix that, or use --device cpu")
    seen: tuple[listed_gpus.Gpu, ...] = ()
    if gpus:
        gpu = gpus[local_rank % len(gpus)]
        details = tf.config.experimental.get_device_details(gpu)
        kind, name = f"GPU:{local_rank % len(gpus)}", details.get("device_name", "GPU")
        check_precision(precision, name, details.get("compute_capability"))
        tf.config.set_visible_devices(gpu, "GPU")
        tf.config.experimental.set_memory_growth(gpu, True)
        tf.config.experimental.enable_tensor_float_32_execution(precision == "tf32")
        if deterministic:
            tf.config.experimental.enable_op_determinism()
        seen = tuple(listed_gpus.visible())
    else:
        kind, name, deterministic = "CPU", cpu_name(), True
        check_precision(precision)
    threads = threads or cores(ranks_on_node)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    log.debug("TensorFlow %s on %s (%s), %d threads per operation", tf.__version__, kind, name,
              threads)
    return Device(kind, name, threads, deterministic, seen)


def check_precision(precision: str, gpu: str = "",
                    capability: tuple[int, int] | None = None) -> None:
    """Whether a device computes with a precision.

    Args:
        precision: of the training.
        gpu: model name of the GPU; empty: a CPU.
        capability: the GPU's compute capability; None: unknown.

    Raises:
        InputError: it does not.
    """
    if gpu and precision == "float64":
        raise InputError("--precision float64 is only supported on CPUs: use --device cpu, or "
                         "another --precision")
    if precision != "tf32":
        return
    if not gpu:
        raise InputError("--precision tf32 is a mode of NVIDIA GPUs, and this is a CPU: use "
                         "--precision float32 or bfloat16, or --device gpu")
    if capability is not None and capability < (8, 0):
        raise InputError(f"--precision tf32 needs a GPU of the generation of the A100 or a newer "
                         f"one, and this is a {gpu}: use --precision float32")
    if os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
        raise InputError("--precision tf32, but NVIDIA_TF32_OVERRIDE=0 keeps NVIDIA's libraries "
                         "from computing so: unset it, or use --precision float32")


def gpu_memory(device: Device) -> int | None:
    """Most bytes that TensorFlow has held on this rank's GPU so far; None without one."""
    if not device.gpu:
        return None
    import tensorflow as tf

    with contextlib.suppress(ValueError, RuntimeError, KeyError):  # not told by this build
        return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])  # the visible one
    return None


def cores(ranks_on_node: int = 1) -> int:
    """The cores for this rank: ``$OMP_NUM_THREADS``, else those that this process may use divided
    by the ranks on the node."""
    return _omp_threads() or max(1, len(os.sched_getaffinity(0)) // ranks_on_node)


def _omp_threads() -> int:
    """``$OMP_NUM_THREADS``, or the first level if it is a list; 0 if not set."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(int(first), MOST_THREADS) if first.isdecimal() else 0


def why_no_gpu(tf: Any) -> str:
    """Why TensorFlow, the module ``tf``, sees no GPU, and what to do."""
    if not tf.test.is_built_with_cuda():
        return ("this TensorFlow was built without CUDA (tensorflow-cpu); "
                "build the GPU environment with env/setup.sh --gpu")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES is '{visible}', so no GPU is visible to this job"
    if not os.path.exists("/dev/nvidiactl"):
        return "this node has no NVIDIA driver (/dev/nvidiactl is missing)"
    if visible is not None:
        return (f"TensorFlow finds no usable GPU with CUDA_VISIBLE_DEVICES='{visible}': this node "
                "has no such GPU (nvidia-smi -L lists them), or TensorFlow's CUDA libraries and "
                "the driver do not match; TF_CPP_MIN_LOG_LEVEL=0 shows what it tried")
    return ("TensorFlow finds no usable GPU: its CUDA libraries and the driver do not match; "
            "TF_CPP_MIN_LOG_LEVEL=0 shows what it tried")


def cpu_name() -> str:
    """Model name of the processor."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return "CPU"
