"""Memory that this process may still use: free on the node, and within the job's limit."""

from __future__ import annotations

from pathlib import Path

import psutil

_NO_LIMIT = 1 << 60  # cgroup v1 writes a number near 2⁶³ for no limit


def available() -> int:
    """Bytes that are free on this node and that the process's control groups allow."""
    free: int = psutil.virtual_memory().available
    try:
        allowed = cgroup_free(Path("/proc/self/cgroup").read_text(encoding="utf-8"))
    except OSError:  # not Linux
        allowed = None
    return free if allowed is None else min(free, allowed)


def cgroup_free(membership: str, root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that this process's control groups still allow; None without a limit.

    Args:
        membership: text of ``/proc/self/cgroup``.
        root: folder in which the control groups are mounted.
    """
    remaining = []
    for line in membership.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            remaining += _remaining(root, path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            remaining += _remaining(root / "memory", path, "memory.limit_in_bytes",
                                    "memory.usage_in_bytes", "total_inactive_file")
    return max(0, min(remaining)) if remaining else None


def _remaining(root: Path, path: str, limit: str, usage: str, cache: str) -> list[int]:
    """Bytes left in a control group and in each above it, of those with a limit. A container may
    not see the path."""
    remaining = []
    lowest = root / path.strip("/")
    for group in (lowest, *lowest.parents):
        try:
            maximum = int((group / limit).read_text())
            used = int((group / usage).read_text())
        except (OSError, ValueError):  # ValueError: "max"
            pass
        else:
            if maximum < _NO_LIMIT:
                remaining.append(maximum - used + _cache(group / "memory.stat", cache))
        if group == root:
            break
    return remaining


def _cache(path: Path, name: str) -> int:
    """Bytes of cached files, which the kernel frees on demand."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), 0)
