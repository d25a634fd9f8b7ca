"""Notices that the machine stood still.

Slow motion keeps other programs from counting; but what stops all processes, such as a frozen
container or a suspended machine, would count as waiting for messages.
"""

from __future__ import annotations

import threading
import time

_STILL = 0.3  # seconds: processors that are busy make a process wait for less


class Pauses(threading.Thread):
    """A context manager that notes when this process, and so the machine, stood still.

    Attributes:
        spans: begin and end of each pause, by ``time.perf_counter``; shorter ones than ``_STILL``
            are left out.
    """

    def __init__(self) -> None:
        super().__init__(name="pauses", daemon=True)
        self.spans: list[tuple[float, float]] = []
        self._ended = threading.Event()

    @property
    def seconds(self) -> float:
        """In which it stood still."""
        return sum(end - begin for begin, end in self.spans)

    def within(self, begin: float, end: float) -> bool:
        """Whether a pause was between two times."""
        return any(first < end and begin < last for first, last in self.spans)

    def run(self) -> None:
        last = time.perf_counter()
        while not self._ended.wait(_STILL / 6):
            now = time.perf_counter()
            if now - last > _STILL:
                self.spans.append((last, now))
            last = now

    def __enter__(self) -> Pauses:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(_STILL / 2)  # a pause just before is known only now
        self._ended.set()
        self.join()
