"""One training after the other, as programs of their own, until all are done or one stops."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from hpc_deepfake.compare import folder
from hpc_deepfake.compare.plan import Training
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.stop import EXIT_STOPPED

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class Child:
    """A training that runs. Signals to this process reach it as USR1, the one that mpirun hands
    on to its ranks; a second one as TERM, on which mpirun ends them."""

    def __init__(self) -> None:
        self.stop: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # as HUP is under nohup
                signal.signal(number, self._signalled)

    def run(self, command: Sequence[str], outcome: Path) -> int:
        """The program's exit code. ``outcome`` is a file for it to write that down, since
        launchers mix up the ranks' codes."""
        if self.stop:
            return EXIT_STOPPED
        outcome.unlink(missing_ok=True)
        try:
            # a group of its own: Ctrl-C reaches it as USR1 only
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, process_group=0,
                env={**os.environ, "HPC_DEEPFAKE_OUTCOME_FILE": str(outcome)})
        except OSError as error:
            raise InputError(f"cannot start {command[0]} ({error.strerror}): --launcher names "
                             "what starts the ranks, like \"mpirun -np {ranks}\"") from None
        if self.stop:  # between the question and the start
            self._send(signal.SIGUSR1)
        code = self._process.wait()
        self._process = None
        with suppress(OSError, ValueError):
            code = int(outcome.read_text())
            outcome.unlink()
        if self.stop and (code < 0 or code > 128):
            return EXIT_STOPPED  # the signal came before the program could take note of it
        return 128 - code if code < 0 else code

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        again = self.stop is not None
        self.stop = signal.Signals(number).name
        self._send(signal.SIGTERM if again else signal.SIGUSR1)

    def _send(self, number: int) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)


def run_all(trainings: Sequence[Training], out: Path, launcher: str, again: str) -> int:
    """Run what is not done yet; 0 when all are, else the exit code of the one that stopped.

    Args:
        again: the command that goes on.
    """
    child, began = Child(), time.monotonic()
    states = [folder.state(one) for one in trainings]
    for number, (one, state) in enumerate(zip(trainings, states, strict=True), 1):
        if state == folder.DONE:
            continue
        _say(f"--- {number} of {len(trainings)}: {one.name}"
             f"{', goes on' if state == folder.STARTED else ''}; {states.count(folder.DONE)} were "
             f"done before, {_clock(time.monotonic() - began)} since the start")
        code = child.run(one.command(launcher), out.absolute() / ".outcome")
        if code == 0 and folder.state(one) != folder.DONE:
            print(f"error: {one.name} ended with exit code 0 but left no summary.json: does "
                  f"--launcher start {one.layout.processes} ranks of one program?", file=sys.stderr)
            return 1
        if code == EXIT_STOPPED:
            _say(f"stopped by {child.stop or 'a signal to its ranks'} in {one.name}; run the same "
                 f"command again to go on:\n  {again}")
            return code
        if code:
            print(f"error: {one.name} ended with exit code {code}; its message stands above. To "
                  f"try again by itself:\n  {shlex.join(one.command(launcher, ('python',)))}",
                  file=sys.stderr, flush=True)
            return code
    return 0


def _say(text: str) -> None:
    print(text, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
