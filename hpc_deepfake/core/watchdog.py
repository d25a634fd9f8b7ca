"""Names a rank that others wait for, and ends the job if they wait too long.

A program says what it is doing by ``enter`` and ``advance``; ``mpi.run`` starts the watchdog as
soon as MPI has started, and ends it when all ranks have come to the end.
"""

from __future__ import annotations

import itertools
import os
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, TypeVar

from hpc_deepfake.core.log import log
from hpc_deepfake.core.stalls import EITHER, WAITS, WORKS, Ranks, Stall, State

if TYPE_CHECKING:
    import numpy as np
    from mpi4py.MPI import Comm, Request

F = TypeVar("F", bound=Callable[..., object])

# While a program starts, a rank is named and the job ended after these seconds or later: importing
# takes minutes where many nodes read the same files
START_WARNING, START_LIMIT = 60.0, 600.0
_PERIOD = 0.5  # seconds between two messages of a rank; of more than 500 ranks longer
# seconds between two turns of the thread after which this process was stopped; with a short limit
# half of it
_STOPPED = 10.0
_TAG = 32_001  # of the messages on the communicator of all ranks; MPI allows at least 32,767
_MESSAGE = [("run", "i8"), ("phase", "i8"), ("progress", "i8"), ("kind", "i8"),
            ("host", "S64"), ("what", "S96"), ("where", "S96")]  # names and types of NumPy's
_KINDS: dict[CodeType, int] = {}  # of functions, see ``waits``
# where main threads are inside a library that also communicates
_LIBRARIES = ("/tensorflow/python/eager/", "/tensorflow/python/framework/",
              "/horovod/tensorflow/", "/horovod/common/")
_FOREIGN = ("<", *{sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib",
                                                         "platlib")})
_PACKAGE = Path(__file__).parents[1]
_OURS = tuple(os.path.join(_PACKAGE.parent, name, "") for name in (_PACKAGE.name, "preprocessing"))
_runs = itertools.count()


class _Own:
    """What this rank is doing."""

    phase = progress = 0
    what = "starting"
    shared = False


_own = _Own()
_current: Watchdog | None = None
_first = (START_WARNING, 0.0)  # limits from the start of MPI on
_later: tuple[float, float] | None = None  # limits after the start


def enter(what: str, shared: bool = False) -> None:
    """This rank enters the next phase; all ranks enter the same ones.

    Args:
        what: the phase in words, like "evaluating".
        shared: whether the ranks may communicate in it within a library (TensorFlow, Horovod).
    """
    _own.what, _own.shared = what, shared
    _own.phase, _own.progress = _own.phase + 1, 0
    if _current is not None:
        _current.polled(WORKS)


def advance(what: str = "") -> None:
    """This rank made progress within its phase; ``what`` replaces the phase's words."""
    _own.what = what or _own.what
    _own.progress += 1


def limits(warn: float, limit: float) -> None:
    """Name a rank after ``warn`` and end the job after ``limit`` seconds; 0: never. Call it before
    MPI starts, too, so that a rank that hangs before it has read its options is noticed."""
    global _first
    if _current is None:
        _first = warn, limit
    else:
        _current.limits(warn, limit)


def start_limits(warn: float, limit: float) -> None:
    """``limits`` that hold from ``started`` on; until then at least ``START_WARNING`` and
    ``START_LIMIT``."""
    global _later
    _later = warn, limit
    limits(warn and max(warn, START_WARNING), limit and max(limit, START_LIMIT))


def started() -> None:
    """The start of the program is over; may be called again."""
    global _later
    if _later is not None:
        limits(*_later)
        _later = None


def waits(function: F) -> F:
    """Decorator of a function in which a rank waits for others."""
    _KINDS[function.__code__] = WAITS
    return function


def works(function: F) -> F:
    """Decorator of a function that ``waits`` functions call and in which a rank doesn't wait."""
    _KINDS[function.__code__] = WORKS
    return function


