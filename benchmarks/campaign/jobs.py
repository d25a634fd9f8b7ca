"""A started job: its processes, its output, how it ended, and what it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

MARK = "HPC_DEEPFAKE_FAULT"  # environment variable that all processes of a job inherit


class Job:
    """A program in a session of its own, its output in a file.

    Attributes:
        mark: value of ``MARK`` in all of its processes.
        began: seconds since the epoch.
        log: the file with its output.
    """

    def __init__(self, command: Sequence[str], log: Path, mark: str,
                 environment: Mapping[str, str]) -> None:
        self.mark, self.log, self.launched = mark, log, command[0] == "mpirun"
        self.began = time.time()
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                start_new_session=True, env={**os.environ, **environment, MARK: mark})

    @property
    def code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self.process.poll()

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def rank(self, number: int) -> int | None:
        """Process of a rank; None before it has started and after it has ended."""
        if not self.launched:
            return self.process.pid if self.code is None else None
        rank = f"OMPI_COMM_WORLD_RANK={number}".encode()
        return next((pid for pid, variables in _marked(self.mark) if rank in variables
                     and _parent(pid) == self.process.pid), None)

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Wait until ``until()``; False if the job has ended or the time is over before."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if until():
                return True
            if self.code is not None:
                return False
            time.sleep(0.003)
        return False

    def left(self, seconds: float) -> list[int]:
        """Its processes that are still there ``seconds`` after this call."""
        end = time.monotonic() + seconds
        while (pids := [pid for pid, _ in _marked(self.mark)]) and time.monotonic() < end:
            time.sleep(0.02)
        return pids

    def stacks(self) -> str:
        """What its processes wait for, as the kernel sees it."""
        lines = []
        for pid, _ in _marked(self.mark):
            for name in ("cmdline", "wchan", "stack"):
                with suppress(OSError):
                    text = Path(f"/proc/{pid}/{name}").read_text(errors="replace")
                    lines.append(f"{pid} {name}: {text.replace(chr(0), ' ')[:400]}")
        return "\n".join(lines)

    def kill(self) -> None:
        """End all of its processes."""
        kill_marked(self.mark)
        self.process.wait(30)


def kill_marked(mark: str) -> None:
    """End all processes whose mark begins with this one, until there is none."""
    while pids := [pid for pid, _ in _marked(mark)]:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def _marked(mark: str) -> Iterator[tuple[int, list[bytes]]]:
    """Processes whose mark begins with ``mark``, with their environment variables."""
    wanted = f"{MARK}={mark}".encode()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                variables = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
                if any(variable.startswith(wanted) for variable in variables):
                    yield int(name), variables


def _parent(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0
