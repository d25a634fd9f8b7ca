"""NVIDIA GPUs: who takes which, the driver, GPU-direct. Not yet run on one: tested with texts."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc_deepfake.doctor.place import count, ranges
from hpc_deepfake.doctor.report import FAIL, INFO, OK, WARN, Record

_QUERY = ("index", "uuid", "pci.bus_id", "name", "driver_version", "memory.total", "memory.used")
_BUSY = 1024  # MiB in use before any rank of this job started there
# oldest driver of the series that runs every release of that CUDA
DRIVERS = {11: "450.80.02", 12: "525.60.13", 13: "580"}
_DRIVER_FILE = Path("/proc/driver/nvidia/version")
_DIRECT = {"nvidia_peermem", "nv_peer_mem", "gdrdrv"}


@dataclass(frozen=True)
class Card:
    """One line of nvidia-smi; memory in MiB."""

    index: int
    uuid: str
    bus: str
    name: str
    driver: str
    memory: int
    used: int


def cards() -> list[Card]:
    """What nvidia-smi shows this rank; empty without it."""
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        return []
    return parse(done.stdout) if done.returncode == 0 else []


def parse(text: str) -> list[Card]:
    """From nvidia-smi's CSV without header and units; ``[N/A]`` for a number counts as 0."""
    found = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == len(_QUERY) and fields[0].isdigit():
            index, uuid, bus, name, driver, *memory = fields
            found.append(Card(int(index), uuid, bus, name, driver,
                              *(int(one) if one.isdigit() else 0 for one in memory)))
    return found


def visible(there: Sequence[Card], setting: str | None) -> list[str]:
    """UUIDs in the order in which CUDA numbers them, as ``setting`` of CUDA_VISIBLE_DEVICES says.

    The list ends at the first entry that names nothing. Parts of a GPU (MIG) go by their own name.
    """
    if setting is None:
        return [card.uuid for card in there]
    found = []
    for entry in filter(None, map(str.strip, setting.split(","))):
        if entry.startswith("MIG-"):
            found.append(entry)
            continue
        match = [card.uuid for card in there if entry == str(card.index)
                 or (entry.startswith("GPU-") and card.uuid.startswith(entry))]
        if len(match) != 1:
            break
        found += match
    return found


def busy(there: Sequence[Card], setting: str | None) -> Record | None:
    """GPUs that this rank may take and others use; to be asked before any rank takes one."""
    mine = set(visible(there, setting))
    used = [card for card in there if card.uuid in mine and card.used >= _BUSY]
    if not used:
        return None
    return Record("GPU memory", ", ".join(f"GPU {card.index} ({card.bus}) has {card.used:,} of "
                                          f"{card.memory:,} MiB in use" for card in used), WARN,
                  "another program computes there: it slows both down, and memory may run out. "
                  "Which one:\n  nvidia-smi --query-compute-apps=gpu_uuid,pid,name --format=csv")


def judge_sharing(taken: Sequence[tuple[int, str | None]]) -> Record | None:
    """Whether ranks take the same GPU.

    Args:
        taken: for each rank of a node its number and its GPU's UUID, None if that isn't known.
    """
    ranks_on: dict[str, list[int]] = {}
    for rank, device in taken:
        if device:
            ranks_on.setdefault(device, []).append(rank)
    double = [f"ranks {ranges(ranks)} on {device}" for device, ranks in ranks_on.items()
              if len(ranks) > 1]
    if not ranks_on:
        return None
    if not double:
        return Record("GPU per rank", "each rank has its own")
    return Record("GPU per rank", f"several ranks on one: {', '.join(double)}", WARN,
                  "they take turns, and NCCL may refuse it (see 'allreduce'). Start as many ranks "
                  "per node as it has GPUs:\n"
                  f"  #SBATCH --ntasks-per-node={len(ranks_on)} --gpus-per-node={len(ranks_on)}\n"
                  f"  mpirun --map-by ppr:{len(ranks_on)}:node …")


def driver(there: Sequence[Card], file: Path = _DRIVER_FILE) -> str | None:
    """Version of the driver; None without one."""
    if there:
        return there[0].driver
    try:
        found = re.search(r"\b\d{3}\.\d+(?:\.\d+)?\b", file.read_text(encoding="utf-8"))
    except OSError:
        return None
    return found[0] if found else None


