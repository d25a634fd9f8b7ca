"""Ends this process if a check never returns."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

LIMIT = 300.0  # seconds for one check; TensorFlow's start from a slow file system may take minutes
_GRACE = 10.0  # seconds until ranks that wait for a stuck one are named, after it
_LEAVING = 60.0  # seconds from the last check to the end of the process


class Deadline:
    """A thread that ends the process with code 1 and names the check when one takes too long.

    Each rank has its own, so all of them end even if the launcher lets the others run. If the
    thread can't run because a library holds Python's lock, SIGALRM ends the process.
    """

    def __init__(self, rank: str) -> None:
        """``rank``: name of this process in the message."""
        self._rank = rank
        self._stderr = os.dup(2)  # the real one, also while TensorFlow's output is suppressed
        self._over = threading.Event()
        self.stage("start")

    def __enter__(self) -> Deadline:
        threading.Thread(target=self._watch, name="deadline", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        _alarm(_LEAVING)  # Horovod and MPI end after this, and may hang too

    def stage(self, name: str) -> None:
        """Start the next check, by its name."""
        self._stage = self._name = name
        self._set(LIMIT)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While this rank waits for others: they are to be named first."""
        self._stage = f"waiting for other ranks in '{self._name}'"
        self._set(LIMIT + _GRACE)
        yield
        self.stage(self._name)

    def _set(self, limit: float) -> None:
        self._due = time.monotonic() + limit
        _alarm(limit + 2 * _GRACE)

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            if time.monotonic() > self._due:
                os.write(self._stderr, f"doctor: {self._rank} has been stuck for {LIMIT:.0f} s: "
                                       f"{self._stage}; giving up\n".encode())
                os._exit(1)


def _alarm(seconds: float) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(int(seconds) + 1)
