"""What a node provides for its ranks: cores, limits, shared memory."""

from __future__ import annotations

import os
import resource
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from hpc_deepfake.core.nodes import ranges
from hpc_deepfake.core.text import plural
from hpc_deepfake.doctor.place import Place
from hpc_deepfake.doctor.report import INFO, OK, WARN, Record

_MB = 1 << 20
_FILES = 1024  # open files that a rank may need, including sockets of MPI
_SHARED = 64 * _MB  # in /dev/shm, for Open MPI and NCCL
_MORE_CORES = ("give each rank its own cores, or start fewer ranks:\n"
               "  #SBATCH --cpus-per-task=2\n"
               "  srun --cpus-per-task=2 …")
_DAEMON = ("SRUN_CPUS_PER_TASK gives mpirun's daemon on each node, which SLURM starts, the CPUs of "
           "one rank; before mpirun:\n  unset SRUN_CPUS_PER_TASK\nIf that is not it, ")
_UNBOUND = "\nIf mpirun binds ranks to fewer cores than the job has:\n  mpirun --bind-to none …"


def cores(place: Place, training: bool) -> Record:
    """The cores of this node's ranks; collective."""
    place.meet()
    sets = place.node.allgather(tuple(sorted(os.sched_getaffinity(0))))
    by_mpirun = "OMPI_COMM_WORLD_SIZE" in os.environ and "SRUN_CPUS_PER_TASK" in os.environ
    record = judge_cores(sets, os.cpu_count() or 1, training)
    return replace(record, todo=_DAEMON + record.todo) if by_mpirun else record


def judge_cores(sets: Sequence[tuple[int, ...]], total: int, training: bool) -> Record:
    """Whether ranks share cores.

    Args:
        sets: cores that each rank of a node may use.
        total: number of cores of the node.
        training: whether Horovod's thread needs a core, too.
    """
    ranks, union = len(sets), set().union(*sets)
    if len(set(sets)) == 1:
        text = f"{plural(len(union), 'core')}" + f", shared by {ranks} ranks" * (ranks > 1)
    elif sum(map(len, sets)) == len(union):
        sizes = sorted(set(map(len, sets)))
        text = f"{ranks} ranks with {ranges(sizes)} of their own each"
    else:
        text = f"{ranks} ranks on {len(union)} cores, some in common"
    text += f" (the node has {total})" * (total > len(union))
    for shared, _ in Counter(sets).most_common():
        crowd = [rank for rank, own in enumerate(sets) if set(own) <= set(shared)]
        if len(crowd) > len(shared):
            cores = f"core{'s' * (len(shared) > 1)} {ranges(shared)}"
            return Record("cores", f"{len(crowd)} ranks share {cores}" +
                          f" (the node has {total})" * (total > len(shared)), WARN,
                          _MORE_CORES + _UNBOUND * (total > len(shared)))
    if training and ranks > 1 and min(map(len, sets)) == 1 and total >= 2 * ranks:
        return Record("cores", text, WARN,
                      "Horovod's thread takes turns with the computation on a rank's only core; "
                      + _MORE_CORES + _UNBOUND)
    return Record("cores", text)


def limits(place: Place, infiniband: bool) -> list[Record]:
    """The limits that ``ulimit`` shows for this rank."""
    files, maximum = resource.getrlimit(resource.RLIMIT_NOFILE)
    locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    core = resource.getrlimit(resource.RLIMIT_CORE)[0]
    return [judge_files(files, maximum),
            judge_locked(locked, infiniband and len(place.leaders) > 1),
            Record("core dumps", "off" if core == 0 else _size(core), INFO)]


def judge_files(files: int, maximum: int) -> Record:
    """The verdict on the limit of open files, which users may raise to ``maximum``; -1: none."""
    if files == resource.RLIM_INFINITY or files >= _FILES:
        return Record("open files", "unlimited" if files < 0 else f"{files:,} at most")
    return Record("open files", f"{files:,} at most", WARN,
                  "each rank opens files and sockets to others; in the job script, before srun or "
                  f"mpirun:\n  ulimit -n {_FILES * 4 if maximum < 0 else min(maximum, _FILES * 4)}")


def judge_locked(locked: int, needed: bool) -> Record:
    """The verdict on the bytes of memory that may be locked, -1 for no limit. ``needed``: whether
    nodes are connected by InfiniBand."""
    if locked == resource.RLIM_INFINITY:
        return Record("locked memory", "unlimited")
    text = f"{_size(locked)} at most"
    if not needed:
        return Record("locked memory", text + "; InfiniBand would need more", INFO)
    return Record("locked memory", text, WARN,
                  "InfiniBand locks the memory that it uses: MPI falls back to slower transports, "
                  "or fails. In the job script (if it is refused, administrators can raise the "
                  "limit in limits.conf, or LimitMEMLOCK of slurmd):\n  ulimit -l unlimited")


def shared_memory(place: Place, path: str = "/dev/shm") -> Record | None:
    """Free space in the node's shared memory; one rank of each node has the record."""
    if not place.first:
        return None
    todo = ("Open MPI and NCCL exchange data within a node there; remove files that other "
            "jobs left, or give a container more of it:\n"
            f"  ls -l {path}\n"
            "  docker run --shm-size=1g …")
    try:
        file_system = os.statvfs(path)
    except OSError as error:
        return Record("shared memory", f"{path}: {error.strerror}", WARN, todo, scope="node")
    free = file_system.f_bavail * file_system.f_frsize
    return Record("shared memory", f"{_size(free)} free in {path}",
                  WARN if free < _SHARED else OK, todo, free, "node")


def _size(number: int) -> str:
    """Bytes as text, like 1.5 GB."""
    if number < 0:
        return "unlimited"
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"
