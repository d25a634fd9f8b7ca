"""TensorFlow and Horovod: started as training starts them, and made to compute."""

from __future__ import annotations

import os
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.doctor import gpu
from hpc_deepfake.doctor.place import Place, count
from hpc_deepfake.doctor.report import FAIL, INFO, WARN, Record, attempt, failed, problem

if TYPE_CHECKING:
    from hpc_deepfake.network.device import Device

_GRADIENTS = 7_392_962  # of the model; float32
_REBUILD = "build it for this TensorFlow and this MPI:\n  env/setup.sh"
_LEAVE_OUT = ("device or driver of this node are broken: leave it out, and tell the "
              "administrators:\n  sbatch --exclude=NODE …")
_STALL = 30  # seconds until Horovod gives up on a rank that doesn't reduce


def checks(place: Place, wanted: str, threads: int, cards: list[gpu.Card],
           infiniband: list[str]) -> list[Record]:
    """All of this rank's records; collective."""
    device, records = start(place, wanted, threads)
    right = attempt("computation", compute, device, todo=_LEAVE_OUT) if device else []
    computes = device is not None and not failed(right)
    records += right
    if "tensorflow" in sys.modules:
        records += attempt("driver", _driver, cards, computes and device.gpu)
    if not place.agreed(device is not None):
        return records
    with_gpu = place.comm.allgather(device.gpu)
    records += attempt("GPU", _gpu, device, wanted, cards, any(with_gpu))
    if any(with_gpu):
        records += _sharing(place, device, cards)
        records += attempt("GPU-direct", gpu.direct, len(place.leaders), infiniband)
    records.append(threads_record(place, device.threads))
    if place.agreed(computes) and len(set(with_gpu)) == 1:
        records += horovod(place, device)
    return records


def start(place: Place, wanted: str, threads: int) -> tuple[Device | None, list[Record]]:
    """TensorFlow on the device that training would take; None if it can't."""
    from hpc_deepfake.network import device as devices

    try:
        device = devices.start(wanted, place.node.rank, place.node.size, threads)
    except InputError:
        import tensorflow as tf

        return None, [Record("GPU", f"none for --device gpu: {devices.why_no_gpu(tf)}", FAIL,
                             "take --device cpu, or mend it; what this node and this job have:\n"
                             "  nvidia-smi; echo $CUDA_VISIBLE_DEVICES")]
    except Exception as error:
        return None, [Record("TensorFlow", problem(error), FAIL, "build the environment:\n"
                             "  env/setup.sh")]
    return device, []


def compute(device: Device) -> Record:
    """A product and a convolution, forward and back, with known results."""
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
    right = (np.array_equal(product, exact) and (output.numpy() == 27).all()
             and (gradient == 2 * 14 * 14).all())
    where = f"{device.kind}, {device.name}"
    if right:
        return Record("computation", f"right on {where}")
    return Record("computation", f"wrong results on {where}", FAIL, _LEAVE_OUT)


def _gpu(device: Device, wanted: str, cards: list[gpu.Card], expected: bool) -> Record:
    import tensorflow as tf

    from hpc_deepfake.network.device import why_no_gpu

    if device.gpu:
        there = len(tf.config.list_physical_devices("GPU"))
        return Record("GPU", f"{device.name}, {count(there, 'GPU')} visible")
    return gpu.judge_none(wanted, cards, "" if wanted == "cpu" else why_no_gpu(tf), expected)


def _sharing(place: Place, device: Device, cards: list[gpu.Card]) -> list[Record]:
    """Collective on the node."""
    mine = gpu.visible(cards, gpu.setting())
    number = int(device.kind.partition(":")[2] or 0)
    taken = mine[number] if device.gpu and number < len(mine) else None
    found = gpu.judge_sharing(place.node.allgather((place.comm.rank, taken)))
    return [found] if found else []


def _driver(cards: list[gpu.Card], computes: bool) -> Record | None:
    import tensorflow as tf

    have, cuda = gpu.driver(cards), tf.sysconfig.get_build_info().get("cuda_version")
    return gpu.judge_driver(have, cuda, computes) if have and cuda else None


def threads_record(place: Place, threads: int) -> Record:
    """Threads that training will use on this node; collective on the node."""
    everyone = place.node.allgather((threads, tuple(sorted(os.sched_getaffinity(0)))))
    return judge_threads(everyone, place.node.rank)


def judge_threads(everyone: list[tuple[int, tuple[int, ...]]], rank: int) -> Record:
    """``everyone``: threads and cores of each rank of the node; the verdict is on ``rank``."""
    threads, cores = everyone[rank]
    there = len(set().union(*(some for _, some in everyone)))
    asked = sum(number for number, _ in everyone)
    # a core that n ranks may use counts 1/n for each
    share = sum(1 / sum(core in some for _, some in everyone) for core in cores)
    text = f"{count(threads, 'thread')} per rank"
    if asked > there and asked > len(everyone):
        return Record("threads", f"{text}, {asked} on {count(there, 'core')}", WARN,
                      "threads push each other off the cores; per rank at most:\n"
                      f"  export OMP_NUM_THREADS={max(1, int(share))}")
    if threads < int(share):
        return Record("threads", f"{text}, on {int(share)} cores of its own", WARN,
                      f"cores lie idle; per rank:\n  export OMP_NUM_THREADS={int(share)}")
    return Record("threads", text)


