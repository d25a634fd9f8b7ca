"""What libraries in C write to standard error: hidden while they start, where it is of no use;
taken where it belongs to one piece of work, which it doesn't name."""

from __future__ import annotations

import contextlib
import io
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from hpc_deepfake.core import launcher

_WITNESS = Path(__file__).with_name("witness.py")
_real: TextIO | None = None  # standard error while it is hidden
_beside: TextIO | None = None  # standard error, for other threads while one captures it
_taken = -1  # the file that holds captured messages
_capturing = threading.Lock()
_MOST = 300  # characters of a captured text


def stderr() -> TextIO:
    """Where this program's own messages go, even while standard error is hidden or captured."""
    if _real is not None:
        return _real
    return _beside if _beside is not None and _capturing.locked() else sys.stderr


class Captured:
    """A context manager around a short call of a library in C; afterwards ``text`` is what it wrote
    to standard error, as one line. While one thread captures, others don't."""

    text = ""
    _saved = -1

    def __enter__(self) -> Captured:
        global _beside, _taken
        if _capturing.acquire(blocking=False):
            self._saved = os.dup(2)
            if _beside is None:
                _taken = os.memfd_create("messages")
                _beside = _stream(os.dup(2))
            os.dup2(_taken, 2)
        return self

    def __exit__(self, *_: object) -> None:
        if self._saved < 0:
            return
        os.dup2(self._saved, 2)
        os.close(self._saved)
        size = os.lseek(_taken, 0, os.SEEK_CUR)
        if size:
            lines = os.pread(_taken, size, 0).decode(errors="replace").splitlines()
            self.text = "; ".join(dict.fromkeys(filter(None, map(str.strip, lines))))[:_MOST]
            os.lseek(_taken, 0, os.SEEK_SET)
            os.ftruncate(_taken, 0)
        _capturing.release()


def _stream(descriptor: int) -> TextIO:
    return io.TextIOWrapper(io.FileIO(descriptor, "w"), errors="backslashreplace",
                            write_through=True)


@contextlib.contextmanager
def quiet_stderr(hang: float = 60) -> Iterator[None]:
    """Hide what C++ libraries write to standard error while they start.

    It is shown if starting fails. If this process ends in the block (a fault or an abort in a
    library, which no code of it outlives), or stays in it for more than ``hang`` seconds, a small
    process beside it, ``witness.py``, shows the last lines.
    """
    global _real
    if _real is not None:  # a block within another one
        yield
        return
    sys.stderr.flush()
    hidden = os.memfd_create("stderr")
    saved = os.dup(2)
    witness = _start_witness(hidden, hang)
    _real = _stream(saved)
    os.dup2(hidden, 2)
    try:
        yield
    except BaseException:
        _real.write(os.pread(hidden, os.fstat(hidden).st_size, 0).decode(errors="replace"))
        raise
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        _real.close()
        _real = None
        os.close(hidden)
        if witness is not None:
            witness.communicate(b"end")


def _start_witness(hidden: int, hang: float) -> subprocess.Popen[bytes] | None:
    """None if no process can be started."""
    rank = f"rank {launcher.rank(os.environ)} on {platform.node()}"
    try:
        # in a session of its own: the launcher ends the group of a rank that failed
        return subprocess.Popen(
            [sys.executable, "-I", "-S", _WITNESS, str(hidden), rank, str(hang)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[hidden],
            start_new_session=True)
    except OSError:
        return None
