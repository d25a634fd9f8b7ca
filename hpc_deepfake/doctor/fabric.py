"""The fast network between nodes: which one there is, and whether MPI has loaded its libraries.

Tested with prepared file trees and recorded lists of libraries only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hpc_deepfake.doctor.place import Place
from hpc_deepfake.doctor.report import INFO, WARN, Record

# libraries through which an MPI uses each network
_SLINGSHOT = re.compile(r"/libcxi\.so")
_INFINIBAND = re.compile(r"/lib(ibverbs|uct_ib|psm2|psm3|psmx)\b[^/\n]*\.so")


@dataclass(frozen=True)
class Fabric:
    """Devices of a node.

    Attributes:
        infiniband: InfiniBand, RoCE and Omni-Path, with rate and state of the first port.
        slingshot: of HPE Slingshot, with the speed of its interface.
    """

    infiniband: tuple[str, ...] = ()
    slingshot: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether a device is there, and not known to be down."""
        return bool(self.slingshot) or any(
            "Gb/sec" not in device or device.endswith("ACTIVE") for device in self.infiniband)

    def __str__(self) -> str:
        return "; ".join(f"{name}: {', '.join(devices)}" for name, devices in (
            ("Slingshot", self.slingshot), ("InfiniBand or similar", self.infiniband)) if devices)


def find(root: Path = Path("/sys/class")) -> Fabric:
    """The devices of this node."""
    infiniband = []
    for device in _entries(root / "infiniband"):
        port = device / "ports" / "1"
        state = _text(port / "state").partition(": ")[2]  # of "4: ACTIVE"
        infiniband.append(" ".join(filter(None, (device.name, _text(port / "rate"), state))))
    slingshot = []
    for device in _entries(root / "cxi"):
        interface = root / "net" / device.name.replace("cxi", "hsn")
        speed = _text(interface / "speed")  # in Mb/s
        slingshot.append(device.name + (
            f" {int(speed) // 1000} Gb/s" if speed.isdecimal() else ""))
    return Fabric(tuple(infiniband), tuple(slingshot))


def network(place: Place, fabric: Fabric) -> Record | None:
    """What MPI uses between the nodes; one rank of each node has the record."""
    if len(place.leaders) == 1 or not place.first:
        return None
    return judge(fabric, Path("/proc/self/maps").read_text(encoding="utf-8"))


def judge(fabric: Fabric, maps: str) -> Record:
    """The verdict on MPI, by ``maps``: /proc/PID/maps of a process in which it has started."""
    if not str(fabric):
        return Record("network", "no InfiniBand or Slingshot: MPI uses TCP, unless there is "
                      "another fabric", INFO)
    if not fabric.usable:
        return Record("network", f"{fabric}: not active", WARN,
                      "MPI and NCCL use TCP. Exclude the node, and tell the administrators:\n"
                      "  sbatch --exclude=NODE …")
    if (_SLINGSHOT if fabric.slingshot else _INFINIBAND).search(maps):
        return Record("network", str(fabric), INFO)
    what = "libcxi" if fabric.slingshot else "libibverbs or libpsm2"
    return Record("network", f"{fabric}; but this MPI has not loaded {what}, and seems to use TCP",
                  WARN, "messages take many times longer. Build the environment with the site's "
                  "own MPI, which knows this network:\n"
                  + ("  module load PrgEnv-gnu cray-mpich && env/setup.sh --mpi system\n"
                     "'fi_info -p cxi' shows whether a libfabric can use Slingshot"
                     if fabric.slingshot else
                     "  module load openmpi && env/setup.sh --mpi system\n"
                     "'ucx_info -d' shows whether UCX can use it; a container needs "
                     "/dev/infiniband"))


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _text(path: Path) -> str:
    """A file's text; empty if it can't be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
