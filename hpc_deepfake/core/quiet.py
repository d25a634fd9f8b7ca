"""Standard error while libraries start, which they fill with messages that are of no use."""

from __future__ import annotations

import contextlib
import io
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from hpc_deepfake.core import launcher

_WITNESS = Path(__file__).with_name("witness.py")
_real: TextIO | None = None  # standard error while it is hidden


def stderr() -> TextIO:
    """Where this program's own messages go, even while standard error is hidden."""
    return sys.stderr if _real is None else _real


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
    _real = io.TextIOWrapper(io.FileIO(saved, "w"), errors="backslashreplace", write_through=True)
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
