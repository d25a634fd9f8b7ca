"""Messages about the work, through the standard library's ``logging``; results are printed.

``HPC_DEEPFAKE_LOG`` sets the level: ``debug``, ``info`` (the default), ``warning`` or ``error``.
Every rank's warnings are shown, and of lower levels rank 0's only; with ``debug`` all ranks', with
the time.
"""

from __future__ import annotations

import logging
import os
import sys

from hpc_deepfake.core.errors import InputError

log = logging.getLogger("hpc_deepfake")
_LEVELS = ("debug", "info", "warning", "error")


class _Format(logging.Formatter):
    """The message as it stands; of other ranks, and in a debug log, who says it."""

    def __init__(self, rank: int, debug: bool) -> None:
        super().__init__("%(asctime)s " * debug + "%(message)s")
        self._who = f"rank {rank}: " if debug else ""

    def format(self, record: logging.LogRecord) -> str:
        return self._who + super().format(record)


class _Handler(logging.StreamHandler):
    """Writes to whatever ``sys.stderr`` is at the moment, so that it can be redirected."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def start(rank: int = 0) -> None:
    """Have this rank's messages shown on standard error.

    Raises:
        InputError: ``HPC_DEEPFAKE_LOG`` names no level.
    """
    level = os.environ.get("HPC_DEEPFAKE_LOG", "info").lower()
    if level not in _LEVELS:
        raise InputError(f"HPC_DEEPFAKE_LOG={level}: give {', '.join(_LEVELS[:-1])} or "
                         f"{_LEVELS[-1]}", everywhere=True)
    handler = _Handler()
    handler.setFormatter(_Format(rank, level == "debug"))
    log.handlers[:] = [handler]
    log.propagate = False
    quiet = logging.WARNING if rank and level == "info" else 0
    log.setLevel(max(getattr(logging, level.upper()), quiet))
