"""What a rank did when, as a trace for Perfetto (ui.perfetto.dev) or chrome://tracing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc_deepfake.core import perfetto

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

LIMIT = 20_000  # events of a rank; what comes later is left out


class Trace:
    """Events of one rank. Times are the node's wall clock: ranks of one node can be compared to
    microseconds, those of several as well as their clocks agree."""

    def __init__(self, rank: int, title: str) -> None:
        self._rank, self._title = rank, title
        self.events: list[perfetto.Event] = []
        self._offset = time.time() - time.perf_counter()

    def work(self, name: str, begin: float, end: float, **details: Any) -> None:
        """This rank did one thing; seconds of ``time.perf_counter``."""
        self._keep(perfetto.span(name, self._rank, begin + self._offset, end + self._offset,
                                 **details))

    def flight(self, name: str, number: int, begin: float, end: float, **details: Any) -> None:
        """A message was under way meanwhile, ``number`` among this rank's."""
        common = {"name": name, "cat": "message", "id": f"{self._rank}.{number}",
                  "pid": self._rank, "tid": 0}
        self._keep({**common, "ph": "b", "ts": (begin + self._offset) * 1e6, "args": details})
        self._keep({**common, "ph": "e", "ts": (end + self._offset) * 1e6})

    def _keep(self, event: perfetto.Event) -> None:
        if len(self.events) < LIMIT:
            self.events.append(event)

    def write(self, comm: Comm, path: Path) -> None:
        """Everything so far, of all ranks, by rank 0; collective."""
        gathered = comm.gather((self._title, self.events))
        if gathered is None:
            return
        events = [event for _, found in gathered for event in found]
        for rank, (title, _) in enumerate(gathered):
            events += [perfetto.named("process_name", title, rank),
                       {"name": "process_sort_index", "ph": "M", "pid": rank,
                        "args": {"sort_index": rank}}]
        perfetto.write(path, events)
