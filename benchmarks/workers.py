"""Starting contestants and running them in turn."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

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
    """The process of a contestant, or its ranks.

    Args:
        name: key of ``contestants.CONTESTANTS``.
        ranks: more than one are started with mpirun.
        cores: CPU cores to run on (default: all).
        interpreter: Python to run it with (default: that of the benchmarks' environment).
        options: of mpirun.
        env: more environment variables.
    """

    def __init__(self, name: str, ranks: int = 1, cores: set[int] | None = None,
                 interpreter: str | None = None, options: Sequence[str] = (), **env: str) -> None:
        launcher = ["mpirun", *options, "-np", str(ranks)] if ranks > 1 else []
        self._ranks = ranks
        root = str(CONTESTANT.parent.parent)
        self.process = subprocess.Popen(
            [*launcher, interpreter or python(), str(CONTESTANT), name], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": root, "TF_CPP_MIN_LOG_LEVEL": "3",
                 "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "-1", **env},
            preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None)

    def ready(self) -> None:
        """Wait until all its ranks have warmed up."""
        for _ in range(self._ranks):
            self._line("ready")
        self.pause(True)

    def pause(self, stop: bool) -> None:
        """Stop its ranks, which would take CPU time even when they are idle, or continue them."""
        if self._ranks == 1 or self.process.poll() is not None:
            return
        for rank in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                rank.send_signal(signal.SIGSTOP if stop else signal.SIGCONT)

    def begin(self, steps: int, how: str = "") -> None:
        """Start the measured steps, or ``how`` of ``contestants.INSTEAD``."""
        self.pause(False)
        self.process.stdin.write(f"{steps} {how}\n")
        self.process.stdin.flush()

    def seconds(self) -> list[float]:
        """Wait for the end of the steps; seconds that they took on each rank."""
        seconds = [float(self._line()) for _ in range(self._ranks)]
        self.pause(True)
        return seconds

    def _line(self, expected: str = "") -> str:
        """The next line of output; with ``expected``, the next one with this content."""
        signal.alarm(_TIMEOUT)
        for line in self.process.stdout:
            if not expected or line.strip() == expected:
                signal.alarm(0)
                return line
        raise RuntimeError(f"{' '.join(self.process.args)} ended with {self.process.wait()}")

    def close(self) -> None:
        self.pause(False)
        self.process.stdin.close()
        if self._ranks > 1:  # its ranks end when they have read all
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
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
