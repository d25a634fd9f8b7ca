"""Messages about the work, through the standard library's ``logging``; results are printed.

``HPC_DEEPFAKE_LOG`` sets the level: ``debug``, ``info`` (the default), ``warning`` or ``error``.
Rank 0 shows messages of that level and above; other ranks show warnings and errors, with their
number in front. With ``debug`` every rank shows everything, with the time and the rank.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO

from hpc_deepfake.core import quiet
from hpc_deepfake.core.errors import InputError

log = logging.getLogger("hpc_deepfake")
_LEVELS = ("debug", "info", "warning", "error")


class _Format(logging.Formatter):
    """The message alone; with the rank in front on other ranks and in a debug log."""

    def __init__(self, rank: int, debug: bool) -> None:
        super().__init__("%(asctime)s " * debug + "%(message)s")
        self._prefix = f"rank {rank}: " if rank or debug else ""

    def format(self, record: logging.LogRecord) -> str:
        return self._prefix + super().format(record)


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to the present standard error, so that redirecting or hiding it works."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = quiet.stderr()
        super().emit(record)


def start(rank: int = 0) -> None:
    """Show this rank's messages on standard error.

    Raises:
        InputError: ``HPC_DEEPFAKE_LOG`` is not a level; on all ranks alike.
    """
    level = (os.environ.get("HPC_DEEPFAKE_LOG") or "info").lower()
    if level not in _LEVELS:
        raise InputError(f"HPC_DEEPFAKE_LOG={level} is not a log level: set it to "
                         f"{', '.join(_LEVELS[:-1])} or {_LEVELS[-1]}", everywhere=True)
    handler = _Handler()
    handler.setFormatter(_Format(rank, level == "debug"))
    log.handlers[:] = [handler]
    log.propagate = False
    least = logging.WARNING if rank and level == "info" else logging.DEBUG
    log.setLevel(max(logging.getLevelNamesMapping()[level.upper()], least))
