"""Requests to stop: SIGTERM and SIGUSR1 set a flag, which is checked between two pieces of work."""

from __future__ import annotations

import signal
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
EXIT_STOPPED = 75  # EX_TEMPFAIL: run the same command again


class StopFlag:
    """True once this process received a stop signal; ``name`` is that of the signal, or None."""

    def __init__(self) -> None:
        self.name: str | None = None
        for number in SIGNALS:
            signal.signal(number, self._note)

    def __bool__(self) -> bool:
        return self.name is not None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.name = signal.Signals(number).name


def ignore_from_now_on() -> None:
    """To be called when the exit code is known: Python sets handlers back to the default while it
    ends, so that a late or second signal would replace the code."""
    for number in SIGNALS:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_IGN)
