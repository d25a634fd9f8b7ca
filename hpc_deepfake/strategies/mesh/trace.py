"""Recording the work and messages of each rank, as a trace for https://ui.perfetto.dev."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc_deepfake.core import perfetto

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

LIMIT = 20_000  # maximum number of recorded events per rank


class Trace:
    """Events of one rank.

    Times are those of the node's wall clock: they are comparable to microseconds between ranks of
    one node, and between nodes as far as their clocks agree.
    """

    def __init__(self, rank: int, title: str, path: Path) -> None:
        """
        Args:
            rank: this rank.
            title: of this rank in the trace.
            path: file that ``write`` writes.
        """
        self._rank, self._title, self._path = rank, title, path
        self.events: list[perfetto.Event] = []
        self._offset = time.time() - time.perf_counter()

    def work(self, name: str, begin: float, end: float, **details: Any) -> None:
        """Record an operation between two readings of ``time.perf_counter``."""
        self._keep(perfetto.span(name, self._rank, begin + self._offset, end + self._offset,
                                 **details))

    def flight(self, name: str, number: int, begin: float, end: float, **details: Any) -> None:
        """Record a message, the ``number``-th of this rank, between two such readings."""
        common = {"name": name, "cat": "message", "id": f"{self._rank}.{number}",
                  "pid": self._rank, "tid": 0}
        self._keep({**common, "ph": "b", "ts": (begin + self._offset) * 1e6, "args": details})
        self._keep({**common, "ph": "e", "ts": (end + self._offset) * 1e6})

    def _keep(self, event: perfetto.Event) -> None:
        if len(self.events) < LIMIT:
            self.events.append(event)

    def write(self, comm: Comm) -> None:
        """Write the events of all ranks so far; collective."""
        gathered = comm.gather((self._title, self.events))
        if gathered is None:
            return
        events = [event for _, recorded in gathered for event in recorded]
        for rank, (title, _) in enumerate(gathered):
            events += [perfetto.named("process_name", title, rank),
                       {"name": "process_sort_index", "ph": "M", "pid": rank,
                        "args": {"sort_index": rank}}]
        perfetto.write(self._path, events)
