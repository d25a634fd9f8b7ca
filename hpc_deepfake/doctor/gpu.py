"""NVIDIA GPUs: which rank uses which, the driver, GPU-direct. Tested with recorded texts only."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from hpc_deepfake.core.text import plural
from hpc_deepfake.doctor.report import FAIL, INFO, OK, WARN, Record
from hpc_deepfake.network import placement
from hpc_deepfake.network.gpus import Card, by_setting
from hpc_deepfake.network.placement import Seat

_BUSY = 1024  # MiB in use before any rank of this job started there
# by major version of CUDA: the oldest driver that runs all its releases
DRIVERS = {11: "450.80.02", 12: "525.60.13", 13: "580"}
_DRIVER_FILE = Path("/proc/driver/nvidia/version")
_DIRECT = {"nvidia_peermem", "nv_peer_mem", "gdrdrv"}


def busy(cards: Sequence[Card], setting: str | None) -> Record | None:
    """A warning on GPUs that this rank may use and other programs do; called before any rank uses
    one."""
    own = set(by_setting(cards, setting))
    used = [card for card in cards if card.uuid in own and card.used >= _BUSY]
    if not used:
        return None
    return Record("GPU memory", ", ".join(f"GPU {card.index} ({card.bus}) has {card.used:,} of "
                                          f"{card.memory:,} MiB in use" for card in used), WARN,
                  "another program uses it: both are slowed down, and memory may run out. To see "
                  "which one:\n  nvidia-smi --query-compute-apps=gpu_uuid,pid,name --format=csv")


def judge_places(seats: Sequence[Seat]) -> list[Record]:
    """What training would refuse or warn of, of the devices on which the ranks are; one record says
    that each rank has a GPU of its own, unless no rank's GPU is known."""
    faults = placement.judge(seats)
    records = [Record(fault.what, fault.text, FAIL if fault.refused else WARN, fault.todo,
                      scope="all") for fault in faults]
    if not any(fault.what == "GPU per rank" for fault in faults) and any(
            seat.own for seat in seats):
        records.append(Record("GPU per rank", "each rank has its own", scope="all"))
    return records


def driver(cards: Sequence[Card], file: Path = _DRIVER_FILE) -> str | None:
    """Version of the driver; None without one."""
    if cards:
        return cards[0].driver
    try:
        match = re.search(r"\b\d{3}\.\d+(?:\.\d+)?\b", file.read_text(encoding="utf-8"))
    except OSError:
        return None
    return match[0] if match else None


def judge_driver(version: str, cuda: str, computes: bool) -> Record:
    """Whether the driver is new enough.

    Args:
        version: of the driver.
        cuda: version of CUDA for which TensorFlow was built.
        computes: whether TensorFlow computed correctly on a GPU.
    """
    major = int(cuda.partition(".")[0])
    needed = DRIVERS.get(major)
    if needed is None:
        return Record("driver", f"{version}; TensorFlow was built for CUDA {cuda}", INFO)
    text = f"{version}; CUDA {major} needs {needed} or newer"
    if _numbers(version) >= _numbers(needed):
        return Record("driver", text)
    if computes:
        return Record("driver", f"{text}, but works through CUDA's compatibility libraries",
                      WARN, "works on data centre GPUs only, and perhaps not on every node. Ask "
                      f"for a newer driver, or build an environment for CUDA {major - 1}:\n"
                      "  env/setup.sh --gpu")
    return Record("driver", text, FAIL,
                  "ask for a newer driver, or load an older CUDA module and rebuild the "
                  "environment:\n  env/setup.sh --gpu")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d{1,9}", version))


def direct(nodes: int, network: Sequence[str], modules: Path = Path("/proc/modules"),
           file: Path = _DRIVER_FILE) -> Record | None:
    """GPU-direct RDMA between nodes, by which the network card reads the GPU's memory."""
    if nodes == 1:
        return None
    try:
        loaded = {line.split()[0] for line in modules.read_text().splitlines() if line}
    except OSError:
        loaded = set()
    drivers = sorted(loaded & _DIRECT)
    if drivers:
        return Record("GPU-direct", f"kernel module {', '.join(drivers)} is loaded")
    if not network:
        return Record("GPU-direct", "no: it needs InfiniBand or RoCE", INFO)
    try:
        if "Open Kernel Module" in file.read_text(encoding="utf-8"):
            return Record("GPU-direct", "possible through DMA-BUF (open kernel module)", INFO)
    except OSError:
        pass
    return Record("GPU-direct", "no: missing kernel module, one of " + ", ".join(sorted(_DIRECT)),
                  WARN, "gradients are copied through the host's memory. Ask the administrators "
                  "for nvidia_peermem; lines with GDRDMA show that NCCL uses GPU-direct:\n"
                  "  export NCCL_DEBUG=INFO")


def judge_none(requested: str, cards: Sequence[Card], reason: str) -> Record:
    """The verdict on a rank whose TensorFlow uses no GPU.

    Args:
        requested: value of --device.
        cards: GPUs that nvidia-smi lists.
        reason: why TensorFlow uses none.
    """
    todo = ("to see what TensorFlow tried:\n"
            "  TF_CPP_MIN_LOG_LEVEL=0 python -c 'import tensorflow as tf; "
            "tf.config.list_physical_devices()'")
    if requested == "cpu":
        return Record("GPU", "not used (--device cpu)", INFO)
    if cards:
        return Record("GPU", f"not used, although nvidia-smi lists {plural(len(cards), 'GPU')}: "
                      f"{reason}", WARN, f"training would run on the CPU; {todo}")
    return Record("GPU", "none", INFO)


def nccl_version(code: int) -> str:
    """``2.18.3`` for 21803; NCCL before 2.9 had another numbering."""
    if code < 10_000:
        return f"{code // 1000}.{code // 100 % 10}.{code % 100}"
    return f"{code // 10_000}.{code // 100 % 100}.{code % 100}"


def judge_nccl(code: int, cuda: bool, used: bool) -> Record:
    """Whether Horovod was built with NCCL where TensorFlow was built with CUDA.

    Args:
        code: Horovod's nccl_built().
        cuda: whether TensorFlow was built with CUDA.
        used: whether this rank uses a GPU.
    """
    text = (f"{nccl_version(code)} in Horovod" if code > 1 else
            f"Horovod is built {'with' if code else 'without'} it") + \
        f", TensorFlow {'with' if cuda else 'without'} CUDA"
    if bool(code) == cuda:
        return Record("NCCL", text, OK)
    return Record("NCCL", text, FAIL if used else WARN,
                  "Horovod was built for another TensorFlow; rebuild it:\n  env/setup.sh"
                  + " --gpu" * cuda)


def setting() -> str | None:
    """CUDA_VISIBLE_DEVICES, as the job sets it."""
    return os.environ.get("CUDA_VISIBLE_DEVICES")
