"""Which network NCCL uses between nodes, by its own log. Tested with recorded logs only.

Where NCCL finds no way to the fast network it uses TCP, says so nowhere but in its log, and takes
several times as long.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpc_deepfake.doctor.fabric import Fabric
from hpc_deepfake.doctor.report import INFO, WARN, Record

_LEVELS = ("INFO", "TRACE")  # of NCCL_DEBUG, which show the network
_SOCKETS = {"tcp", "sockets", "udp", "net"}  # providers of libfabric over the host's TCP


@dataclass(frozen=True)
class Network:
    """What a log says.

    Attributes:
        name: NCCL's name for what it uses: ``Socket``, ``IB``, ``AWS Libfabric``, …
        devices: interfaces or devices, with commas.
        provider: of libfabric, such as ``cxi``; empty without libfabric.
        direct: whether GPU-direct RDMA is used.
        plugin: whether a network plug-in was found.
    """

    name: str
    devices: str = ""
    provider: str = ""
    direct: bool = False
    plugin: bool = False

    @property
    def tcp(self) -> bool:
        """Whether the data goes through the host's TCP."""
        return self.name == "Socket" or self.provider.partition(";")[0] in _SOCKETS

    def __str__(self) -> str:
        text = self.name
        if self.tcp:
            text = "TCP" + f" through libfabric ({self.provider})" * bool(self.provider)
        elif self.provider:
            text += f" ({self.provider})"
        return text + f" on {self.devices}" * bool(self.devices)


def read(log: str) -> Network | None:
    """The network in a log of NCCL (``NCCL_DEBUG=INFO``), of version 2.4 to 2.32; None without."""
    used = re.findall(r"NCCL INFO (?:.*: )?Using network (.+?)\s*$", log, re.MULTILINE)
    if not used:
        return None
    name = used[-1]
    kind = "IB" if name.startswith("IB") else name
    own = re.findall(rf"NET/{re.escape(kind)}\s*: Using (.*)$", log, re.MULTILINE)
    devices = re.findall(r"\[\d+\]([\w.-]+)", own[-1]) if own else []
    provider = re.findall(r"NET/OFI Selected [Pp]rovider is ([\w;.-]+)", log)
    found = re.search(r"NET/Plugin: Loaded net plugin|Successfully loaded external network plugin"
                      r"|NET/Plugin: Using .*plugin|NET/OFI ", log)
    return Network(name, ", ".join(devices), provider[-1] if provider else "",
                   "/GDRDMA" in log, bool(found))


class Log:
    """NCCL's log of this process, in a temporary file."""

    def __init__(self) -> None:
        self._path: Path | None = None

    def start(self) -> None:
        """To be called before NCCL is. A log that the user asked for stays where it is."""
        if os.environ.get("NCCL_DEBUG", "").upper() in _LEVELS:
            return
        try:
            descriptor, name = tempfile.mkstemp(prefix="hpc-deepfake-nccl-")
        except OSError:
            return
        os.close(descriptor)
        self._path = Path(name)
        os.environ.update({"NCCL_DEBUG": "INFO", "NCCL_DEBUG_SUBSYS": "INIT,NET,ENV",
                           "NCCL_DEBUG_FILE": name})

    def end(self) -> str:
        """Its text so far; the file loses its name."""
        if self._path is None:
            return ""
        text = self._path.read_text(encoding="utf-8", errors="replace")
        self._path.unlink(missing_ok=True)
        self._path = None
        return text


def judge(network: Network | None, fabric: Fabric, rate: str, environ: Mapping[str, str]) -> Record:
    """The verdict between several nodes.

    Args:
        network: what NCCL uses; None if its log doesn't say.
        fabric: the node's fast network.
        rate: of the gradients' reduction, as text.
        environ: of the job.
    """
    if network is None:
        return Record("NCCL network", "unknown: NCCL's line 'Using network' says it "
                      "(NCCL_DEBUG=INFO)", INFO)
    if not network.tcp:
        return Record("NCCL network", f"{network}" + ", with GPU-direct RDMA" * network.direct)
    text = f"{network}, {rate}" + f", although there is {fabric}" * bool(str(fabric))
    return Record("NCCL network", text, WARN, _advice(network, fabric, environ))


def _advice(network: Network, fabric: Fabric, environ: Mapping[str, str]) -> str:
    """What brings NCCL to the fast network."""
    slow = "reducing gradients takes several times as long as it could. "
    for name, value in (("NCCL_IB_DISABLE", "1"), ("NCCL_NET", "Socket")):
        if environ.get(name) == value and (fabric.infiniband or name == "NCCL_NET"):
            return f"{slow}{name}={value} asks for it:\n  unset {name}"
    if fabric.slingshot:
        where = plugin(environ)
        return slow + "NCCL uses Slingshot through libfabric's provider cxi and the plug-in " + (
            f"libnccl-net, of which {where} was found but not used: its libfabric may have no cxi "
            "(fi_info -p cxi), or it was built for another NCCL or CUDA. Set this, and NCCL says "
            "why it fails:\n" if where else
            "aws-ofi-nccl (libnccl-net.so), which is not in LD_LIBRARY_PATH. Load the site's "
            "module with it (module spider nccl), and let NCCL fail rather than use TCP:\n"
            "  module load aws-ofi-nccl\n") + "  export NCCL_NET='AWS Libfabric' NCCL_DEBUG=INFO"
    if fabric.infiniband:
        return (f"{slow}NCCL finds InfiniBand by libibverbs and /dev/infiniband, which a container "
                "may not have, and among the devices of NCCL_IB_HCA. Check these, and let NCCL "
                "fail rather than use TCP:\n  ls /dev/infiniband; ibv_devinfo -l\n"
                "  export NCCL_NET=IB NCCL_DEBUG=INFO")
    return ("no InfiniBand or Slingshot is visible on this node. If the cluster has one, this node "
            "or the container hides it; otherwise choose the fastest interface:\n"
            "  ip -br link; cat /sys/class/net/*/speed\n"
            "  export NCCL_SOCKET_IFNAME=NAME")


def plugin(environ: Mapping[str, str]) -> str | None:
    """Path of the network plug-in that NCCL would load; None if the loader finds none."""
    name = environ.get("NCCL_NET_PLUGIN", "")
    names = [f"libnccl-net-{name}.so", name] if name else ["libnccl-net.so"]
    folders = filter(None, environ.get("LD_LIBRARY_PATH", "").split(":"))
    paths = [Path(folder, file) for folder in folders for file in names]
    return next((str(path) for path in paths if path.is_file()), None)
