"""Running a program on all ranks so that it ends on all of them, whatever happens to one."""

from __future__ import annotations

import atexit
import faulthandler
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from hpc_deepfake.core import launcher, quiet, surroundings, watchdog
from hpc_deepfake.core.errors import EXIT_USAGE, InputError, disk_errors
from hpc_deepfake.core.log import log
from hpc_deepfake.core.log import start as start_log
from hpc_deepfake.core.stop import ignore_from_now_on
from hpc_deepfake.core.streams import Unread, whole_lines
from hpc_deepfake.core.text import plural

if TYPE_CHECKING:
    import numpy as np
    from mpi4py.MPI import Comm, Request

T = TypeVar("T")
_running = False  # whether ``run`` was called


class Usage(SystemExit):
    """The end of a program that was called wrongly, on all ranks alike.

    Attributes:
        message: what is wrong; None once it is printed.
    """

    def __init__(self, message: str) -> None:
        super().__init__(EXIT_USAGE)
        self.message: str | None = message

    def tell(self) -> None:
        """Print the message, once."""
        if self.message is not None:
            report(self.message)
        self.message = None


def launched_rank() -> int:
    """Rank of this process: MPI's, else its launcher's; 0 without a launcher."""
    module = sys.modules.get("mpi4py.MPI")
    if module is not None and module.Is_initialized() and not module.Is_finalized() \
            and module.COMM_WORLD.size > 1:
        return int(module.COMM_WORLD.rank)
    return launcher.rank(os.environ)


def leave_after_rank_0(leave: Usage | int) -> NoReturn:
    """Exit where all ranks do so without MPI, rank 0 after it printed why: mpirun kills the others
    as soon as the first one leaves. A process that nobody kills is on its own, and prints too.
    Inside ``run``, which does both once MPI has started, the exception is raised at once."""
    if launched_rank() and not _running:
        time.sleep(2)
        if isinstance(leave, Usage) and not launcher.by_slurm(os.environ):
            leave.tell()
    raise leave if isinstance(leave, Usage) else SystemExit(leave)


@watchdog.waits
def wait(request: Request, interval: float = 0.01) -> float:
    """Wait for ``request`` by polling, so that signals are handled and the core stays free.

    Pauses between polls are short at first, since a large message may need one poll for each of
    its pieces and another rank usually answers within milliseconds; later they grow to a hundredth
    of the time waited.

    Args:
        request: the request to complete.
        interval: longest pause, in seconds.

    Returns:
        The seconds waited.
    """
    began, waited = time.perf_counter(), 0.0
    while not request.Test():
        time.sleep(min(max(5e-5, waited / 100), interval))
        waited = time.perf_counter() - began
        if waited > 0.5:
            watchdog.polled()
    return time.perf_counter() - began


def meet(comm: Comm, what: str, shared: bool = False) -> None:
    """Enter the next phase (see ``watchdog.enter``) and wait for all ranks by polling, before
    calls of MPI that block. Collective."""
    watchdog.enter(what, shared)
    if comm.size > 1:
        wait(comm.Ibarrier())


def on_root(comm: Comm | None, function: Callable[[], T]) -> T:
    """Result of ``function()``, called on rank 0 only; its InputError, or an error of the disk, is
    raised on every rank. Collective; the other ranks wait by polling. Without ``comm`` this process
    is alone, here and in the following functions."""
    if comm is None:
        return function()
    result: Any = None
    message: str | None = None
    if comm.rank == 0:
        try:
            with disk_errors():
                result = function()
        except InputError as error:
            message = str(error)
    if comm.size > 1:
        wait(comm.Ibarrier())
    message, result = comm.bcast((message, result))
    if message is not None:
        raise InputError(message, everywhere=True)
    return result


def together(comm: Comm | None, function: Callable[[], T]) -> T:
    """Result of ``function()``, called on every rank; if some ranks raise InputError, or an error
    of the disk, all ranks raise one with the message, rank and host of the lowest such rank.
    Collective."""
    if comm is None:
        return function()
    result: Any = None
    message: str | None = None
    try:
        with disk_errors():
            result = function()
    except InputError as error:
        message = str(error)
    if comm.size > 1:
        wait(comm.Ibarrier())
    from mpi4py import MPI

    answers = comm.allgather((message, MPI.Get_processor_name()))
    messages = [(f"rank {rank} on {host}", text)
                for rank, (text, host) in enumerate(answers) if text]
    if messages:
        rank, text = messages[0]
        where = "" if len(messages) == comm.size else f" ({rank})" if len(messages) == 1 \
            else f" ({rank}, the first of {len(messages)} ranks with an error)"
        raise InputError(text + where, everywhere=True)
    return result


def gather(comm: Comm | None, value: T) -> list[T]:
    """The ranks' values in rank order, on every rank. Collective."""
    if comm is None:
        return [value]
    wait(comm.Ibarrier())
    return comm.allgather(value)


def concatenate(comm: Comm | None, values: np.ndarray) -> np.ndarray:
    """The ranks' one-dimensional arrays joined in rank order, on every rank. Collective."""
    if comm is None:
        return values
    import numpy as np  # imported late: --help works without it

    counts = np.empty(comm.size, np.int64)
    wait(comm.Iallgather(np.array([len(values)], np.int64), counts))
    whole = np.empty(counts.sum(), values.dtype)
    wait(comm.Iallgatherv(values, [whole, counts]))
    return whole


