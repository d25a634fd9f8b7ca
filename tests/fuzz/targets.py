"""Everything that parses, each as a target: its damaged inputs, and what may be done with one."""

from __future__ import annotations

import io
import resource
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from mutations import Choices

from hpc_deepfake.core.errors import EXIT_USAGE, InputError

MIB = 1 << 20
WAITING = 100  # seconds by the clock for each second of the processor


@dataclass(frozen=True)
class Target:
    """A parser, or several that read the same input one after the other.

    Attributes:
        name: shown in tables.
        inputs: makes a damaged input.
        parse: reads one, within a scratch folder that earlier inputs may have been left in.
        errors: what it may raise.
        share: its part of the inputs of a long run, relative to the others.
        seconds: most time of the processor for one input, on a usual machine.
        memory: most bytes of address space for one input.
    """

    name: str
    inputs: Callable[[Choices], Any]
    parse: Callable[[Any, Path], object]
    errors: tuple[type[BaseException], ...] = (InputError,)
    share: float = 1.0
    seconds: float = 5.0
    memory: int = 512 * MIB

    def check(self, value: Any, folder: Path, slowness: float = 1.0) -> None:
        """Parse an input within the bounds.

        Raises:
            BaseException: an error that is not one of ``errors``, or ``Hang``; MemoryError beyond
                the memory.
        """
        with _silent(), _in_time(self.seconds * slowness), _in_memory(self.memory), \
                warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self.parse(value, folder)
            except SystemExit as leave:  # of a command line
                if SystemExit not in self.errors or leave.code != EXIT_USAGE:
                    raise
            except self.errors as error:
                str(error).encode("utf-8", "backslashreplace")


class Hang(BaseException):
    """An input took too long."""


@contextmanager
def _silent() -> Iterator[None]:
    """Without what the parsers print, which must be text that can be shown anywhere."""
    with redirect_stdout(_text()), redirect_stderr(_text()):
        yield


def _text() -> io.TextIOWrapper:
    # as core.streams makes the real ones
    return io.TextIOWrapper(io.BytesIO(), "ascii", "backslashreplace")


@contextmanager
def _in_time(seconds: float) -> Iterator[None]:
    """With at most ``seconds`` of the processor, and by the clock a hundred times as many: the
    machine may have other work."""
    def end(number: int, frame: FrameType | None) -> None:
        raise Hang(f"longer than {seconds:g} s")

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, seconds),
              signal.SIGALRM: (signal.ITIMER_REAL, WAITING * seconds)}
    before = {number: signal.signal(number, end) for number in timers}
    for timer, limit in timers.values():
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


@contextmanager
def _in_memory(size: int) -> Iterator[None]:
    """With at most ``size`` more bytes of address space than now."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def all_targets() -> dict[str, Target]:
    """The targets by name."""
    import file_targets
    import picture_targets
    import queue_targets
    import record_targets
    import text_targets

    return {target.name: target for module in (
        text_targets, record_targets, queue_targets, file_targets, picture_targets)
        for target in module.TARGETS}
