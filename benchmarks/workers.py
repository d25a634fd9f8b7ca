"""Starting contestants and running them in turn."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CONTESTANT = Path(__file__).with_name("contestants.py")
PYTHON = Path(__file__).resolve().parent.parent / ".venv-benchmarks" / "bin" / "python"


def python() -> str:
    """The Python of the benchmarks' environment.

    Raises:
        SystemExit: the environment is missing.
    """
    if not PYTHON.exists():
        sys.exit("error: PyTorch and tf_keras are not installed; run benchmarks/setup.sh first")
    return str(PYTHON)


# seconds to wait for a line of a worker; then SIGALRM ends the benchmark. XLA compiles a large
# network for minutes
_TIMEOUT = int(os.environ.get("BENCHMARK_TIMEOUT", "240"))


class Worker:
    """The process of a contestant.

    Args:
        name: key of ``contestants.CONTESTANTS``.
        at_once: if not 0, start two ranks with mpirun. Ranks get no standard input, so they run
            this number of steps as soon as they are ready.
        cores: CPU cores to run on (default: all).
        interpreter: Python to run it with (default: that of the benchmarks' environment).
        env: more environment variables.
    """

    def __init__(self, name: str, at_once: int = 0, cores: set[int] | None = None,
                 interpreter: str | None = None, **env: str) -> None:
        launcher = ["mpirun", "-np", "2"] if at_once else []
        steps = ["3", str(at_once)] if at_once else []
        self._ranks = 2 if at_once else 1
        root = str(CONTESTANT.parent.parent)
        self.process = subprocess.Popen(
            [*launcher, interpreter or python(), str(CONTESTANT), name, *steps], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": root, "TF_CPP_MIN_LOG_LEVEL": "3",
                 "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "-1", **env},
            preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None)

    def ready(self) -> None:
        """Wait until all its ranks have warmed up."""
        for _ in range(self._ranks):
            self._line("ready")

    def begin(self, steps: int) -> None:
        """Start the measured steps."""
        if self._ranks > 1:
            return
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()

    def seconds(self) -> list[float]:
        """Wait for the end of the steps; seconds that they took on each rank."""
        return [float(self._line()) for _ in range(self._ranks)]

    def _line(self, expected: str = "") -> str:
        """The next line of output; with ``expected``, the next one with this content."""
        signal.alarm(_TIMEOUT)
        for line in self.process.stdout:
            if not expected or line.strip() == expected:
                return line
        raise RuntimeError(f"{' '.join(self.process.args)} ended with {self.process.wait()}")

    def close(self) -> None:
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def started(groups: dict[str, list[Worker]]) -> Iterator[dict[str, list[Worker]]]:
    """Groups of workers that have warmed up; they are ended afterwards."""
    try:
        for group in groups.values():
            for worker in group:
                worker.ready()
        yield groups
    finally:
        for group in groups.values():
            for worker in group:
                worker.close()


def pair(name: str) -> list[Worker]:
    """Two workers that communicate through free ports of this machine."""
    sockets = [socket.socket() for _ in range(2)]
    for free in sockets:
        free.bind(("127.0.0.1", 0))
    ports = json.dumps([free.getsockname()[1] for free in sockets])
    for free in sockets:
        free.close()
    return [Worker(name, WORKER=str(rank), WORKERS="2", PORTS=ports) for rank in range(2)]
