"""The end of a training whose numbers are no longer finite (NaN or infinity).

Two checks together leave no gap:

- *Every step*: each rank looks at its loss, its batch statistics and its gradients but the large
  one, before they are reduced, and its verdict travels with the sums of the step
  (``base.DIVERGED``). That costs 0.1% of a step.
- *Whenever weights are kept*: before validation, and so before a best epoch, a model and the
  checkpoint at the end of an epoch, and before any other checkpoint, each rank looks at all numbers
  of its weights and its optimizer. A finite loss is no proof that they are: ReLU and max-pooling
  can hide a NaN, and an infinite second moment only stops a weight from learning. In every step
  this would cost 10%.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc_deepfake.core import json_data, mpi
from hpc_deepfake.core.errors import Diverged
from hpc_deepfake.core.files import write_json
from hpc_deepfake.core.text import plural
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.train import checkpoint

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.strategies.base import Done, Strategy

RECORD = "diverged.json"  # in the run directory of a training that diverged
_NEVER = 1 << 62  # the step of a rank whose numbers are finite


class Divergence:
    """Ends the training on all ranks alike; every method is collective."""

    def __init__(self, comm: Comm, strategy: Strategy, settings: Settings,
                 run: Path | None, keep: Callable[[], None] = lambda: None) -> None:
        """
        Args:
            comm: all ranks.
            strategy: whose numbers are checked.
            settings: what the run computes.
            run: the run directory, on rank 0; None on other ranks.
            keep: writes what is left of the finite past; collective, called before the end.
        """
        self._comm, self._strategy, self._settings, self._run = comm, strategy, settings, run
        self._keep = keep
        self._checked = -1  # the last step whose weights are known to be finite

    def check_steps(self, done: Done, best_epoch: int) -> None:
        """Raise Diverged if a rank's numbers were not finite in the steps that are done."""
        if done.diverged:
            at = self._strategy.diverged_at
            self._end("loss, gradients or batch statistics", at, best_epoch)

    def check_weights(self, step: int, best_epoch: int) -> None:
        """Raise Diverged if a rank's weights or optimizer are not finite after ``step`` steps."""
        if self._checked == step:
            return
        whole = self._strategy.finite()
        if not mpi.concatenate(self._comm, np.array([whole], np.float64)).all():
            self._end("weights or optimizer state", None if whole else step - 1, best_epoch)
        self._checked = step

    def _end(self, what: str, at: int | None, best_epoch: int) -> None:
        """Raise Diverged; ``at`` is the step at which it happened on this rank, if it did."""
        from mpi4py import MPI

        self._keep()
        steps = mpi.concatenate(self._comm, np.array([_NEVER if at is None else at], np.int64))
        hosts = self._comm.allgather(MPI.Get_processor_name())
        first = int(steps.argmin())
        others = int((steps == steps[first]).sum()) - 1
        where = f"rank {first} on {hosts[first]}" \
                + (f" and {plural(others, 'other rank')}" if others else "")
        message = (f"the training diverged: {what} are not finite (NaN or infinity) since step "
                   f"{steps[first] + 1:,}, first on {where}. {self._left(best_epoch)} Start a new "
                   f"run (another --run) with {advice(self._settings)}")
        if self._run is not None:
            with suppress(OSError):  # a full disk must not hide the message
                write_json(self._run / RECORD, {"step": int(steps[first]) + 1, "rank": first,
                                                "host": hosts[first], "message": message})
        raise Diverged(message)

    def _left(self, best_epoch: int) -> str:
        """What the run leaves behind, on rank 0, which prints it."""
        if self._run is None:
            return ""
        good = checkpoint.found(self._run / "checkpoints")[:1]
        model = f"{self._run / 'model.keras'} has the finite weights of epoch {best_epoch}." \
            if best_epoch else "No model was written."
        return f"Last good checkpoint: {good[0] if good else 'none'}. {model}"


def advice(settings: Settings) -> str:
    """Options that may prevent the divergence, the most effective one first."""
    options = [f"a --clip-norm lower than {settings.clip_norm:g}" if settings.clip_norm
               else "--clip-norm 1",
               "more --warmup-steps" if settings.warmup_steps else "--warmup-steps 500"]
    if settings.precision in ("bfloat16", "tf32"):
        options.append("--precision float32")
    if settings.compression != "none":
        options.append("no --compression")
    return (f"a lower --learning-rate, such as {settings.learning_rate / 10:g}; "
            f"{', '.join(options[:-1])} or {options[-1]} may help in addition")


def recorded(run: Path) -> tuple[int, str] | None:
    """The step at which a run diverged and the message about it; None if it didn't."""
    try:
        record: dict[str, Any] = json_data.dictionary(json_data.read(run / RECORD))
    except (OSError, ValueError):
        return None
    step, message = record.get("step"), record.get("message")
    return (step, message) if type(step) is int and isinstance(message, str) else None
