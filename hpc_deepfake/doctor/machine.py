"""What a node gives its ranks: cores, limits, shared memory, network."""

from __future__ import annotations

import os
import resource
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hpc_deepfake.doctor.place import Place, count, ranges
from hpc_deepfake.doctor.report import INFO, OK, WARN, Record

_MB = 1 << 20
_FILES = 1024  # open files that a rank may need, sockets of MPI among them
_SHARED = 64 * _MB  # of /dev/shm for Open MPI and NCCL
_MORE_CORES = ("give each rank cores of its own, or start fewer ranks:\n"
               "  #SBATCH --cpus-per-task=2\n"
               "  export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK")
_UNBOUND = "\nWhere mpirun binds ranks to fewer cores than the job has:\n  mpirun --bind-to none …"


def cores(place: Place, training: bool) -> Record:
    """The cores of this node's ranks; collective."""
    place.meet()
    sets = place.node.allgather(tuple(sorted(os.sched_getaffinity(0))))
    return judge_cores(sets, os.cpu_count() or 1, training)


def judge_cores(sets: Sequence[tuple[int, ...]], there: int, training: bool) -> Record:
    """``sets``: cores that each rank of a node may use. ``there``: cores of the node."""
    ranks, union = len(sets), set().union(*sets)
    if len(set(sets)) == 1:
        text = f"{count(len(union), 'core')}" + f", shared by {ranks} ranks" * (ranks > 1)
    elif sum(map(len, sets)) == len(union):
        sizes = sorted({len(one) for one in sets})
        text = f"{ranks} ranks with {ranges(sizes)} of their own each"
    else:
        text = f"{ranks} ranks on {len(union)} cores, some in common"
    text += f" (the node has {there})" * (there > len(union))
    for some, _ in Counter(sets).most_common():
        crowd = [rank for rank, one in enumerate(sets) if set(one) <= set(some)]
        if len(crowd) > len(some):
            which = f"core{'s' * (len(some) > 1)} {ranges(some)}"
            return Record("cores", f"{len(crowd)} ranks share {which}" +
                          f" (the node has {there})" * (there > len(some)), WARN,
                          _MORE_CORES + _UNBOUND * (there > len(some)))
    if training and ranks > 1 and min(map(len, sets)) == 1 and there >= 2 * ranks:
        return Record("cores", text, WARN,
                      "Horovod's thread takes turns with the computation on a rank's only core; "
                      + _MORE_CORES + _UNBOUND)
    return Record("cores", text)


def limits(place: Place, infiniband: bool) -> list[Record]:
    """What ``ulimit`` allows this rank."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    core = resource.getrlimit(resource.RLIMIT_CORE)[0]
    return [judge_files(files, most),
            judge_locked(locked, infiniband and len(place.leaders) > 1),
            Record("core dumps", "off" if core == 0 else _size(core), INFO)]


def judge_files(files: int, most: int) -> Record:
    """Open files allowed now, and to which this user may raise it; -1 for no limit."""
    if files == resource.RLIM_INFINITY or files >= _FILES:
        return Record("open files", "unlimited" if files < 0 else f"{files:,} at most")
    return Record("open files", f"{files:,} at most", WARN,
                  "each rank holds sockets to others and files; in the job script, before srun or "
                  f"mpirun:\n  ulimit -n {_FILES * 4 if most < 0 else min(most, _FILES * 4)}")


def judge_locked(locked: int, needed: bool) -> Record:
    """Memory that may be locked, in bytes; -1 for no limit. InfiniBand needs it."""
    if locked == resource.RLIM_INFINITY:
        return Record("locked memory", "unlimited")
    text = f"{_size(locked)} at most"
    if not needed:
        return Record("locked memory", text + "; InfiniBand would need more", INFO)
    return Record("locked memory", text, WARN,
                  "InfiniBand registers memory by locking it: MPI then falls back to slower ways, "
                  "or fails. In the job script; if it is refused, the administrators raise it "
                  "(limits.conf, or LimitMEMLOCK of slurmd):\n  ulimit -l unlimited")


def shared_memory(place: Place, path: str = "/dev/shm") -> Record | None:
    """Room in the node's shared memory, said by one rank of each node."""
    if not place.first:
        return None
    todo = ("Open MPI and NCCL exchange data within a node there; remove what other jobs left, or "
            "in a container give it more:\n"
            f"  ls -l {path}\n"
            "  docker run --shm-size=1g …")
    try:
        found = os.statvfs(path)
    except OSError as error:
        return Record("shared memory", f"{path}: {error.strerror}", WARN, todo, scope="node")
    free = found.f_bavail * found.f_frsize
    return Record("shared memory", f"{_size(free)} free in {path}",
                  WARN if free < _SHARED else OK, todo, free, "node")


def infiniband(root: Path = Path("/sys/class/infiniband")) -> list[str]:
    """Devices with rate and state of their first port: ``mlx5_0 100 Gb/sec (4X EDR) ACTIVE``."""
    found = []
    for device in sorted(root.iterdir()) if root.is_dir() else ():
        port = device / "ports" / "1"
        state = _text(port / "state").partition(": ")[2]  # of "4: ACTIVE"
        found.append(" ".join(filter(None, (device.name, _text(port / "rate"), state))))
    return found


def network(place: Place, devices: list[str]) -> Record | None:
    """What connects the nodes, said by one rank of each."""
    if len(place.leaders) == 1 or not place.first:
        return None
    return Record("network", f"InfiniBand or the like: {', '.join(devices)}" if devices
                  else "no InfiniBand: MPI goes over TCP, unless it has another fabric", INFO)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _size(number: int) -> str:
    """Bytes for people."""
    if number < 0:
        return "unlimited"
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"
