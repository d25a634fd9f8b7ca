"""Running the missing trials here, one after another, as separate programs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from hpc_deepfake.core import holder
from hpc_deepfake.core.child import Child, launched
from hpc_deepfake.core.errors import EXIT_DIVERGED
from hpc_deepfake.core.files import write_text
from hpc_deepfake.core.log import log
from hpc_deepfake.core.stop import EXIT_STOPPED
from hpc_deepfake.sweep import plan as plans
from hpc_deepfake.sweep.plan import Sweep, Trial


def command(folder: Path, sweep: Sweep, trial: Trial, launcher: str,
            python: Sequence[str] = (sys.executable,)) -> list[str]:
    """The command that runs a trial."""
    return [*launched(launcher, sweep.ranks), *python, "-m", "hpc_deepfake.train",
            *sweep.arguments(folder, trial), "--device", sweep.device]


def run_all(folder: Path, sweep: Sweep, trials: Sequence[Trial], launcher: str) -> int:
    """Run trials. One that fails or diverges doesn't keep the others from running.

    Args:
        folder: of the sweep.
        sweep: its plan.
        trials: those to run.
        launcher: command that starts several ranks, with ``{ranks}`` in it.

    Returns:
        0 if all ended with a result, 75 after a signal, else the exit code of the first trial that
        failed.
    """
    child, failed = Child(), 0
    for trial in trials:
        print(f"--- trial {trial.name} of {len(sweep.trials)}: seed {trial.seed}, "
              f"{plans.shown(trial.varied)}", flush=True)
        holder.verify(folder / plans.NAME)
        records = plans.path(folder, trial) / "jobs"
        records.mkdir(parents=True, exist_ok=True)
        for name in ("outcome", "local.error"):
            (records / name).unlink(missing_ok=True)
        code = child.run(command(folder, sweep, trial, launcher), records / ".outcome",
                         {"HPC_DEEPFAKE_ERROR_FILE": str(records / "local.error")})
        write_text(records / "outcome", f"{code}\n")
        if code == EXIT_STOPPED:
            print(f"stopped by {child.signal_name or 'a signal to its ranks'} during trial "
                  f"{trial.name}; to resume:\n  "
                  f"{shlex.join(['hpc-deepfake', 'sweep', 'run', str(folder)])}", flush=True)
            return code
        if code == EXIT_DIVERGED:
            log.warning("trial %s diverged: that is its result", trial.name)
        elif code:
            failed = failed or code
            log.error("error: trial %s failed with exit code %d; see its message above. To run it "
                      "alone:\n  %s", trial.name, code,
                      shlex.join(command(folder, sweep, trial, launcher, ("python",))))
    return failed
