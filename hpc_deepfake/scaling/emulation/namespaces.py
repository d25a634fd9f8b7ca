"""A cluster of network namespaces on one machine, whose links have a limited rate.

Each node is a network namespace with one interface; a bridge in a namespace of its own is the
switch between them. ``tc tbf``, a token bucket, limits what a node sends and, at the switch's port,
what it receives, as a full-duplex cable does.

A namespace exists as long as a process is in it or holds a file descriptor of it. Here only this
process does the latter, and the interfaces are in these namespaces: nothing has a name outside, and
whatever ends this process, even ``kill -9``, the kernel removes it all.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import plural

NETWORK = "10.77.0.0/16"
MOST_NODES = 250
_FOLDER = "hpc-deepfake-emulation-"  # begin of the temporary folder's name, then the process
SWITCH = "switch"  # name of its namespace
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_PACKET = 1 << 16  # bytes: the largest that TCP hands to the interface in one piece
_QUEUE = 64 << 20  # bytes: nothing is lost, since TCP's windows are smaller
_AGENT = """#!/bin/sh
# AGENT NODE COMMAND…: what ssh does between real nodes
node=$1
shift
exec nsenter --net="${0%/*}/$node" unshare --uts sh -c "hostname $node; $*"
"""


class Cluster:
    """The nodes n000, n001 …, and the switch between them.

    Attributes:
        folder: temporary folder, with a link to each namespace, the hosts and the launch agent.
        nodes: names of the nodes.
    """

    def __init__(self, folder: Path, nodes: Sequence[str]) -> None:
        self.folder, self.nodes = folder, list(nodes)

    @property
    def agent(self) -> str:
        """Command that starts another one on a node, like ``ssh``."""
        return f"sh {self.folder / 'agent'}"

    @property
    def hosts(self) -> Path:
        """File with a line for each node, for ``mpirun --hostfile``."""
        return self.folder / "hosts"

    def inside(self, name: str, command: Sequence[str]) -> list[str]:
        """A command as it is run in a namespace."""
        return ["nsenter", f"--net={self.folder / name}", *command]

    def shape(self, rate: float | None) -> None:
        """Limit all links to ``rate`` bits per second in each direction; None: no limit.

        Raises:
            InputError: the kernel can't.
        """
        words = shaping(rate)
        for name, interfaces in [(SWITCH, self.nodes), *((node, ["eth0"]) for node in self.nodes)]:
            lines = "".join(f"qdisc replace dev {interface} root {words}\n"
                            for interface in interfaces)
            _run(self.inside(name, ["tc", "-batch", "-"]), lines)


def shaping(rate: float | None) -> str:
    """The queueing discipline of a link of ``rate`` bits per second, in the words of ``tc``.

    The bucket holds what the link carries in a tenth of a millisecond, and at least two of TCP's
    largest pieces, so that they needn't be cut."""
    if rate is None:
        return "pfifo limit 100000"
    burst = max(2 * _PACKET, round(rate / 8 / 10_000))
    return f"tbf rate {round(rate)}bit burst {burst}b limit {_QUEUE}b"


@contextmanager
def cluster(count: int) -> Iterator[Cluster]:
    """``count`` nodes, without a limit; all is removed at the end.

    Raises:
        InputError: not root, or this machine lacks the programs or the rights.
    """
    check()
    names = [f"n{number:03}" for number in range(count)]
    _remove_left()
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-"))
        stack.callback(_remove, folder)
        for name in (SWITCH, *names):
            descriptor = _namespace()
            stack.callback(os.close, descriptor)
            (folder / name).symlink_to(f"/proc/{os.getpid()}/fd/{descriptor}")
        (folder / "agent").write_text(_AGENT)
        (folder / "hosts").write_text("".join(f"{name} slots=1\n" for name in names))
        made = Cluster(folder, names)
        _run(made.inside(SWITCH, ["ip", "-batch", "-"]), "".join([
            "link add name switch0 type bridge\n", "addr add 10.77.255.254/16 dev switch0\n",
            "link set lo up\n", "link set switch0 up\n",
            *(f"link add name {name} type veth peer name eth0 netns {folder / name}\n"
              f"link set {name} master switch0 up\n" for name in names)]))
        for number, name in enumerate(names):
            _run(made.inside(name, ["ip", "-batch", "-"]),
                 f"addr add 10.77.{number // 250}.{number % 250 + 1}/16 dev eth0\n"
                 "link set lo up\nlink set eth0 up\n")
        yield made


def check() -> None:
    """Whether this machine can have a cluster.

    Raises:
        InputError: it can't; says what to do.
    """
    if os.geteuid() != 0:
        raise InputError("scaling emulate makes network namespaces and limits their links, which "
                         "needs root: run it as root, or in a container with --cap-add NET_ADMIN "
                         "--cap-add SYS_ADMIN")
    missing = [program for program in ("ip", "tc", "nsenter", "unshare", "mpirun")
               if shutil.which(program) is None]
    if missing:
        raise InputError(f"scaling emulate needs {', '.join(missing)}: install the packages "
                         "iproute2, util-linux and openmpi-bin, or source env/activate.sh")
    os.close(_namespace())


def _remove(folder: Path) -> None:
    """Remove a folder, in which the last daemons of MPI may still be removing files."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


def _remove_left() -> None:
    """Remove the temporary folders of processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*-*"):
        process = folder.name.removeprefix(_FOLDER).partition("-")[0]
        if process.isdecimal() and not Path("/proc", process).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _namespace() -> int:
    """A file descriptor of a new network namespace, which this thread doesn't stay in."""
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(_NEW_NETWORK):
            raise InputError("this machine allows no network namespaces "
                             f"({os.strerror(ctypes.get_errno())}): in a container, start it with "
                             "--cap-add NET_ADMIN --cap-add SYS_ADMIN")
        try:
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            if libc.setns(own, _NEW_NETWORK):
                raise RuntimeError("cannot return to the machine's network")
    finally:
        os.close(own)


def _run(command: Sequence[str], lines: str) -> None:
    done = subprocess.run(command, input=lines, capture_output=True, text=True)
    if done.returncode:
        what = (done.stderr or done.stdout).strip().splitlines()
        raise InputError(f"this machine's kernel can't make the links ({' '.join(command[2:])}: "
                         f"{what[0] if what else plural(done.returncode, 'error')}): load the "
                         "modules bridge, veth and sch_tbf, or use another machine")
