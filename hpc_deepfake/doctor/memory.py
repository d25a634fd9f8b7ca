"""Memory that a node's ranks may use: free on the node, and allowed by the job's limit."""

from __future__ import annotations

from pathlib import Path

import psutil

from hpc_deepfake.doctor.place import Place, count
from hpc_deepfake.doctor.report import FAIL, OK, WARN, Record

# GB per rank, largest resident size seen: training at batch 32 1.2 to 1.3, preprocessing 0.1 with
# small pictures
NEEDED = {"train": 1.3, "preprocess": 0.3}
_NO_LIMIT = 1 << 60  # cgroup v1 writes a number near 2⁶³ for none


def memory(place: Place, purpose: str) -> Record | None:
    """Said by one rank of each node."""
    if not place.first:
        return None
    free = psutil.virtual_memory().available
    allowed = cgroup_free(Path("/proc/self/cgroup").read_text(encoding="utf-8"))
    return judge(free, allowed, place.node.size, NEEDED[purpose])


def judge(free: int, allowed: int | None, ranks: int, each: float) -> Record:
    """``free``: bytes on the node. ``allowed``: more bytes for this job. ``each``: GB per rank."""
    limited = allowed is not None and allowed < free
    gigabytes = (allowed if limited else free) / 1e9
    text = (f"{gigabytes:.1f} GB free" + " within the job's limit" * limited
            + f" for {count(ranks, 'rank')}, {each} GB each needed")
    verdict = FAIL if gigabytes < ranks * each else WARN if gigabytes < 1.5 * ranks * each else OK
    ask = 2 * ranks * each
    return Record("memory", text, verdict,
                  "fewer ranks per node, a smaller --batch-size (training), or more memory:\n"
                  f"  #SBATCH --mem={ask:.0f}G\n"
                  f"  #PBS -l select=1:mem={ask:.0f}gb", gigabytes / ranks, "node")


def cgroup_free(membership: str, root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that this process's control groups still allow; None without a limit.

    Args:
        membership: text of ``/proc/self/cgroup``. root: where the control groups are mounted.
    """
    rooms = []
    for line in membership.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            rooms += _rooms(root, path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            rooms += _rooms(root / "memory", path, "memory.limit_in_bytes",
                            "memory.usage_in_bytes", "total_inactive_file")
    return max(0, min(rooms)) if rooms else None


def _rooms(root: Path, path: str, limit: str, usage: str, cache: str) -> list[int]:
    """Room in the group and in each above it. In a container the path may not be visible."""
    rooms = []
    group = root / path.strip("/")
    for one in (group, *group.parents):
        try:
            most = int((one / limit).read_text())
            used = int((one / usage).read_text())
        except (OSError, ValueError):  # ValueError: "max"
            pass
        else:
            if most < _NO_LIMIT:
                rooms.append(most - used + _cache(one / "memory.stat", cache))
        if one == root:
            break
    return rooms


def _cache(path: Path, name: str) -> int:
    """Bytes of files kept in memory, which the kernel drops when they are needed."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), 0)
