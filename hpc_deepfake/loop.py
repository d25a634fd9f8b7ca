"""The training loop of all strategies: steps, validation, early stopping, checkpoints, metrics."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc_deepfake import checkpoint, metrics
from hpc_deepfake.data import DataFile, epoch_order, prefetch, share
from hpc_deepfake.model import Card, save
from hpc_deepfake.rundir import RunDir
from hpc_deepfake.settings import Settings
from hpc_deepfake.strategies.sequential import Batch
from hpc_deepfake.watchdog import Watchdog
from preprocessing import mpi
from preprocessing.stop import StopFlag

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.strategies.sequential import Sequential

EVALUATION_BATCH = 64
MONITORS = {"val_loss": min, "val_auc": max, "val_accuracy": max}
STAGES = ("input", "compute", "communication", "evaluate", "checkpoint")


@dataclass
class State:
    """Where the run is; with the strategy's tensors, all that a checkpoint holds.

    Attributes:
        epoch: that is under way, from 1. rows_done: of it. step: optimizer steps so far.
        loss, right: sums over the epoch's rows so far. seconds: of the epoch so far, by stage.
        best, best_epoch: of the monitored figure. rates: images/s of finished epochs.
    """

    epoch: int = 1
    rows_done: int = 0
    step: int = 0
    loss: float = 0.0
    right: float = 0.0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    best: float | None = None
    best_epoch: int = 0
    rates: list[float] = field(default_factory=list)

    def better(self, value: float | None, monitor: str) -> bool:
        """Whether ``value`` beats the best so far; one that isn't a number never does."""
        if value is None or not math.isfinite(value):
            return False
        return self.best is None or (value != self.best
                                     and MONITORS[monitor](value, self.best) == value)

    def next_epoch(self) -> None:
        self.epoch, self.rows_done = self.epoch + 1, 0
        self.loss = self.right = 0.0
        self.seconds = dict.fromkeys(STAGES, 0.0)


@dataclass
class Limits:
    """When to end, and when to save.

    Attributes:
        epochs: at most. patience: epochs without a better one, 0 for any number.
        checkpoint_seconds: between two checkpoints in mid-epoch. keep: checkpoints kept.
    """

    epochs: int
    patience: int
    checkpoint_seconds: float
    keep: int