def polled() -> None:
    """A rank calls this while it waits for others, again and again."""
    if _current is not None:
        _current.polled(WAITS)


class Watchdog:
    """A thread on each rank, which tells rank 0 what its rank is doing.

    Rank 0 compares the ranks (see ``stalls``) and names the one that holds up the others, be it
    itself; the last rank watches rank 0 for signs of life. None of this can be a collective
    operation, since those are what hangs.

    Without full thread support MPI must not be called from another thread: then the ranks send and
    read the messages when they enter a phase and while they wait.
    """

    def __init__(self, comm: Comm, end: Callable[[str], object]) -> None:
        """
        Args:
            comm: all ranks.
            end: prints a message and ends the whole job.
        """
        global _current
        from mpi4py import MPI

        self._any, self._threads = MPI.ANY_SOURCE, MPI.Query_thread() == MPI.THREAD_MULTIPLE
        self._comm, self._end, self._run = comm, end, next(_runs)
        self._host = MPI.Get_processor_name()
        self._to = comm.size - 1 if comm.rank == 0 else 0
        self._sent: list[tuple[Request, np.ndarray]] = []
        self._last = time.monotonic()
        self._period = _PERIOD * max(1, comm.size / 500)
        self._ranks = Ranks(comm.size, self._last,
                            4 * self._period if self._threads else float("inf"))
        self._named: dict[int, float] = {}  # time of its last move, by rank
        self._patience = 1.0  # factor before all ranks are listed again
        self._over = threading.Event()
        self._main = threading.main_thread().ident or 0
        self._thread: threading.Thread | None = None
        self.limits(*_first)
        if comm.size > 1:
            _current = self
            if self._threads:
                self._connect()
                self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
                self._thread.start()
            elif comm.rank == 0:
                log.info("note: MPI runs without full thread support (MPI_THREAD_MULTIPLE): a "
                         "stalled rank is noticed only while rank 0 waits for it")

    def limits(self, warn: float, limit: float) -> None:
        """See ``limits`` of this module."""
        self._warn, self.limit = warn, limit

    def close(self, wait: Callable[[Request], object] | None = None) -> None:
        """Stop watching. With ``wait``, which waits for a request, collective: messages under way
        are received."""
        global _current
        if _current is not self:
            return
        _current = None
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        if wait is not None:
            wait(self._comm.Ibarrier())
            self._receive(time.monotonic())
        for request, _ in self._sent:
            request.Cancel()
            request.Free()

    def polled(self, kind: int) -> None:
        """Without a thread: send and receive, if it is time; only on the main thread."""
        pause = self._period / 4 if kind == WAITS else 0.0
        if not self._threads and threading.get_ident() == self._main \
                and time.monotonic() - self._last >= pause:
            self._turn(kind)

    def _connect(self) -> None:
        """Open connections, to the ranks that the thread will talk to and to those of a first
        collective operation, since Open MPI 4.1 crashes where two threads do so at once."""
        import numpy as np

        rank, last = self._comm.rank, self._comm.size - 1
        nothing, begun = np.empty(0, np.uint8), time.monotonic()
        left = {f"rank {peer}": [self._comm.Irecv(nothing, peer, _TAG - 1),
                                 self._comm.Isend(nothing, peer, _TAG - 1)]
                for peer in (range(1, last + 1) if rank == 0 else [0])}
        left["a rank"] = [self._comm.Ibarrier()]
        while left := {name: requests for name, requests in left.items()
                       if not all([request.Test() for request in requests])}:
            if self.limit and time.monotonic() - begun >= self.limit:
                self._end(f"{next(iter(left))} on an unknown node gives no sign of life for "
                          f"{self.limit:.0f} s after MPI's start; ending the job")
            time.sleep(0.001)
        self._turn()

    def _watch(self) -> None:
        while not self._over.wait(self._period):
            self._turn()

    def _turn(self, kind: int | None = None) -> None:
        now = time.monotonic()
        pause, self._last = now - self._last, now
        stopped = min(_STOPPED, self.limit / 2 or _STOPPED)
        if self._threads and pause > max(stopped, 4 * self._period):
            self._ranks.skip(pause)
        state = self._state(kind)
        self._send(state)
        self._receive(now)
        self._ranks.hear(self._comm.rank, state, now)
        if self._comm.rank in (0, self._comm.size - 1):
            self._judge(now)

    def _state(self, kind: int | None) -> State:
        phase, progress, what = _own.phase, _own.progress, _own.what
        where, seen = _place(self._main, _own.shared)
        return State(phase, progress, seen if kind is None else kind, self._host, what, where)

    def _send(self, state: State) -> None:
        import numpy as np  # imported late: --help works without it

        self._sent = [(request, value) for request, value in self._sent if not request.Test()]
        if len(self._sent) >= 10:  # one that receives nothing is sent nothing more
            return
        values = (state.phase, state.progress, state.kind, *(
            text.encode("ascii", "replace") for text in (state.host, state.what, state.where)))
        message = np.array([(self._run, *values)], _MESSAGE)
        self._sent.append((self._comm.Isend(message.view(np.uint8), self._to, _TAG), message))

    def _receive(self, now: float) -> None:
        import numpy as np
        from mpi4py import MPI

        status, message = MPI.Status(), np.zeros(1, _MESSAGE)
        while self._comm.Iprobe(self._any, _TAG, status):
            source = status.Get_source()
            self._comm.Recv(message.view(np.uint8), source, _TAG)
            run, phase, progress, kind, *texts = message[0].tolist()
            if run == self._run:  # else left over from an earlier program
                self._ranks.hear(source, State(phase, progress, kind, *(
                    text.decode() for text in texts)), now)

    def _judge(self, now: float) -> None:
        for rank, moved in list(self._named.items()):
            if self._ranks.moved[rank] != moved:
                log.info(f"rank {rank} on {self._ranks.states[rank].host} continues")
                del self._named[rank]
        stall = self._stall(now, self._warn)
        if stall is not None and not set(stall.ranks) <= set(self._named):
            if len(stall.ranks) < self._comm.size:
                log.warning(stall.text)
            elif now - max(self._ranks.moved) >= self._warn * self._patience:
                self._patience *= 2  # a step may be long: don't say so in each
                log.warning(stall.text)
            else:
                stall = None
            for rank in stall.ranks if stall else ():
                self._named[rank] = self._ranks.moved[rank]
        stall = self._stall(now, self.limit)
        if stall is not None:
            self._end(f"{stall.text}; ending the job")

    def _stall(self, now: float, seconds: float) -> Stall | None:
        if not seconds:
            return None
        if self._comm.rank == 0:
            return self._ranks.stall(now, seconds)
        return self._ranks.stall_of_root(now, seconds)


def _place(thread: int, shared: bool) -> tuple[str, int]:
    """Where a thread is: file, line and function of the program; and the kind of it."""
    frame = sys._current_frames().get(thread)
    where, kind = "", None
    if shared and frame is not None and any(
            name in frame.f_code.co_filename for name in _LIBRARIES):
        kind = EITHER
    while frame is not None and not (where and kind is not None):
        code = frame.f_code
        marked = _KINDS.get(code)
        if kind is None:
            kind = marked
        if not where and marked is None and _is_of_program(code.co_filename):
            file = os.sep.join(code.co_filename.rsplit(os.sep, 2)[-2:])
            where = f"{file}:{frame.f_lineno}, {code.co_name}"
        frame = frame.f_back
    return where, WORKS if kind is None else kind


def _is_of_program(file: str) -> bool:
    """Whether a source file is neither Python's nor an installed package's."""
    return (file.startswith(_OURS) or not file.startswith(_FOREIGN)) and file != __file__