def horovod(place: Place, device: Device) -> list[Record]:
    """Horovod's records; collective. On one rank training does without it: no failure then."""
    records = _horovod(place, device)
    if place.comm.size == 1:
        records = [replace(one, verdict=WARN) if one.verdict == FAIL else one for one in records]
    return records


def _horovod(place: Place, device: Device) -> list[Record]:
    hvd, records = _import()
    if not place.agreed(not failed(records)):
        return records
    try:
        os.environ["HOROVOD_STALL_CHECK_TIME_SECONDS"] = str(_STALL // 2)
        os.environ["HOROVOD_STALL_SHUTDOWN_TIME_SECONDS"] = str(_STALL)
        hvd.init()
        records += judge_ranks((hvd.rank(), hvd.size()), (place.comm.rank, place.comm.size),
                               hvd.mpi_threads_supported())
    except Exception as error:
        records.append(Record("Horovod", problem(error), FAIL, _REBUILD))
    if not place.agreed(not failed(records)):
        return records
    records += attempt("NCCL", _nccl, hvd, device)
    return records + _allreduce(place, hvd, device)


def _import() -> tuple[ModuleType | None, list[Record]]:
    from hpc_deepfake.network.device import quiet_stderr

    try:
        with quiet_stderr():
            import horovod.tensorflow as hvd
    except Exception as error:  # built for another TensorFlow: an undefined symbol
        return None, [Record("Horovod", problem(error), FAIL, _REBUILD)]
    return hvd, [judge_libraries(Path("/proc/self/maps").read_text(encoding="utf-8"))]


def judge_libraries(maps: str) -> Record:
    """One MPI library for mpi4py, HDF5 and Horovod, by the files mapped into this process."""
    found = sorted(set(re.findall(
        r"(/\S*/libmpi(?:ch|_cray|_intel|_gnu_\w+|_ibm)?\.so[.\d]*)$", maps, re.MULTILINE)))
    if len(found) > 1:
        return Record("MPI library", f"{len(found)} in one process: {', '.join(found)}", FAIL,
                      "mpi4py, HDF5 and Horovod must use the same: load the MPI module that the "
                      "job uses, then build anew:\n  env/setup.sh")
    return Record("MPI library", f"one for mpi4py, HDF5 and Horovod: {''.join(found) or '?'}")


def judge_ranks(horovod: tuple[int, int], mpi: tuple[int, int], threads: bool) -> list[Record]:
    """``horovod``, ``mpi``: rank and size that each sees. ``threads``: mpi_threads_supported()."""
    if horovod != mpi:
        return [Record("Horovod", f"sees rank {horovod[0]} of {horovod[1]}, where MPI sees "
                       f"{mpi[0]} of {mpi[1]}", FAIL,
                       f"Horovod was built for another MPI; {_REBUILD}")]
    ranks = Record("Horovod", f"sees the same {count(mpi[1], 'rank')} as MPI")
    if threads:
        return [ranks, Record("Horovod threads", "may be mixed with mpi4py")]
    return [ranks, Record("Horovod threads", "MPI isn't thread-safe as Horovod started it", WARN,
                          "Horovod and mpi4py may disturb each other; see 'MPI threads'. This "
                          "asks for full support:\n  unset MPI4PY_RC_THREAD_LEVEL "
                          "HOROVOD_MPI_THREADS_DISABLE")]


def _nccl(hvd: ModuleType, device: Device) -> Record:
    import tensorflow as tf

    return gpu.judge_nccl(int(hvd.nccl_built()), tf.test.is_built_with_cuda(), device.gpu)


def _allreduce(place: Place, hvd: ModuleType, device: Device) -> list[Record]:
    """The model's gradients, reduced as in training; collective."""
    import numpy as np
    import tensorflow as tf

    comm, size = place.comm, place.comm.size
    seconds, trouble = [], None
    try:
        with tf.device("GPU:0" if device.gpu else "CPU:0"):
            pattern = tf.cast(tf.range(_GRADIENTS) % 7, tf.float32)
            value = pattern * (comm.rank + 1)
            for _ in range(3):  # the first one also connects the ranks
                start = time.perf_counter()
                result = hvd.allreduce(value, name="doctor", op=hvd.Sum).numpy()
                seconds.append(time.perf_counter() - start)
        if not np.allclose(result, pattern.numpy() * (size * (size + 1) / 2), rtol=1e-5):
            trouble = "a wrong sum"
    except Exception as error:
        trouble = problem(error)
    if not place.agreed(trouble is None):
        return [Record("allreduce", trouble, FAIL, (
            "NCCL says more in the output of the same command, with:\n  export NCCL_DEBUG=INFO"
            if device.gpu else f"if Horovod doesn't fit TensorFlow or MPI, {_REBUILD}"))
            if trouble else Record("allreduce", "no trouble of its own", INFO)]
    slowest = max(comm.allgather(min(seconds)))
    if comm.rank:
        return []
    if size == 1:
        return [Record("allreduce", "works, on one rank alone")]
    way = "NCCL" if device.gpu and hvd.nccl_built() else "MPI"
    bytes_ = _GRADIENTS * 4
    return [Record("allreduce", f"right; the model's {bytes_ / 1e6:.1f} MB by {way} in "
                   f"{slowest * 1e3:.0f} ms, {bytes_ / slowest / 1e9:.1f} GB/s")]
