"""Running the trainings one after the other, as separate programs, until one stops or fails."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from hpc_deepfake.compare import folder
from hpc_deepfake.compare.plan import Training
from hpc_deepfake.core import holder
from hpc_deepfake.core.errors import EXIT_DIVERGED, InputError
from hpc_deepfake.core.log import log
from hpc_deepfake.core.stop import EXIT_STOPPED
from hpc_deepfake.core.text import plural

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


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

    def run(self, command: Sequence[str], outcome: Path) -> int:
        """Run a program and return its exit code.

        Args:
            command: the program and its arguments.
            outcome: file to which it writes its exit code, since launchers mix up the ranks' codes.

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
                env={**os.environ, "HPC_DEEPFAKE_OUTCOME_FILE": str(outcome)})
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


def run_all(trainings: Sequence[Training], out: Path, launcher: str, resume: str) -> int:
    """Run all trainings that are not finished.

    Args:
        trainings: the plan.
        out: folder of the comparison.
        launcher: command that starts several ranks, with ``{ranks}`` in it.
        resume: the command that resumes this comparison.

    Returns:
        0 if all are finished, else the exit code of the training that stopped or failed.
    """
    child, start = Child(), time.monotonic()
    states = [folder.state(training) for training in trainings]
    for number, (training, state) in enumerate(zip(trainings, states, strict=True), 1):
        if state == folder.DONE:
            continue
        print(f"--- {number} of {len(trainings)}: {training.name}"
              f"{' (resumed)' if state == folder.STARTED else ''}; {states.count(folder.DONE)} "
              f"finished earlier, {_clock(time.monotonic() - start)} elapsed", flush=True)
        holder.verify(training.path)
        code = child.run(training.command(launcher), out.absolute() / ".outcome")
        if code == 0 and folder.state(training) != folder.DONE:
            log.error("error: %s ended with exit code 0 but wrote no summary.json: check that "
                      "--launcher starts %s of one program", training.name,
                      plural(training.layout.processes, "rank"))
            return 1
        if code == EXIT_STOPPED:
            print(f"stopped by {child.signal_name or 'a signal to its ranks'} during "
                  f"{training.name}; run the same command again to resume:\n  {resume}", flush=True)
            return code
        if code:
            log.error("error: %s %s with exit code %d; see its message above. To run it "
                      "alone:\n  %s", training.name,
                      "diverged" if code == EXIT_DIVERGED else "failed", code,
                      shlex.join(training.command(launcher, ("python",))))
            return code
    return 0


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
