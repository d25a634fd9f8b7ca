"""Worlds of ranks that are started once for many tests; the ranks' side is ``mpi/world.py``.

Starting TensorFlow and Horovod takes a rank five seconds of a core, which most tests of what ranks
compute don't need to pay again. While a world has nothing to do its ranks are stopped, since
Horovod's threads would look for work five hundred times a second.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
from speed import limit

PROGRAM = Path(__file__).parent / "mpi" / "world.py"
_MEMORY = 1_600_000_000  # bytes: a rank that has grown beyond them ends its world
_MOST_RANKS = 13  # of all worlds together


class Answer(NamedTuple):
    """Exit code of a program, and what rank 0 printed."""

    code: int
    output: str


class World:
    """N ranks that run one program after the other."""

    def __init__(self, ranks: int, strategy: str, folder: Path) -> None:
        self.ranks, self._folder, self._number = ranks, folder, 0
        self._errors = open(folder / "stderr", "w+")  # noqa: SIM115 (as long as the world lives)
        self._process = subprocess.Popen(
            ["mpirun", "-np", str(ranks), sys.executable, PROGRAM, folder, strategy], text=True,
            stdin=subprocess.PIPE, stdout=self._errors, stderr=subprocess.STDOUT, env=os.environ)

    def run(self, program: str, *arguments: object, cwd: Path, timeout: float) -> Answer:
        """Run a program of tests/mpi, or ``train`` with its options, on all ranks."""
        self._signal(signal.SIGCONT)
        request = {"program": program, "arguments": [*map(str, arguments)], "folder": str(cwd)}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer, until = self._folder / f"{self._number}.json", time.monotonic() + timeout
        while not answer.exists():
            if self._process.poll() is not None:
                raise AssertionError(f"{program} ended its world: {self._end()}")
            if time.monotonic() > until:
                end = self._end()
                self.close()
                raise AssertionError(f"{program} takes longer than {timeout:.0f} s: {end}")
            time.sleep(0.01)
        self._number += 1
        self._signal(signal.SIGSTOP)
        if any(rank.memory_info().rss > _MEMORY for rank in self._ranks()):
            self.close()
        return Answer(**json.loads(answer.read_text()))

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        for process in [*self._ranks(), self._process]:
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                process.kill()
        self._process.wait()
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._errors.close()

    def _ranks(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self._process.pid).children(recursive=True)
        return []

    def _signal(self, number: int) -> None:
        for rank in self._ranks():
            with suppress(psutil.NoSuchProcess):
                rank.send_signal(number)

    def _end(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-3000:]


class Worlds:
    """The worlds of a test session, by number of ranks and MPI's settings; one that a program
    ended is made anew, and the one that wasn't used for longest makes room."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._made = folder, 0
        self._worlds: dict[tuple[int, str], World] = {}

    def run(self, ranks: int, program: str, *arguments: object, cwd: Path,
            timeout: float = 600) -> Answer:
        """As ``World.run``, on ``ranks`` of them; ``timeout`` in seconds of a usual machine."""
        # settings for large messages, with which Open MPI 4.1's all-to-all among three ranks was
        # seen to hang: only for strategies that train so, too
        polling = {"asynchronous.py", "meshes.py", "async", "mesh", "--mesh"}
        mesh = ranks > 1 and polling & {program, *map(str, arguments)}
        kind = (ranks, "mesh" if mesh else "sync")
        world = self._worlds.pop(kind, None)
        if world is None or not world.alive:
            self._make_room(ranks)
            self._made += 1
            folder = self._folder / "-".join(map(str, (*kind, self._made)))
            folder.mkdir()
            world = World(*kind, folder)
        self._worlds[kind] = world  # the last one is that used last
        return world.run(program, *arguments, cwd=cwd, timeout=limit(timeout))

    def _make_room(self, ranks: int) -> None:
        while sum(world.ranks for world in self._worlds.values()) + ranks > _MOST_RANKS:
            self._worlds.pop(next(iter(self._worlds))).close()

    def close(self) -> None:
        for world in self._worlds.values():
            world.close()
