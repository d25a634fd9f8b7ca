"""TensorFlow and Horovod: started as in training, and tested by a computation and a reduction."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from hpc_deepfake.core import mpi_library
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import plural, whole_number
from hpc_deepfake.doctor import gpu, nccl, stack
from hpc_deepfake.doctor.fabric import Fabric
from hpc_deepfake.doctor.place import Place
from hpc_deepfake.doctor.report import FAIL, INFO, WARN, Record, attempt, failed, problem
from hpc_deepfake.network import blocks, cycle, placement
from hpc_deepfake.network.gpus import Card
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.network.shapes import PARAMETERS

if TYPE_CHECKING:
    from hpc_deepfake.network.device import Device

_REBUILD = stack.remedy("rebuild it for this TensorFlow and this MPI:\n  env/setup.sh")
_EXCLUDE = ("the device or driver of this node is broken: exclude the node, and tell the "
            "administrators:\n  sbatch --exclude=NODE …")
_STALL = 30  # seconds until Horovod gives up waiting for a rank


def checks(place: Place, requested: str, threads: int, cards: list[Card],
           fabric: Fabric) -> list[Record]:
    """All of this rank's records; collective.

    Args:
        place: of this rank.
        requested: value of --device.
        threads: value of --threads.
        cards: GPUs that nvidia-smi lists.
        fabric: the node's fast network.
    """
    device, records = start(place, requested, threads)
    computation = attempt("computation", compute, device, todo=_EXCLUDE) if device else []
    computes = device is not None and not failed(computation)
    records += computation
    if device and not device.gpu:
        records.append(operations(blocks.missing(), blocks.vectors(Settings(), "sync")))
    if "tensorflow" in sys.modules:
        records += attempt("driver", _driver, cards, computes and device is not None and device.gpu)
    if not place.agreed(device is not None) or device is None:
        return records
    with_gpu = place.comm.allgather(device.gpu)
    records += attempt("GPU", _gpu, device, requested, cards)
    places: list[Record] = []
    if any(with_gpu):
        places = gpu.judge_places(placement.seats(place.comm, device, requested))
        records += places if place.comm.rank == 0 else []
        if not fabric.slingshot:  # where libfabric decides: see 'NCCL network'
            records += attempt("GPU-direct", gpu.direct, len(place.leaders), fabric.infiniband)
    records.append(threads_record(place, device.threads))
    if place.agreed(computes) and not failed(places):
        records += horovod(place, device, fabric)
    return records


def start(place: Place, requested: str, threads: int) -> tuple[Device | None, list[Record]]:
    """Start TensorFlow on the device that training would use; None if that fails."""
    from hpc_deepfake.network import device as devices

    try:
        device = devices.start(requested, place.node.rank, place.node.size, threads)
    except InputError:
        import tensorflow as tf

        return None, [Record("GPU", f"none for --device gpu: {devices.why_no_gpu(tf)}", FAIL,
                             "use --device cpu, or fix that; to see the GPUs of node and job:\n"
                             "  nvidia-smi; echo $CUDA_VISIBLE_DEVICES")]
    except Exception as error:
        return None, [Record("TensorFlow", problem(error), FAIL, stack.remedy(
            "build the environment:\n  env/setup.sh"))]
    return device, []


def compute(device: Device) -> Record:
    """A matrix product and a convolution with its gradient, compared with known results."""
    import numpy as np
    import tensorflow as tf

    with tf.device("GPU:0" if device.gpu else "CPU:0"):
        left = tf.reshape(tf.range(64 * 64, dtype=tf.float32) % 7, (64, 64))
        product = tf.matmul(left, left, transpose_b=True).numpy()
        images, kernel = tf.ones((2, 16, 16, 3)), tf.ones((3, 3, 3, 8))
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            output = tf.nn.conv2d(images, kernel, 1, "VALID")
        gradient = tape.gradient(output, kernel).numpy()
    exact = left.numpy() @ left.numpy().T
    correct = (np.array_equal(product, exact) and (output.numpy() == 27).all()
               and (gradient == 2 * 14 * 14).all())
    where = f"{device.kind}, {device.name}"
    if correct:
        return Record("computation", f"correct on {where}")
    return Record("computation", f"wrong results on {where}", FAIL, _EXCLUDE)


def operations(missing: str, vectors: str) -> Record:
    """Whether the compiled operations are there, which training uses on CPUs."""
    if not missing:
        return Record("operations", f"compiled, for {vectors}")
    return Record("operations", "the compiled ones are not built", WARN, "training steps on CPUs "
                  f"take longer without them; on a node with a C++ compiler:\n  {blocks.COMMAND}")


def _gpu(device: Device, requested: str, cards: list[Card]) -> Record:
    import tensorflow as tf

    from hpc_deepfake.network.device import why_no_gpu

    if device.gpu:
        visible = len(tf.config.list_physical_devices("GPU"))
        return Record("GPU", f"{device.name}, {plural(visible, 'GPU')} visible")
    return gpu.judge_none(requested, cards, "" if requested == "cpu" else why_no_gpu(tf))


def _driver(cards: list[Card], computes: bool) -> Record | None:
    import tensorflow as tf

    version, cuda = gpu.driver(cards), tf.sysconfig.get_build_info().get("cuda_version")
    return gpu.judge_driver(version, cuda, computes) if version and cuda else None


def threads_record(place: Place, threads: int) -> Record:
    """The verdict on this rank's number of threads; collective on the node."""
    by_rank = place.node.allgather((threads, tuple(sorted(os.sched_getaffinity(0)))))
    return judge_threads(by_rank, place.node.rank, cpus_requested(os.environ, place.node.size))


