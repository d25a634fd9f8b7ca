"""Requests to stop: SIGTERM and SIGUSR1 set a flag, which is checked between two pieces of work."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from types import FrameType

from hpc_deepfake.core import launcher, quiet

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


def end_in_a_line() -> None:
    """From now on SIGTERM ends this process with a line that says so, unless a ``StopFlag`` takes
    it.

    Not under a launcher, which ends the other ranks by this signal when one has failed: what that
    one said is the last word. Nor where whoever started this process has the signal ignored."""
    if threading.current_thread() is threading.main_thread() \
            and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL \
            and not launcher.launched(os.environ) and not launcher.by_slurm(os.environ):
        signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> None:
    with suppress(OSError, ValueError):  # a closed stream
        print(f"\ninterrupted by {signal.Signals(number).name}", file=quiet.stderr(), flush=True)
    with suppress(OSError, ValueError):
        quiet.dismiss()
    os._exit(128 + number)


def ignore_from_now_on() -> None:
    """To be called when the exit code is known: Python sets handlers back to the default while it
    ends, so that a late or second signal would replace the code."""
    for number in SIGNALS:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_IGN)
