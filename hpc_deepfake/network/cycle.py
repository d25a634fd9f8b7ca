"""How often Horovod's thread wakes up, by device."""

from __future__ import annotations

import os

NAME = "HOROVOD_CYCLE_TIME"
ON_CPU = 2.0  # milliseconds, measured: docs/measurements.md


def choose(nccl: bool, on_cpu: float = ON_CPU) -> str:
    """Set it for this process, to be called before Horovod starts; ``$HOROVOD_CYCLE_TIME`` comes
    first. Returns it in words.

    On CPU ranks the thread shares the cores with the computation, and polls inside MPI: it wakes up
    less often than by default. With NCCL it only hands over what the GPUs do.

    Args:
        nccl: whether GPUs reduce by NCCL.
        on_cpu: milliseconds between two wake-ups on CPU ranks.
    """
    if NAME in os.environ:
        return f"{os.environ[NAME]} ms, by ${NAME}"
    if nccl:
        return "1 ms, Horovod's own, with NCCL"
    os.environ[NAME] = f"{on_cpu:g}"
    return f"{on_cpu:g} ms, for CPU ranks"
