"""Running other programs one at a time, alone or with several ranks, and passing signals on."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.stop import EXIT_STOPPED

LAUNCHER = "mpirun -np {ranks}"  # the usual command that starts several ranks
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


def check_launcher(launcher: str) -> None:
    """Raise InputError if the value of ``--launcher`` can't start several ranks."""
    with suppress(ValueError):
        if "{ranks}" in launcher and shlex.split(launcher):
            return
    raise InputError(f"--launcher {launcher}: give a command that contains {{ranks}}, like "
                     "\"mpirun -np {ranks}\" or \"srun -n {ranks}\"")


def launched(launcher: str, ranks: int) -> list[str]:
    """The words before a program that is to run on this many ranks; none for a single one.

    Args:
        launcher: command that starts several ranks, with ``{ranks}`` in it.
        ranks: number of ranks.
    """
    return [] if ranks == 1 else [word.replace("{ranks}", str(ranks))
                                  for word in shlex.split(launcher)]


class Child:
    """The running training. A signal to this process is sent on to it as SIGUSR1, which mpirun
    forwards to its ranks; a second signal as SIGTERM, on which mpirun ends them.

    Attributes:
        signal_name: the last signal received; None before any.
    """

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # as HUP is under nohup
                signal.signal(number, self._handle)

    def run(self, command: Sequence[str], outcome: Path,
            variables: Mapping[str, str] | None = None) -> int:
        """Run a program and return its exit code.

        Args:
            command: the program and its arguments.
            outcome: file to which it writes its exit code, since launchers mix up the ranks' codes.
            variables: of its environment, besides this program's.

        Raises:
            InputError: it can't be started.
        """
        if self._stopped():
            return EXIT_STOPPED
        outcome.unlink(missing_ok=True)
        try:
            # a process group of its own: Ctrl-C reaches it as USR1 only
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, process_group=0,
                env={**os.environ, **(variables or {}), "HPC_DEEPFAKE_OUTCOME_FILE": str(outcome)})
        except OSError as error:
            raise InputError(f"cannot start {command[0]} ({error.strerror}): set the launcher with "
                             "--launcher, like \"mpirun -np {ranks}\"") from None
        if self._stopped():  # between the check above and the start
            self._send(signal.SIGUSR1)
        code = self._process.wait()
        self._process = None
        with suppress(OSError, ValueError):
            code = int(outcome.read_text())
            outcome.unlink()
        if self._stopped() and (code < 0 or code > 128):
            return EXIT_STOPPED  # the signal came before the program could handle it
        return 128 - code if code < 0 else code

    def _stopped(self) -> bool:
        return self.signal_name is not None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self._stopped()
        self.signal_name = signal.Signals(number).name
        self._send(signal.SIGTERM if again else signal.SIGUSR1)

    def _send(self, number: int) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)
