"""Standard output and error: each line arrives in one piece, and a reader that leaves is no error.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress

from hpc_deepfake.core.errors import InputError, OutputError

EXIT_UNREAD = 128 + 13  # as of a program that SIGPIPE ended
_optional = False
_closed = False


def require_output() -> None:
    """For a program whose result is what it prints.

    Raises:
        InputError: standard output was closed before the program started.
    """
    if _closed:
        raise InputError("standard output is closed, and the results would go there: redirect it "
                         "to a file")


class Unread(SystemExit):
    """The quiet end of a program whose output nobody reads any more, such as ``… | head -1``."""

    def __init__(self) -> None:
        super().__init__(EXIT_UNREAD)


def work_matters() -> None:
    """This program is there for the files that it writes: its work continues, and is recorded,
    when its standard output can't be written any more."""
    global _optional
    _optional = True


class _Lines(io.TextIOWrapper):
    """A text stream that is flushed at the end of each line, with one write for the whole line.

    With ``PYTHONUNBUFFERED``, which job scripts set, Python writes the text of a ``print`` and its
    line end separately, so that lines of two ranks would mix. (Open MPI's mpirun forwards pieces of
    4 KiB, and may still cut a line within a longer burst of output.)

    Once it can't be written to, what follows is dropped.
    """

    def write(self, text: str) -> int:
        try:
            count = super().write(text)
        except OSError as error:
            self._fails(error)
            count = len(text)
        if text.endswith("\n"):
            self.flush()
        return count

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._fails(error)

    def _fails(self, error: OSError) -> None:
        """Raises:
            Unread: nobody reads this program's output, and that is what it is for.
            OutputError: the output can't be written for another reason.
        """
        number = self.fileno()
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), number)  # also what is buffered
        super().flush()
        if number != 1:
            return
        closed = error.errno == errno.EPIPE
        if not _optional:
            raise Unread if closed else OutputError("standard output", error)
        if not closed:
            print(f"standard output can't be written any more: {error.strerror}; what is printed "
                  "is lost from here on, and the work continues", file=sys.stderr, flush=True)


def whole_lines() -> None:
    """Make this process write whole lines, with escapes for characters that can't be encoded.

    A stream that other code has replaced, such as a test, stays in place and only gets the escapes.
    One that was closed before the process started goes nowhere: its number must not become that of
    the next file that is opened.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, f"__{name}__") is None and getattr(sys, name) is None:
            with suppress(OSError):
                os.fstat(number)
                continue  # it is open meanwhile, and something else
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number
            global _closed
            _closed |= number == 1
            os.set_inheritable(number, True)
            stream = open(number, "r" if number == 0 else "w",  # noqa: SIM115 (for good)
                          encoding="utf-8", closefd=False)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, _Lines):
            continue
        if stream is None:
            continue
        if stream is not getattr(sys, f"__{name}__") or not isinstance(stream, io.TextIOWrapper):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
            continue
        stream.flush()
        raw = io.FileIO(stream.fileno(), "w", closefd=False)
        setattr(sys, name, _Lines(io.BufferedWriter(raw, 1 << 16), encoding=stream.encoding,
                                  errors="backslashreplace"))
