"""Writing the files of a run beside the training."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from hpc_deepfake.core import mpi, watchdog

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

T = TypeVar("T")


class Later(Generic[T]):
    """A value that a thread computes while training continues. The thread calls nothing of MPI, and
    doesn't hold up the end of the program."""

    def __init__(self, compute: Callable[[], T]) -> None:
        self._value: T
        self._error: Exception | None = None

        def work() -> None:
            try:
                self._value = compute()
            except Exception as error:
                self._error = error

        self._thread = threading.Thread(target=work, name="later", daemon=True)
        self._thread.start()

    def __call__(self) -> T:
        """The value, once it is there; raises what computing it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._value


class Saver:
    """Writes on rank 0, in a thread, one write at a time, while training continues.

    The thread calls nothing of MPI. Its error is kept until all ranks meet in ``settle``.
    """

    def __init__(self, comm: Comm) -> None:
        self._comm = comm
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    @property
    def busy(self) -> bool:
        """Whether a write is under way."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def failed(self) -> bool:
        """Whether a write failed: then ask all ranks to ``settle``."""
        return self._error is not None

    def start(self, *writes: Callable[[], object]) -> None:
        """Write in the background what the functions write, one after the other; what they use must
        not change any more. Waits for the write before; after a failed one nothing is written."""
        self.join()

        def work() -> None:
            for write in writes:
                self.now(write)

        self._thread = threading.Thread(target=work, name="saver")
        self._thread.start()

    def now(self, write: Callable[[], object]) -> None:
        """Write in this thread, unless a write has failed; its error is kept."""
        if self._error is None:
            try:
                write()
            except Exception as error:
                self._error = error

    def join(self) -> None:
        """Wait until nothing is being written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def settle(self) -> None:
        """Wait until nothing is being written; collective.

        Raises:
            InputError: a file could not be written; on all ranks.
        """
        def finish() -> None:
            self.join()
            if self._error is not None:
                raise self._error

        watchdog.enter("waiting for the files of the run")
        mpi.on_root(self._comm, finish)