def cpus_requested(environ: Mapping[str, str], ranks: int) -> int | None:
    """CPUs that the job has asked for, per rank of this node; None outside of a job. Where jobs are
    not bound to them, a rank may use other jobs' too."""
    own = whole_number(environ.get("HPC_DEEPFAKE_RANK_CPUS", ""))  # of the job scripts
    if own:
        return own
    on_node = whole_number(environ.get("SLURM_CPUS_ON_NODE", ""))
    return max(1, on_node // ranks) if on_node else None


def judge_threads(by_rank: list[tuple[int, tuple[int, ...]]], rank: int,
                  requested: int | None = None) -> Record:
    """The verdict on a rank, from the threads and cores of each rank of the node, and the CPUs that
    the job has asked for, per rank."""
    threads, cores = by_rank[rank]
    available = len(set().union(*(own for _, own in by_rank)))
    total = sum(number for number, _ in by_rank)
    # a core that n ranks may use counts 1/n for each
    share = sum(1 / sum(core in own for _, own in by_rank) for core in cores)
    text = f"{plural(threads, 'thread')} per rank"
    if total > available and total > len(by_rank):
        return Record("threads", f"{text}, {total} on {plural(available, 'core')}", WARN,
                      "threads compete for the cores; the maximum per rank:\n"
                      f"  export OMP_NUM_THREADS={max(1, int(share))}")
    if requested and threads > requested:
        return Record("threads", f"{text}, and the job has {plural(requested, 'CPU')} for it", WARN,
                      "they take turns, or take CPUs from other jobs:\n"
                      f"  export OMP_NUM_THREADS={requested}")
    share = min(share, requested or share)
    if threads < int(share):
        return Record("threads", f"{text}, on {int(share)} cores of its own", WARN,
                      f"cores are idle; per rank:\n  export OMP_NUM_THREADS={int(share)}")
    return Record("threads", text)


def horovod(place: Place, device: Device, fabric: Fabric) -> list[Record]:
    """Horovod's records; collective. A fault is only a warning on one rank, where training doesn't
    use Horovod."""
    records = _horovod(place, device, fabric)
    if place.comm.size == 1:
        records = [replace(record, verdict=WARN) if record.verdict == FAIL else record
                   for record in records]
    return records


def _horovod(place: Place, device: Device, fabric: Fabric) -> list[Record]:
    hvd, records = _import()
    if not place.agreed(not failed(records)) or hvd is None:
        return records
    try:
        wakes = cycle.choose(bool(device.gpu and hvd.nccl_built()))
        os.environ["HOROVOD_STALL_CHECK_TIME_SECONDS"] = str(_STALL // 2)
        os.environ["HOROVOD_STALL_SHUTDOWN_TIME_SECONDS"] = str(_STALL)
        hvd.init()
        records += judge_ranks((hvd.rank(), hvd.size()), (place.comm.rank, place.comm.size),
                               hvd.mpi_threads_supported())
        records.append(Record("Horovod cycle", wakes, INFO))
    except Exception as error:
        records.append(Record("Horovod", problem(error), FAIL, _REBUILD))
    if not place.agreed(not failed(records)):
        return records
    records += attempt("NCCL", _nccl, hvd, device)
    log = nccl.Log()
    by_nccl = bool(device.gpu and hvd.nccl_built())
    if by_nccl:
        log.start()
    reduced, seconds = _allreduce(place, hvd, device)
    text = log.end()
    if by_nccl and seconds is not None and len(place.leaders) > 1:
        reduced += attempt("NCCL network", nccl.judge, nccl.read(text), fabric, _rate(seconds),
                           os.environ)
    return records + reduced


def _import() -> tuple[ModuleType | None, list[Record]]:
    from hpc_deepfake.core.quiet import quiet_stderr

    try:
        with quiet_stderr():
            import horovod.tensorflow as hvd
    except Exception as error:  # built for another TensorFlow: an undefined symbol
        return None, [Record("Horovod", problem(error), FAIL, _REBUILD)]
    libraries = judge_libraries(Path("/proc/self/maps").read_text(encoding="utf-8"))
    return hvd, [libraries, *filter(None, [stack.judge_horovod(hvd.mpi_built())])]


def judge_libraries(maps: str) -> Record:
    """Whether mpi4py, HDF5 and Horovod use one MPI library, by ``maps``, the text of
    /proc/self/maps."""
    libraries = mpi_library.loaded(maps)
    if len(libraries) > 1:
        return Record("MPI library", f"{len(libraries)} in one process: {', '.join(libraries)}",
                      FAIL, "mpi4py, HDF5 and Horovod must use the same. " + stack.remedy(
                          "Load the MPI module that the job uses, then rebuild:\n  env/setup.sh"))
    return Record("MPI library", f"one for mpi4py, HDF5 and Horovod: {''.join(libraries) or '?'}")


def judge_ranks(horovod: tuple[int, int], mpi: tuple[int, int], threads: bool) -> list[Record]:
    """Whether Horovod sees the same ranks as MPI.

    Args:
        horovod: rank and size according to Horovod.
        mpi: rank and size according to MPI.
        threads: Horovod's mpi_threads_supported().
    """
    if horovod != mpi:
        return [Record("Horovod", f"sees rank {horovod[0]} of {horovod[1]}, but MPI sees "
                       f"{mpi[0]} of {mpi[1]}", FAIL,
                       f"Horovod was built for another MPI; {_REBUILD}")]
    ranks = Record("Horovod", f"sees the same {plural(mpi[1], 'rank')} as MPI")
    if threads:
        return [ranks, Record("Horovod threads", "may be mixed with mpi4py")]
    return [ranks, Record("Horovod threads", "MPI isn't thread-safe as Horovod started it", WARN,
                          "Horovod and mpi4py may interfere with each other; see 'MPI threads'. "
                          "To request full support:\n  unset MPI4PY_RC_THREAD_LEVEL "
                          "HOROVOD_MPI_THREADS_DISABLE")]


def _nccl(hvd: ModuleType, device: Device) -> Record:
    import tensorflow as tf

    return gpu.judge_nccl(int(hvd.nccl_built()), tf.test.is_built_with_cuda(), device.gpu)


def _rate(seconds: float) -> str:
    """How fast the gradients were reduced."""
    return f"{PARAMETERS * 4 / seconds / 1e9:.1f} GB/s"


def _allreduce(place: Place, hvd: ModuleType,
               device: Device) -> tuple[list[Record], float | None]:
    """Reduce an array of the size of the network's gradients, as in training; collective. Returns
    this rank's records, and the seconds of the slowest rank, None on all ranks if one failed."""
    import numpy as np
    import tensorflow as tf

    comm, size = place.comm, place.comm.size
    seconds: list[float] = []
    trouble: str | None = None
    try:
        with tf.device("GPU:0" if device.gpu else "CPU:0"):
            pattern = tf.cast(tf.range(PARAMETERS) % 7, tf.float32)
            value = pattern * (comm.rank + 1)
            for _ in range(3):  # the first time, the ranks also connect
                start = time.perf_counter()
                result = hvd.allreduce(value, name="doctor", op=hvd.Sum).numpy()
                seconds.append(time.perf_counter() - start)
        if not np.allclose(result, pattern.numpy() * (size * (size + 1) / 2), rtol=1e-5):
            trouble = "a wrong sum"
    except Exception as error:
        trouble = problem(error)
    if not place.agreed(trouble is None):
        return [Record("allreduce", trouble, FAIL, (
            "to get more messages from NCCL:\n  export NCCL_DEBUG=INFO"
            if device.gpu else f"if Horovod doesn't fit TensorFlow or MPI, {_REBUILD}"))
            if trouble else Record("allreduce", "no fault on this rank", INFO)], None
    slowest = max(comm.allgather(min(seconds)))
    if comm.rank:
        return [], slowest
    if size == 1:
        return [Record("allreduce", "works, on a single rank")], slowest
    way = "NCCL" if device.gpu and hvd.nccl_built() else "MPI"
    return [Record("allreduce", f"correct; the gradients' {PARAMETERS * 4 / 1e6:.1f} MB by {way} "
                   f"in {slowest * 1e3:.0f} ms, {_rate(slowest)}")], slowest
