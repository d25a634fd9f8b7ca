"""Why a data file that may be whole can't be opened, and what to do about it."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
from pathlib import Path

import psutil

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import printable

_LOCKED = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES}  # POSIX: a lock may be refused with each
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_STORAGE = {errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ETIMEDOUT,
            errno.EREMOTEIO, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ESHUTDOWN}
_SETTING = "HDF5_USE_FILE_LOCKING"
_SHOWN = 60  # characters of a command line


def reason(path: Path, error: OSError) -> str | None:
    """What kept HDF5 or the system from opening ``path``; None if its contents did.

    HDF5 gives the system's number for the error, and mentions the lock only in its text.
    """
    number, about_lock = error.errno, "lock file" in str(error)
    if not number:
        return None
    if about_lock and number in _NO_LOCKS:
        return (f"{path} can't be locked: its file system doesn't support it "
                f"({os.strerror(number)}). Open it without locks: "
                "export HDF5_USE_FILE_LOCKING=FALSE")
    if about_lock and number in _LOCKED:
        return in_use(path)
    if number in _REFUSED:
        return (f"cannot open {path}: {os.strerror(number)}. Ask its owner for permission "
                f"(chmod), or name a copy of your own")
    if number in _STORAGE:
        return (f"cannot read {path}: {os.strerror(number)}. The file may be whole: its storage or "
                f"the network to it fails on {platform.node()}. Try again, else tell the "
                "administrators of that file system")
    return f"cannot open {path}: {os.strerror(number)}"


def require_unlocked(path: Path) -> None:
    """Raise OSError if the file can't be opened, or if locks are wanted and another process has
    locked it to write.

    Locks are those of HDF5, and wanted if its environment variable says so.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if os.environ.get(_SETTING, "").upper() in ("TRUE", "1"):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        raise OSError(error.errno, "unable to lock file") from None
    finally:
        os.close(descriptor)


def require_unused(path: Path) -> None:
    """Raise InputError if another process has locked the file to write, for a program that will
    write to it. A file system without locks has none, and where they are switched off they aren't
    asked for: on some network file systems that takes for ever."""
    if os.environ.get(_SETTING, "").upper() in ("FALSE", "0"):
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:
            raise InputError(in_use(path, "written to")) from None


def in_use(path: Path, purpose: str = "read") -> str:
    """The message about a file that another process has locked; ``purpose``: what it should be."""
    found = holders(path)
    who = " and ".join(found) + (" has" if len(found) == 1 else " have") if found else \
        f"no process of {platform.node()} that can be seen from here holds the lock, so one on " \
        "another node has, or the file system kept the lock of one that was killed, and it has"
    return (f"{path} is in use, and not damaged: {who} locked it. Wait for the end of that "
            f"program, or end it. If nothing writes to the file, it can be {purpose} all the same: "
            "export HDF5_USE_FILE_LOCKING=FALSE")


def holders(path: Path) -> list[str]:
    """The processes of this host that have locked a file, according to the kernel's list."""
    try:
        status = os.stat(path)
        with open("/proc/locks", encoding="ascii") as file:
            locks = [line.split() for line in file]
    except OSError:  # not Linux, or hidden
        return []
    where = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    # 1: FLOCK  ADVISORY  WRITE 20219 fe:00:2171779 0 EOF; with "->" behind the number of one that
    # waits; -1 for an open file's lock, whose process isn't recorded
    numbers = {int(lock[4]) for lock in locks
               if len(lock) == 8 and lock[5] == where and int(lock[4]) > 0}
    return [_described(number) for number in sorted(numbers - {os.getpid()})]


def _described(number: int) -> str:
    """A process by number, command and user, as far as they can be known."""
    try:
        process = psutil.Process(number)
        command = printable(" ".join(process.cmdline()) or process.name())
        user = process.username()
    except psutil.Error:
        return f"process {number} on {platform.node()}"
    if len(command) > _SHOWN:
        command = command[:_SHOWN - 1] + "…"
    return f"process {number} of {user} on {platform.node()} ({command})"