def judge_driver(have: str, cuda: str, computes: bool) -> Record:
    """``have``: the driver. ``cuda``: which TensorFlow was built for. ``computes``: it did."""
    major = int(cuda.partition(".")[0])
    needed = DRIVERS.get(major)
    if needed is None:
        return Record("driver", f"{have}; TensorFlow was built for CUDA {cuda}", INFO)
    text = f"{have}; CUDA {major} needs {needed} or newer"
    if _numbers(have) >= _numbers(needed):
        return Record("driver", text)
    if computes:
        return Record("driver", f"{text}, yet it computes: through CUDA's compatibility libraries",
                      WARN, "works on data centre GPUs only, and not on every node perhaps. A "
                      f"newer driver, or an environment for CUDA {major - 1}:\n"
                      "  env/setup.sh --gpu")
    return Record("driver", text, FAIL,
                  "ask for a newer driver, or load an older CUDA module and build the environment "
                  "anew:\n  env/setup.sh --gpu")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def direct(nodes: int, network: Sequence[str], modules: Path = Path("/proc/modules"),
           file: Path = _DRIVER_FILE) -> Record | None:
    """GPU-direct RDMA between nodes: the network card reads the GPU's memory."""
    if nodes == 1:
        return None
    try:
        loaded = {line.split()[0] for line in modules.read_text().splitlines() if line}
    except OSError:
        loaded = set()
    found = sorted(loaded & _DIRECT)
    if found:
        return Record("GPU-direct", f"kernel module {', '.join(found)} is loaded")
    if not network:
        return Record("GPU-direct", "no: it needs InfiniBand or RoCE", INFO)
    try:
        if "Open Kernel Module" in file.read_text(encoding="utf-8"):
            return Record("GPU-direct", "possible by DMA-BUF (open kernel module)", INFO)
    except OSError:
        pass
    return Record("GPU-direct", "no: none of the kernel modules " + ", ".join(sorted(_DIRECT)),
                  WARN, "gradients take the way through the host's memory. Ask the administrators "
                  "for nvidia_peermem; this shows what NCCL uses (lines with GDRDMA or not):\n"
                  "  export NCCL_DEBUG=INFO")


def judge_none(wanted: str, there: Sequence[Card], why: str, expected: bool) -> Record:
    """Where TensorFlow uses no GPU. ``expected``: it does on other ranks."""
    todo = ("to see what TensorFlow tried:\n"
            "  TF_CPP_MIN_LOG_LEVEL=0 python -c 'import tensorflow as tf; "
            "tf.config.list_physical_devices()'")
    if wanted == "cpu":
        return Record("GPU", "not used (--device cpu)", INFO)
    if expected:
        return Record("GPU", f"none, while other ranks have one: {why}", FAIL,
                      f"ranks on GPUs and on CPUs can't reduce together: --device cpu, or {todo}")
    if there:
        return Record("GPU", f"not used, though nvidia-smi shows {count(len(there), 'GPU')}: {why}",
                      WARN, f"training would run on the CPU; {todo}")
    return Record("GPU", "none", INFO)


def nccl_version(code: int) -> str:
    """``2.18.3`` of 21803; NCCL before 2.9 counted otherwise."""
    if code < 10_000:
        return f"{code // 1000}.{code // 100 % 10}.{code % 100}"
    return f"{code // 10_000}.{code // 100 % 100}.{code % 100}"


def judge_nccl(code: int, cuda: bool, used: bool) -> Record:
    """``code``: Horovod's nccl_built(). ``cuda``: TensorFlow has it. ``used``: GPUs are."""
    text = (f"{nccl_version(code)} in Horovod" if code > 1 else
            f"Horovod is built {'with' if code else 'without'} it") + \
        f", TensorFlow {'with' if cuda else 'without'} CUDA"
    if bool(code) == cuda:
        return Record("NCCL", text, OK)
    return Record("NCCL", text, FAIL if used else WARN,
                  "Horovod was built for another TensorFlow; build it anew:\n  env/setup.sh"
                  + " --gpu" * cuda)


def setting() -> str | None:
    """CUDA_VISIBLE_DEVICES as the job gives it."""
    return os.environ.get("CUDA_VISIBLE_DEVICES")
