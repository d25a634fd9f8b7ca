"""What a rank did when, as a trace for Perfetto (ui.perfetto.dev) or chrome://tracing."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

LIMIT = 20_000  # events of a rank; what comes later is left out


class Trace:
    """Events of one rank. Times are the node's wall clock: ranks of one node can be compared to
    microseconds, those of several as well as their clocks agree."""

    def __init__(self, rank: int, title: str) -> None:
        self._rank, self._title = rank, title
        self.events: list[dict[str, Any]] = []
        self._offset = time.time() - time.perf_counter()

    def work(self, name: str, begin: float, end: float, **details: Any) -> None:
        """This rank did one thing; seconds of ``time.perf_counter``."""
        self._add(name=name, ph="X", ts=self._at(begin), dur=(end - begin) * 1e6, args=details)

    def flight(self, name: str, number: int, begin: float, end: float, **details: Any) -> None:
        """A message was under way meanwhile, ``number`` among this rank's."""
        common = {"name": name, "cat": "message", "id": f"{self._rank}.{number}"}
        self._add(**common, ph="b", ts=self._at(begin), args=details)
        self._add(**common, ph="e", ts=self._at(end))

    def _at(self, seconds: float) -> float:
        return (seconds + self._offset) * 1e6

    def _add(self, **event: Any) -> None:
        if len(self.events) < LIMIT:
            self.events.append({**event, "pid": self._rank, "tid": 0})

    def write(self, comm: Comm, path: Path) -> None:
        """Everything so far, of all ranks, by rank 0; collective."""
        gathered = comm.gather((self._title, self.events))
        if gathered is None:
            return
        events = [event for _, found in gathered for event in found]
        for rank, (title, _) in enumerate(gathered):
            events += [{"name": "process_name", "ph": "M", "pid": rank, "args": {"name": title}},
                       {"name": "process_sort_index", "ph": "M", "pid": rank,
                        "args": {"sort_index": rank}}]
        temporary = path.with_name(f".new-{path.name}")
        temporary.write_text(json.dumps({"traceEvents": events}), encoding="utf-8")
        os.replace(temporary, path)
