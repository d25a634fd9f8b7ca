"""Memory available to a node's ranks: free on the node, and within the job's limit."""

from __future__ import annotations

from pathlib import Path

import psutil

from hpc_deepfake.core.memory import cgroup_free
from hpc_deepfake.core.text import plural
from hpc_deepfake.doctor.place import Place
from hpc_deepfake.doctor.report import FAIL, OK, WARN, Record

# GB per rank, from measured resident sizes: training with batches of 32 rows 1.2 to 1.3,
# preprocessing 0.1 with small pictures
NEEDED = {"train": 1.3, "preprocess": 0.3}


def memory(place: Place, purpose: str) -> Record | None:
    """The verdict on this node; its lowest rank has the record."""
    if not place.first:
        return None
    free = psutil.virtual_memory().available
    allowed = cgroup_free(Path("/proc/self/cgroup").read_text(encoding="utf-8"))
    return judge(free, allowed, place.node.size, NEEDED[purpose])


def judge(free: int, allowed: int | None, ranks: int, each: float) -> Record:
    """Whether the memory suffices.

    Args:
        free: bytes available on the node.
        allowed: bytes that the job may still use; None without a limit.
        ranks: number of ranks on the node.
        each: GB that a rank needs.
    """
    available = free if allowed is None else min(allowed, free)
    gigabytes = available / 1e9
    text = (f"{gigabytes:.1f} GB free" + " within the job's limit" * (available < free)
            + f" for {plural(ranks, 'rank')}, each needs {each} GB")
    verdict = FAIL if gigabytes < ranks * each else WARN if gigabytes < 1.5 * ranks * each else OK
    recommended = 2 * ranks * each
    return Record("memory", text, verdict,
                  "start fewer ranks per node, train with a smaller --batch-size, or request more "
                  "memory:\n"
                  f"  #SBATCH --mem={recommended:.0f}G\n"
                  f"  #PBS -l select=1:mem={recommended:.0f}gb", gigabytes / ranks, "node")