def report(text: str) -> None:
    """Print an error on standard error. The first one of a job also goes to the file that the job
    script named in ``$HPC_DEEPFAKE_ERROR_FILE``, which the script shows last, below the messages
    of the launcher."""
    print(text, file=quiet.stderr(), flush=True)
    path = os.environ.get("HPC_DEEPFAKE_ERROR_FILE")
    if path:
        with suppress(OSError), open(path, "x", encoding="utf-8",  # "x": the first rank only
                                     errors="backslashreplace") as file:
            file.write(text.rstrip() + "\n")


def ended(code: int) -> None:
    """Write the program's exit code to the file that the job script named in
    ``$HPC_DEEPFAKE_OUTCOME_FILE``; called on one rank only.

    The launcher's own exit code is not reliable: srun returns 143 when one rank exited with 75 and
    srun then ended another, and 0 when it started no rank.
    """
    path = os.environ.get("HPC_DEEPFAKE_OUTCOME_FILE")
    if path:
        with suppress(OSError), open(path, "w", encoding="ascii") as file:
            file.write(f"{code}\n")


def run(program: Callable[[Comm], int], before: Callable[[], object] | None = None) -> NoReturn:
    """Call ``program(COMM_WORLD)`` on every rank and exit with its code.

    An InputError of all ranks is printed once and ends with its code. Any other exception on any
    rank is printed with its rank and aborts the whole job: no rank is left waiting for another.

    Args:
        program: called with the communicator of all ranks; returns the exit code.
        before: called on every rank before MPI starts; it must fail on all ranks alike.
    """
    global _running
    _running = True
    whole_lines()
    ending: SystemExit | None = None
    try:
        if before is not None:
            before()
    except SystemExit as leave:
        ending = leave
    with surroundings.for_mpi():
        try:
            from mpi4py import MPI
        except RuntimeError as error:  # of mpi4py's wheel, which takes the library that it finds
            reason = str(error).partition("\n")[0]
            raise InputError(f"mpi4py finds no MPI to start ({reason}): install one, such as with "
                             "apt-get install openmpi-bin, or load its module") from None

    end: dict[str, Any] = {"limit": 0, "code": 0}
    # the first to be registered is the last to be called
    atexit.register(lambda: _finalize(**end))
    faulthandler.enable(os.dup(2))  # where in Python a fault in a library happened
    comm = MPI.COMM_WORLD
    guard: watchdog.Watchdog | None = None

    def abort(text: str) -> None:
        report(text)
        comm.Abort(1)

    try:
        start_log(comm.rank)
        log.debug("%s, %s, on %s, Python %s", MPI.Get_library_version().partition(",")[0],
                  plural(comm.size, "rank"), MPI.Get_processor_name(), sys.executable)
        for decision in surroundings.decisions:
            log.debug("not followed: %s: %s", *decision)
        guard = watchdog.Watchdog(comm, abort)
        if ending is not None:
            raise ending
        with disk_errors():
            code = program(comm)
    except InputError as error:
        code = error.code
        if error.everywhere or comm.size == 1:
            if comm.rank == 0:
                report(f"error: {error}")
        else:
            report(f"error on rank {comm.rank} on {MPI.Get_processor_name()}: {error}")
            comm.Abort(code)
    except Unread as leave:
        if comm.size > 1:
            comm.Abort(_code(leave))
        code = _code(leave)
    except SystemExit as leave:  # argparse: on all ranks alike
        if comm.rank == 0 and isinstance(leave, Usage):
            leave.tell()
        code = _code(leave)
    except KeyboardInterrupt:
        if comm.rank == 0:
            print("\ninterrupted; files written so far are kept", file=sys.stderr, flush=True)
        os._exit(130)
    except Exception as error:
        missing = surroundings.explain(error) if isinstance(error, ImportError) else None
        if missing is not None:
            report(f"error on rank {comm.rank} on {MPI.Get_processor_name()}: {missing}")
            comm.Abort(EXIT_USAGE)
        text = traceback.format_exc()
        report(f"rank {comm.rank} of {comm.size} on {MPI.Get_processor_name()} failed:\n{text}")
        comm.Abort(1)
    sys.stdout.flush()
    watchdog.enter("ending")
    wait(comm.Ibarrier())
    if guard is not None:
        guard.close(wait)
        end["limit"] = guard.limit
    ignore_from_now_on()
    if comm.rank == 0:
        ended(code)
    end["code"] = code
    sys.exit(code)


def _finalize(limit: float, code: int) -> None:
    """End MPI when everything that uses it has ended. A rank that hangs there would keep the job:
    after ``limit`` seconds (0: never) the others leave without it."""
    from mpi4py import MPI

    if MPI.Is_finalized():
        return
    began, request = time.monotonic(), MPI.COMM_WORLD.Ibarrier()
    while not request.Test():
        if limit and time.monotonic() - began > limit:
            report(f"another rank has not ended MPI for {limit:g} s; this program is done, and its "
                   "files are complete: ending the job")
            os._exit(code)
        time.sleep(0.001)
    if limit:  # MPI_Finalize holds Python's lock: a stop within it ends by this signal
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(math.ceil(limit))
    MPI.Finalize()
    signal.alarm(0)  # what is left of Python's end may take longer than a short limit


def _code(leave: SystemExit) -> int:
    return leave.code if isinstance(leave.code, int) else int(leave.code is not None)
