"""Keeping messages moving while a rank computes."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

PAUSE = 2.5e-4  # seconds
_NEVER_SENT = 32_000  # a tag; MPI allows at least 32,767


class Mover:
    """A context manager during which a thread calls MPI, so that messages make progress.

    Most MPI libraries move a large message only while both ends call them; so does Open MPI on one
    node without cross-memory attach.
    """

    def __init__(self, comm: Comm, pause: float = PAUSE) -> None:
        """``pause``: seconds between two calls."""
        from mpi4py import MPI

        self._comm, self._on, self._pause = comm, threading.Event(), pause
        # without full thread support MPI must not be called from another thread
        if MPI.Query_thread() == MPI.THREAD_MULTIPLE:
            threading.Thread(target=self._move, name="mover", daemon=True).start()

    def __enter__(self) -> None:
        self._on.set()

    def __exit__(self, *_: object) -> None:
        self._on.clear()

    def _move(self) -> None:
        while self._on.wait():
            self._comm.Iprobe(tag=_NEVER_SENT)
            time.sleep(self._pause)
