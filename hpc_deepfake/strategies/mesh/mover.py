"""Messages that move while a rank computes."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

_NEVER_SENT = 32_000  # MPI allows tags up to 32,767 at least


class Mover:
    """A thread that calls MPI while this rank computes, if messages are under way.

    Few MPI libraries move a large message unless both ends call them; Open MPI on one node without
    cross-memory attach does not.
    """

    def __init__(self, comm: Comm) -> None:
        from mpi4py import MPI

        self._comm, self._on = comm, threading.Event()
        # without full thread support MPI must not be called from here
        if MPI.Query_thread() == MPI.THREAD_MULTIPLE:
            threading.Thread(target=self._move, name="mover", daemon=True).start()

    def __enter__(self) -> None:
        self._on.set()

    def __exit__(self, *_: object) -> None:
        self._on.clear()

    def _move(self) -> None:
        while self._on.wait():
            self._comm.Iprobe(tag=_NEVER_SENT)
            time.sleep(2.5e-4)
