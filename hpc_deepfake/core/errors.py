"""The errors that a user can fix."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_USAGE = 2
EXIT_DIVERGED = 3


class InputError(Exception):
    """Wrong usage or input: the message says what, where and what to do next; exit code 2.

    Args:
        message: what is wrong.
        everywhere: all ranks raise the same error at the same point, so that they can exit in an
            orderly way, and only rank 0 prints it.

    Attributes:
        code: exit code of the program that it ends.
    """

    code = EXIT_USAGE

    def __init__(self, message: str, *, everywhere: bool = False) -> None:
        super().__init__(message)
        self.everywhere = everywhere


class Diverged(InputError):
    """A training whose numbers are no longer finite; all ranks raise it at the same point. Exit
    code 3: other options are needed, so that starting it again would not help."""

    code = EXIT_DIVERGED

    def __init__(self, message: str) -> None:
        super().__init__(message, everywhere=True)


def reason(error: Exception) -> str:
    """An error as part of a message that names the file: of the system's, what it calls it."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return "it is not a text in UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


class OutputError(InputError, OSError):
    """A file that can't be written: the disk is full, the folder is read-only or gone. It is an
    OSError too, for callers that say more about the place.

    Args:
        what: the file, or what else is written to.
        error: the system's error.
        everywhere: as of ``InputError``.
    """

    def __init__(self, what: str | os.PathLike[str], error: OSError, *,
                 everywhere: bool = False) -> None:
        reason = (os.strerror(error.errno) if error.errno else str(error)).split("\n")[0]
        advice = _ADVICE.get(error.errno or 0, "check the place, or choose another one")
        super().__init__(f"cannot write {os.fspath(what)}: {reason}; {advice}",
                         everywhere=everywhere)
        self.errno, self.strerror = error.errno, reason

    def __str__(self) -> str:
        return str(self.args[0])


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn an OSError of the block that only a full or failing disk raises into an OutputError."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        if error.errno not in _DISK:
            raise
        raise OutputError(error.filename or "a file", error) from error


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE)
_ROOM = "make room there, or choose another place"
_ADVICE = {errno.ENOSPC: _ROOM, errno.EDQUOT: "delete files that count for your quota, or choose "
           "another place", errno.EFBIG: _ROOM, errno.EIO: "the disk or its connection fails; "
           "choose another place", errno.EROFS: "choose a place that can be written to",
           errno.EACCES: "choose a place that you may write to",
           errno.EPERM: "choose a place that you may write to",
           errno.ENOENT: "the folder is gone; was it moved or deleted?",
           errno.ESTALE: "the folder is gone; was it moved or deleted?"}
