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
_beside: TextIO | None = None  # standard error, for other threads while some capture it
_saved, _taken = -1, -1  # standard error, and the file that holds captured messages
_inside: list[Captured] = []  # those that are being captured
_turn = threading.Condition()
_witness: subprocess.Popen[bytes] | None = None  # while standard error is hidden
_MOST = 300  # characters of a captured text


def stderr() -> TextIO:
    """Where this program's own messages go, even while standard error is hidden or captured."""
    if _real is not None:
        return _real
    return _beside if _beside is not None and _inside else sys.stderr


class Captured:
    """A context manager around a short call of a library in C; afterwards ``text`` is what was
    written to standard error meanwhile, as one line. None may be within another one.

    Attributes:
        text: see above.
        shared: whether other threads were in such a block at some time, so that part of ``text``
            may be theirs: repeat the call with ``Captured(alone=True)`` to have its own.
    """

    def __init__(self, alone: bool = False) -> None:
        """``alone``: wait until no other thread is in such a block, and let none enter."""
        self._alone, self.text, self.shared = alone, "", False

    def __enter__(self) -> Captured:
        global _beside, _saved, _taken
        with _turn:
            _turn.wait_for(lambda: not any(other._alone for other in _inside)
                           and not (self._alone and _inside))
            if not _inside:
                _saved = os.dup(2)
                if _beside is None:
                    _taken = os.memfd_create("messages")
                    _beside = _stream(os.dup(2))
                os.dup2(_taken, 2)
            _inside.append(self)
            if len(_inside) > 1:
                for each in _inside:
                    each.shared = True
            self._start = os.lseek(_taken, 0, os.SEEK_CUR)
        return self

    def __exit__(self, *_: object) -> None:
        with _turn:
            size = os.lseek(_taken, 0, os.SEEK_CUR) - self._start
            if size:
                written = os.pread(_taken, size, self._start).decode(errors="replace").splitlines()
                self.text = "; ".join(dict.fromkeys(filter(None, map(str.strip, written))))[:_MOST]
            _inside.remove(self)
            if not _inside:
                os.dup2(_saved, 2)
                os.close(_saved)
                os.lseek(_taken, 0, os.SEEK_SET)
                os.ftruncate(_taken, 0)
            _turn.notify_all()


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
    global _real, _witness
    if _real is not None:  # a block within another one
        yield
        return
    sys.stderr.flush()
    hidden = os.memfd_create("stderr")
    saved = os.dup(2)
    _witness = _start_witness(hidden, hang)
    _real = _stream(saved)
    os.dup2(hidden, 2)
    try:
        yield
    except KeyboardInterrupt:
        raise  # of which the libraries know nothing
    except BaseException:
        _real.write(os.pread(hidden, os.fstat(hidden).st_size, 0).decode(errors="replace"))
        raise
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        _real.close()
        _real = None
        os.close(hidden)
        dismiss()


def dismiss() -> None:
    """Tell the process beside this one that nothing is wrong, also if this one ends at once."""
    global _witness
    if _witness is not None:
        _witness.communicate(b"end")
        _witness = None


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
