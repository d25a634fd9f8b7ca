"""Running the trainings one after the other, as separate programs, until one stops or fails."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from hpc_deepfake.compare import folder
from hpc_deepfake.compare.plan import Training
from hpc_deepfake.core import holder
from hpc_deepfake.core.child import Child
from hpc_deepfake.core.errors import EXIT_DIVERGED
from hpc_deepfake.core.log import log
from hpc_deepfake.core.stop import EXIT_STOPPED
from hpc_deepfake.core.text import plural


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
