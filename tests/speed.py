"""How fast this machine is, so that no test fails for its clock alone.

Limits in tests are given in seconds of a usual machine: two quiet cores that multiply matrices of
float32 at 60 GFLOP/s each. A slower one gets more, and so does one that runs several tests at once.
"""

from __future__ import annotations

import os
import time
from functools import cache

import numpy as np

_USUAL = 60e9  # floating point operations per second of one core
_SIZE = 768


@cache
def slowness() -> float:
    """How many times slower than a usual machine this one is; at least 1.

    ``$HPC_DEEPFAKE_TEST_SLOWNESS`` sets it where the measurement misleads.
    """
    told = os.environ.get("HPC_DEEPFAKE_TEST_SLOWNESS")
    if told:
        return float(told)
    matrix = np.ones((_SIZE, _SIZE), np.float32)
    matrix @ matrix
    best, until = 0.0, time.perf_counter() + 0.2
    while time.perf_counter() < until:
        began = time.perf_counter()
        matrix @ matrix
        best = max(best, 2 * _SIZE**3 / (time.perf_counter() - began))
    cores = os.cpu_count() or 1
    tests = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return max(1.0, _USUAL / best) * max(1.0, 2 / cores) * tests


def limit(seconds: float) -> float:
    """Seconds within which something must be done here that takes at most ``seconds`` there."""
    return seconds * slowness()
