"""Running programs that another one plans, such as trainings, one after the other, until one stops
or fails."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from hpc_deepfake.core import holder
from hpc_deepfake.core.child import Child
from hpc_deepfake.core.errors import EXIT_DIVERGED
from hpc_deepfake.core.log import log
from hpc_deepfake.core.stop import EXIT_STOPPED
from hpc_deepfake.core.text import plural
from hpc_deepfake.train.planned import DONE, STARTED


class Step(Protocol):
    """A program to run."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def path(self) -> Path:
        """What it writes, which nobody else may hold."""

    @property
    def processes(self) -> int:
        """Number of its ranks."""

    @property
    def result(self) -> str:
        """The file that it leaves when it has finished."""

    def state(self) -> str:
        """``planned.DONE``, ``STARTED`` or ``TO_DO``."""

    def command(self, launcher: str, python: Sequence[str] = (sys.executable,)) -> list[str]:
        """The command that starts or resumes it."""


def run_all(steps: Sequence[Step], out: Path, launcher: str, resume: str) -> int:
    """Run all that are not finished.

    Args:
        steps: the plan.
        out: folder of the plan.
        launcher: command that starts several ranks, with ``{ranks}`` in it.
        resume: the command that resumes the plan.

    Returns:
        0 if all are finished, else the exit code of the one that stopped or failed.
    """
    child, start = Child(), time.monotonic()
    states = [step.state() for step in steps]
    for number, (step, state) in enumerate(zip(steps, states, strict=True), 1):
        if state == DONE:
            continue
        print(f"--- {number} of {len(steps)}: {step.name}"
              f"{' (resumed)' if state == STARTED else ''}; {states.count(DONE)} "
              f"finished earlier, {_clock(time.monotonic() - start)} elapsed", flush=True)
        holder.verify(step.path)
        code = child.run(step.command(launcher), out.absolute() / ".outcome")
        if code == 0 and step.state() != DONE:
            log.error("error: %s ended with exit code 0 but wrote no %s: check that "
                      "--launcher starts %s of one program", step.name, step.result,
                      plural(step.processes, "rank"))
            return 1
        if code == EXIT_STOPPED:
            print(f"stopped by {child.signal_name or 'a signal to its ranks'} during "
                  f"{step.name}; run the same command again to resume:\n  {resume}", flush=True)
            return code
        if code:
            log.error("error: %s %s with exit code %d; see its message above. To run it "
                      "alone:\n  %s", step.name,
                      "diverged" if code == EXIT_DIVERGED else "failed", code,
                      shlex.join(step.command(launcher, ("python",))))
            return code
    return 0


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
