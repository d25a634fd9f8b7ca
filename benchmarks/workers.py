"""Starting contestants and letting them run in turn."""

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
    """The benchmarks' own Python.

    Raises:
        SystemExit: it hasn't been set up.
    """
    if not PYTHON.exists():
        sys.exit("error: PyTorch and tf_keras are not installed; run benchmarks/setup.sh first")
    return str(PYTHON)


_PATIENCE = 240  # seconds for a line of a worker; then SIGALRM ends the benchmark


class Worker:
    """A contestant's process waiting for work.

    With ``at_once`` it is an mpirun of two ranks, which don't get standard input: they run so many
    steps as soon as they are ready.
    """

    def __init__(self, name: str, at_once: int = 0, cores: set[int] | None = None,
                 **env: str) -> None:
        launcher = ["mpirun", "-np", "2"] if at_once else []
        more = ["3", str(at_once)] if at_once else []
        self._ranks = 2 if at_once else 1
        root = str(CONTESTANT.parent.parent)
        self.process = subprocess.Popen(
            [*launcher, python(), str(CONTESTANT), name, *more], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": root, "TF_CPP_MIN_LOG_LEVEL": "3",
                 "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "-1", **env},
            preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None)

    def ready(self) -> None:
        """Wait until it has warmed up."""
        for _ in range(self._ranks):
            self._line("ready")

    def begin(self, steps: int) -> None:
        """Let it run some steps."""
        if self._ranks > 1:
            return
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()

    def seconds(self) -> list[float]:
        """What they took on each rank, once they are done."""
        return [float(self._line()) for _ in range(self._ranks)]

    def _line(self, wanted: str = "") -> str:
        signal.alarm(_PATIENCE)
        for line in self.process.stdout:
            if not wanted or line.strip() == wanted:
                return line
        raise RuntimeError(f"{' '.join(self.process.args)} ended with {self.process.wait()}")

    def close(self) -> None:
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def started(groups: dict[str, list[Worker]]) -> Iterator[dict[str, list[Worker]]]:
    """Groups of workers, all warmed up; ended afterwards."""
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
    """Two workers that find each other by ports of their own."""
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = json.dumps([one.getsockname()[1] for one in sockets])
    for one in sockets:
        one.close()
    return [Worker(name, WORKER=str(rank), WORKERS="2", PORTS=ports) for rank in range(2)]
