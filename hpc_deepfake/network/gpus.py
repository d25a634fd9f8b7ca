"""The NVIDIA GPUs that a process sees, by names that are the same for all processes of a node.

Their numbers aren't: ``CUDA_VISIBLE_DEVICES`` renumbers the GPUs for each rank, and where a
scheduler gives each rank one GPU, all ranks call theirs number 0. Tested with recorded texts and
played libraries only.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from hpc_deepfake.core.text import whole_number

_QUERY = ("index", "uuid", "pci.bus_id", "name", "driver_version", "memory.total", "memory.used")


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a part of one (MIG).

    Attributes:
        uuid: ``GPU-…`` or ``MIG-…``.
        bus: PCI address, which parts of a GPU have in common; empty if it is unknown.
    """

    uuid: str
    bus: str = ""


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


def visible(library: Any = None) -> list[Gpu]:
    """The GPUs that this process may use, as CUDA numbers them; empty if neither CUDA's driver nor
    nvidia-smi tells.

    Args:
        library: CUDA's driver; None: that of this machine.
    """
    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        return by_driver(library or ctypes.CDLL("libcuda.so.1"), setting)
    except (OSError, AttributeError):  # no driver, or one without these functions
        listed = cards()
    buses = {card.uuid: _bus(card.bus) for card in listed}
    return [Gpu(uuid, buses.get(uuid, "")) for uuid in by_setting(listed, setting)]


def by_driver(cuda: Any, setting: str | None) -> list[Gpu]:
    """The GPUs that CUDA's driver API lists (CUDA 11.4 and newer tell parts of a GPU apart).

    Args:
        cuda: the library.
        setting: of CUDA_VISIBLE_DEVICES, which the library follows by itself.

    Raises:
        OSError: a call failed.
    """
    def call(name: str, *arguments: Any) -> None:
        if code := getattr(cuda, name)(*arguments):
            raise OSError(f"{name} returned {code}")

    part = (setting or "").startswith("MIG-")
    count, device = ctypes.c_int(), ctypes.c_int()
    call("cuInit", 0)
    call("cuDeviceGetCount", ctypes.byref(count))
    found = []
    for number in range(count.value):
        raw, address = (ctypes.c_ubyte * 16)(), ctypes.create_string_buffer(32)
        call("cuDeviceGet", ctypes.byref(device), number)
        call("cuDeviceGetUuid_v2", ctypes.byref(raw), device)
        call("cuDeviceGetPCIBusId", address, 32, device)
        found.append(Gpu(f"{'MIG' if part else 'GPU'}-{UUID(bytes=bytes(raw))}",
                         _bus(address.value.decode())))
    return found


def _bus(address: str) -> str:
    """A PCI address as CUDA writes it; nvidia-smi has four more digits for the domain."""
    domain, _, rest = address.lower().partition(":")
    return f"{domain[-4:]}:{rest}" if rest else ""


def cards() -> list[Card]:
    """GPUs that nvidia-smi lists on this rank's node; empty if it is missing or fails."""
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse(done.stdout) if done.returncode == 0 else []


def parse(text: str) -> list[Card]:
    """GPUs in nvidia-smi's CSV without header and units; ``[N/A]`` counts as 0."""
    listed = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        index = whole_number(fields[0])
        if len(fields) == len(_QUERY) and index is not None:
            _, uuid, bus, name, driver, *memory = fields
            listed.append(Card(index, uuid, bus, name, driver,
                               *(whole_number(amount) or 0 for amount in memory)))
    return listed


def by_setting(cards: Sequence[Card], setting: str | None) -> list[str]:
    """UUIDs in CUDA's order under this ``setting`` of CUDA_VISIBLE_DEVICES.

    The list ends at the first entry that matches no GPU. Parts of a GPU (MIG) have their own names.
    """
    if setting is None:
        return [card.uuid for card in cards]
    uuids = []
    for entry in filter(None, map(str.strip, setting.split(","))):
        if entry.startswith("MIG-"):
            uuids.append(entry)
            continue
        match = [card.uuid for card in cards if entry == str(card.index)
                 or (entry.startswith("GPU-") and card.uuid.startswith(entry))]
        if len(match) != 1:
            break
        uuids += match
    return uuids