class Trainer:
    """One run on this rank; every method but ``_say`` is collective."""

    def __init__(self, comm: Comm, strategy: Sequential, data: DataFile, settings: Settings,
                 limits: Limits, run: RunDir | None, stop: StopFlag, watchdog: Watchdog) -> None:
        """``run`` is given on rank 0 only."""
        self.comm, self.strategy, self.data = comm, strategy, data
        self.settings, self.limits = settings, limits
        self.run, self.stop, self.watchdog = run, stop, watchdog
        self.rows, self.validation = data.rows("train"), data.rows("validation")
        self.state = State()
        self.best_weights: list[np.ndarray] = []
        # of validation and test rows, by the best weights; there when training is finished
        self.probabilities: dict[str, np.ndarray] = {}
        self._saved, self._saved_state = time.monotonic(), (1, 0)

    def train(self) -> dict[str, Any] | None:
        """Train to the end and leave the best weights in the model and in ``model.keras``.

        Returns:
            The summary; None when told to stop, with a checkpoint written.
        """
        state, limits = self.state, self.limits
        while state.epoch <= limits.epochs and not self._patience_over():
            if not self._epoch() or not self._end_of_epoch():
                self.save_checkpoint()
                return None
        for variable, value in zip(self.strategy.weights.all, self.best_weights, strict=False):
            variable.assign(value)
        if self.run is not None:
            self._save_model()
        return self._summary()

    def _patience_over(self) -> bool:
        state, patience = self.state, self.limits.patience
        return bool(patience) and state.epoch - 1 - state.best_epoch >= patience

    def _epoch(self) -> bool:
        """The rest of the epoch under way; False when some rank was told to stop."""
        state, comm = self.state, self.comm
        order = epoch_order(self.rows, self.settings.seed, state.epoch)
        size = self.settings.batch_size * comm.size * self.settings.accumulate
        steps = np.split(order[state.rows_done:], range(size, len(order) - state.rows_done, size))
        steps = [rows for rows in steps if len(rows)]
        shares = [[share(micro, comm.rank, comm.size)
                   for micro in np.array_split(rows, self.settings.accumulate)]
                  for rows in steps]
        line = _Line(comm.rank == 0, state.epoch, len(order))
        ready = time.perf_counter()
        for rows, micro in zip(steps, prefetch(self._load, shares), strict=True):
            waited = time.perf_counter() - ready
            batches = [Batch(*loaded, dropout_seed(
                self.settings.seed, state.step * self.settings.accumulate + number, comm.rank))
                for number, loaded in enumerate(micro)]
            self.watchdog.entered()
            result = self.strategy.step(batches, len(rows), state.step, bool(self.stop))
            loss, right, stopped, exposed = result.numpy().tolist()
            state.step += 1
            state.rows_done += len(rows)
            state.loss, state.right = state.loss + loss, state.right + right
            now = time.perf_counter()
            communication = exposed if math.isfinite(exposed) else 0.0
            state.seconds["input"] += waited
            state.seconds["communication"] += communication
            state.seconds["compute"] += now - ready - waited - communication
            line.show(state.rows_done, len(rows), now - ready)
            ready = now
            if stopped and state.rows_done < len(order):
                line.clear()
                return False
            if self._checkpoint_due():
                self.save_checkpoint()
                ready = time.perf_counter()
        line.clear()
        return True

    def _load(self, shares: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        return [self.data.batch(rows) for rows in shares]

    def _checkpoint_due(self) -> bool:
        """Rank 0's clock; the others go on into the next step and wait there."""
        return (self.run is not None and self.limits.checkpoint_seconds > 0
                and time.monotonic() - self._saved >= self.limits.checkpoint_seconds)

    def _end_of_epoch(self) -> bool:
        """Validate, remember the best, note the metrics; False when told to stop."""
        state = self.state
        began = time.perf_counter()
        self.watchdog.entered()
        found, stopped = self._evaluate(self.validation)
        state.seconds["evaluate"] = time.perf_counter() - began
        value = found[self.settings.monitor.removeprefix("val_")]
        best = state.better(value, self.settings.monitor)
        if best:
            state.best, state.best_epoch = value, state.epoch
            self.best_weights = [variable.numpy() for variable in self.strategy.weights.all]
        training = sum(state.seconds[stage] for stage in ("input", "compute", "communication"))
        state.rates.append(len(self.rows) / training)
        line = {"epoch": state.epoch, "step": state.step, "loss": state.loss / len(self.rows),
                "accuracy": state.right / len(self.rows), "images_per_s": state.rates[-1],
                "seconds": dict(state.seconds),
                **{f"val_{name}": figure for name, figure in found.items()}, "best": best}
        state.next_epoch()
        if self.run is not None:
            self.run.append("metrics.jsonl", line)
            print(_epoch_line(line, self.limits.epochs), flush=True)
            began = time.perf_counter()
            if best:
                self._save_model()
            state.seconds["checkpoint"] += time.perf_counter() - began
        self.save_checkpoint()
        more = state.epoch <= self.limits.epochs and not self._patience_over()
        return not (stopped and more)

    def _evaluate(self, rows: np.ndarray) -> tuple[dict[str, Any], bool]:
        """Exact figures over ``rows``, and whether any rank was told to stop."""
        found, stopped = self._probabilities(rows)
        return metrics.evaluate(found, self.data.labels[rows]), stopped

    def _probabilities(self, rows: np.ndarray) -> tuple[np.ndarray, bool]:
        """Of each of ``rows``, computed by one rank, and whether any was told to stop; the same
        on all ranks."""
        mine = share(rows, self.comm.rank, self.comm.size)
        batches = np.split(mine, range(EVALUATION_BATCH, len(mine), EVALUATION_BATCH))
        scores = [self.strategy.probabilities(pictures)
                  for pictures, _ in prefetch(self.data.batch, batches) if len(pictures)]
        local = np.concatenate([*scores, [float(bool(self.stop))]])
        gathered = mpi.concatenate(self.comm, local)
        ends = np.cumsum([len(share(rows, rank, self.comm.size)) + 1
                          for rank in range(self.comm.size)]) - 1
        return np.delete(gathered, ends), bool(gathered[ends].any())

    def save_checkpoint(self) -> None:
        """Write a checkpoint of this very state; rank 0 does, the others need not wait."""
        here = (self.state.epoch, self.state.rows_done)
        if self.run is not None and self._saved_state != here:
            began = time.perf_counter()
            arrays = [variable.numpy() for variable in self.strategy.state] + self.best_weights
            meta = {"state": asdict(self.state), "settings": self.settings.as_dict(),
                    "data": self.data.header.attributes, "ranks": self.comm.size,
                    "tensors": len(self.strategy.state)}
            checkpoint.save(self.run.path / "checkpoints", self.state.step, arrays, meta,
                            self.limits.keep)
            self._saved, self._saved_state = time.monotonic(), here
            self.state.seconds["checkpoint"] += time.perf_counter() - began

    def restore(self, loaded: tuple[list[np.ndarray], dict[str, Any]] | None) -> None:
        """Take up a checkpoint, given on rank 0; None starts from rank 0's weights."""
        meta = self.comm.bcast(loaded and loaded[1])
        if meta is not None:
            self.state = State(**meta["state"])
            self._saved_state = (self.state.epoch, self.state.rows_done)
            if loaded:
                for variable, value in zip(self.strategy.state, loaded[0], strict=False):
                    variable.assign(value)
            self.best_weights = self.comm.bcast(loaded and loaded[0][meta["tensors"]:])
        self.strategy.broadcast()

    def _save_model(self) -> None:
        """``model.keras`` with the model's present weights."""
        card = Card(self.settings.feature, self.data.header.parameters)
        save(self.strategy.model, card, Path(self.run.path) / "model.keras")

    def _summary(self) -> dict[str, Any]:
        state = self.state
        self.probabilities = {part: self._probabilities(self.data.rows(part))[0]
                              for part in ("validation", "test") if len(self.data.rows(part))}
        parts = {part: metrics.evaluate(found, self.data.labels[self.data.rows(part)])
                 for part, found in self.probabilities.items()}
        return {"strategy": self.strategy.name, "ranks": self.comm.size,
                "feature": self.settings.feature, "epochs": state.epoch - 1, "steps": state.step,
                "stopped_early": state.epoch <= self.limits.epochs,
                "best_epoch": state.best_epoch, "monitor": self.settings.monitor,
                "train_rows": len(self.rows), "images_per_s": float(np.median(state.rates)),
                **parts}


def dropout_seed(seed: int, number: int, rank: int) -> np.ndarray:
    """Two int32 that are a function of (seed, number of the micro-batch, rank) alone."""
    return np.random.SeedSequence([seed, number, rank]).generate_state(2).astype(np.int32)


class _Line:
    """The progress line within an epoch, on rank 0 and a terminal only."""

    def __init__(self, wanted: bool, epoch: int, rows: int) -> None:
        self._on = wanted and sys.stderr.isatty()
        self._epoch, self._rows, self._shown = epoch, rows, 0.0

    def show(self, done: int, rows: int, seconds: float) -> None:
        if self._on and time.monotonic() - self._shown > 0.5:
            self._shown = time.monotonic()
            print(f"\r\033[Kepoch {self._epoch}  {done:,} of {self._rows:,} images  "
                  f"{rows / seconds:,.0f}/s", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._on:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _epoch_line(line: dict[str, Any], epochs: int) -> str:
    def text(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    return (f"epoch {line['epoch']:>{len(str(epochs))}}/{epochs}"
            f"  loss {line['loss']:.4f}  accuracy {line['accuracy']:.1%}"
            f"  | validation loss {text(line['val_loss'], '.4f')}"
            f"  accuracy {text(line['val_accuracy'], '.1%')}  AUC {text(line['val_auc'], '.3f')}"
            f"  | {line['images_per_s']:,.0f} images/s"
            f"{'  best' if line['best'] else ''}")
