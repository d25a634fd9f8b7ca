"""Where a rank's time goes, step by step: waiting for rows, computing, waiting for other ranks."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hpc_deepfake.core import mpi

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

STAGES = ("input", "compute", "communication", "evaluate", "checkpoint")
_OF_RANKS = STAGES[:3]  # stages in which ranks differ


class _Flight(NamedTuple):
    """A step under way: its number, when it began, when it was launched, and seconds slept."""

    step: int
    began: float
    launched: float
    slept: float


class StepClock:
    """Measures the parts of each step of this rank.

    For each step call ``begin`` or ``ready``, then ``loaded``, ``dawdle`` and ``launched``; and
    ``landed`` when it is done, which may be after the launch of the next one.
    """

    def __init__(self, slow: float = 1.0, note: Callable[..., None] | None = None) -> None:
        """
        Args:
            slow: factor by which ``dawdle`` prolongs this rank's computation, for studies.
            note: called for each phase, as ``Timeline.add``.
        """
        self._slow, self._note = slow, note or (lambda *_, **__: None)
        self._steps: list[float] = []  # seconds of computation of each step
        self._before = 0  # number of steps before this epoch
        self._epoch = dict.fromkeys(_OF_RANKS, 0.0)  # seconds of the epoch so far
        self._round = dict.fromkeys(STAGES, 0.0)  # since ``begin``
        self._ready = self._loaded = 0.0
        self._slept = 0.0
        self._flights: deque[_Flight] = deque()

    def begin(self) -> None:
        """Start a round of steps: up to the end of the epoch, or to a checkpoint."""
        self._round = dict.fromkeys(STAGES, 0.0)
        self.ready()

    def ready(self) -> None:
        """From now on this rank waits for rows."""
        self._ready = time.perf_counter()

    def loaded(self) -> None:
        """The rows have arrived."""
        self._loaded = time.perf_counter()

    def dawdle(self) -> None:
        """Sleep to make this step ``slow`` times as long as the last one.

        Not before two are known, since the first one also builds the graph."""
        self._slept = 0.0
        if self._slow > 1 and len(self._steps) > 1:
            self._slept = (self._slow - 1) * self._steps[-1]
            time.sleep(self._slept)

    def launched(self, step: int, idle: float) -> None:
        """A step was launched; whatever it waited for on the way, ``landed`` will tell.

        Args:
            step: its number.
            idle: seconds before it that this rank waited for others rather than for rows.
        """
        now = time.perf_counter()
        self._round["input"] += self._loaded - self._ready - idle
        self._round["communication"] += idle
        self._note("input", self._ready, self._loaded)
        self._flights.append(_Flight(step, self._loaded, now, self._slept))

    def landed(self, waited: float) -> None:
        """Count the oldest step that was launched and not counted: it is done.

        Args:
            waited: seconds within it that this rank waited for others; NaN if unknown.
        """
        step, began, ended, slept = self._flights.popleft()
        if not self._flights:  # nothing else to do: also what it took from then on was this step
            ended = time.perf_counter()
        communication = waited if math.isfinite(waited) else 0.0
        computed = ended - began - communication
        self._steps.append(computed - slept)
        self._round["communication"] += communication
        self._round["compute"] += computed
        self._note("step", began, ended, step=step, waited_s=communication)

    def end(self) -> dict[str, float]:
        """Seconds of the round that ends now, by stage."""
        for stage in _OF_RANKS:
            self._epoch[stage] += self._round[stage]
        return self._round

    def over_ranks(self, comm: Comm) -> dict[str, dict[str, float]]:
        """End the epoch; collective.

        Returns:
            Minimum, mean and maximum over the ranks that computed of the seconds of each stage in
            this epoch, and of the process's first step (``first_step``) in the epoch that has it.
        """
        first = self._steps[0] if self._steps and not self._before else 0.0
        own = np.array([*self._epoch.values(), first])
        ranks = mpi.concatenate(comm, own).reshape(-1, len(own))
        ranks = ranks[ranks.any(1)]  # a parameter server computes nothing
        self._before, self._epoch = len(self._steps), dict.fromkeys(_OF_RANKS, 0.0)
        return {name: {"min": float(column.min()), "mean": float(column.mean()),
                       "max": float(column.max())}
                for name, column in zip((*_OF_RANKS, "first_step"), ranks.T, strict=True)
                if len(column) and (name != "first_step" or column.any())}
