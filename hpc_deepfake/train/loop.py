"""The training loop of all strategies: steps, validation, early stopping, checkpoints, metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc_deepfake.core import mpi, watchdog
from hpc_deepfake.core.progress import Line
from hpc_deepfake.core.stop import StopFlag
from hpc_deepfake.data.augment import Augmentation, Rows
from hpc_deepfake.data.rows import DataFile, class_weights, epoch_order, first_rows
from hpc_deepfake.data.steps import Steps
from hpc_deepfake.network.model import save
from hpc_deepfake.network.registry import title
from hpc_deepfake.network.settings import Course, Settings
from hpc_deepfake.strategies.base import SAVE, STOP, Batch, Done
from hpc_deepfake.train import checkpoint, messages, provenance, start
from hpc_deepfake.train.divergence import Divergence
from hpc_deepfake.train.rundir import RunDir
from hpc_deepfake.train.saving import Saver
from hpc_deepfake.train.timing import STAGES, StepClock
from hpc_deepfake.train.validation import Predicted, predict

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.strategies.base import Strategy
    from hpc_deepfake.train.tensorboard import Board
    from hpc_deepfake.train.timeline import Timeline

MONITORS = {"val_loss": min, "val_auc": max, "val_accuracy": max, "val_pixel_auc": max,
            "val_pixel_f1": max}


@dataclass
class State:
    """How far the run is; together with the strategy's tensors, the content of a checkpoint.

    Attributes:
        epoch: current epoch, from 1.
        rows_done: rows of this epoch that are done.
        step: optimizer steps since the start of the run.
        loss: sum over the rows of this epoch so far.
        right: correct classifications among them.
        seconds: of this epoch so far, by stage.
        counts: more figures of this epoch so far, by name and kind (see ``Done.counts``).
        best: best value of the monitored metric.
        best_epoch: epoch of that value; 0: none yet.
        rates: images/s of each finished epoch.
        wall: wall-clock seconds of this epoch so far, without interruptions.
        wall_rates: images/s of each finished epoch by the wall clock.
        rate_factor: of the learning rate, with ``--rate-schedule plateau``.
        rate_epoch: last epoch that was better, or after which that factor changed.
        mask_threshold: ``Card.mask_threshold`` of the best epoch.
    """

    epoch: int = 1
    rows_done: int = 0
    step: int = 0
    loss: float = 0.0
    right: float = 0.0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    counts: dict[str, dict[str, float]] = field(default_factory=dict)
    best: float | None = None
    best_epoch: int = 0
    rates: list[float] = field(default_factory=list)
    wall: float = 0.0
    wall_rates: list[float] = field(default_factory=list)
    rate_factor: float = 1.0
    rate_epoch: int = 0
    mask_threshold: int | None = None

    def better(self, value: float | None, monitor: str) -> bool:
        """Whether ``value`` is better than the best so far; None, NaN and infinity never are."""
        if value is None or not math.isfinite(value):
            return False
        return self.best is None or (value != self.best
                                     and MONITORS[monitor](value, self.best) == value)

    def wait(self, best: bool, settings: Settings) -> bool:
        """Lower the learning rate if this epoch, which is the ``best`` so far or not, is the last
        of ``--rate-epochs`` without improvement, with ``--rate-schedule plateau``; whether so."""
        if settings.rate_schedule != "plateau":
            return False
        lower = not best and self.epoch - self.rate_epoch >= settings.epochs_of_rate
        if lower:
            self.rate_factor *= settings.rate_factor
        if best or lower:
            self.rate_epoch = self.epoch
        return lower

    def add(self, done: Done) -> None:
        """Count steps of this epoch."""
        self.step, self.rows_done = self.step + done.steps, self.rows_done + done.rows
        self.loss, self.right = self.loss + done.loss, self.right + done.right
        for name, kinds in done.counts.items():
            totals = self.counts.setdefault(name, {})
            for kind, count in kinds.items():
                totals[kind] = totals.get(kind, 0) + count

    def next_epoch(self) -> None:
        """Set everything that belongs to one epoch to its start."""
        self.epoch, self.rows_done = self.epoch + 1, 0
        self.loss = self.right = self.wall = 0.0
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.counts = {}


@dataclass
class Limits:
    """When to stop training, and when to save.

    Attributes:
        epochs: maximum number of epochs.
        patience: epochs without improvement before early stopping; 0: no early stopping.
        checkpoint_seconds: between two checkpoints; 0: one at the end of each epoch.
        keep: number of checkpoints to keep.
    """

    epochs: int
    patience: int
    checkpoint_seconds: float
    keep: int


class Trainer:
    """One run on this rank.

    ``train``, ``save_checkpoint`` and ``restore`` are collective.

    Attributes:
        rows: training rows of the data file.
        validation: its validation rows.
        state: how far the run is.
        best: on rank 0 the weights of the best epoch; empty before the first.
        validated: probabilities of the validation rows by the best weights; None: unknown, before
            the first epoch, or in a checkpoint of an earlier version.
        probabilities: of validation and test rows by the best weights, once training is finished.
        board: shows the course of the run, on rank 0 and if it is asked for.
    """

    def __init__(self, comm: Comm, strategy: Strategy, data: DataFile, settings: Settings,
                 limits: Limits, run: RunDir | None, stop: StopFlag,
                 slow: float = 1.0, timeline: Timeline | None = None,
                 trained_on: Callable[[], dict[str, Any] | None] = lambda: None) -> None:
        """
        Args:
            comm: all ranks.
            strategy: makes the steps.
            data: rows to train on and to validate with.
            settings: what the run computes.
            limits: when to stop and to save.
            run: the run directory, on rank 0; None on other ranks.
            stop: true once this rank has received a signal to stop.
            slow: factor by which this rank's computation is prolonged, for studies.
            timeline: records the phases.
            trained_on: on rank 0 gives ``Card.trained_on``.
        """
        self.comm, self.strategy, self.data = comm, strategy, data
        self.settings, self.limits = settings, limits
        self.run, self.stop = run, stop
        strategy.wishes = self._wishes
        self.rows = first_rows(data.rows("train"), settings.rows, settings.seed)
        self.validation = data.rows("validation")
        self._augmentation = Augmentation(settings.augment, settings.seed, self.rows)
        if settings.class_weight == "balanced":
            strategy.class_weights = class_weights(data.labels[self.rows])
        self.state = State()
        self.best: list[np.ndarray] = []
        self.validated: np.ndarray | None = None
        self._figures: dict[str, Any] | None = None  # to ``validated``, if this process made it
        self.probabilities: dict[str, np.ndarray] = {}
        self.board: Board | None = None
        self._trained_on = trained_on
        self._divergence = Divergence(comm, strategy, settings, run.path if run else None,
                                      self._keep_best)
        self._saver = Saver(comm)
        self._saved, self._saved_state = time.monotonic(), (1, 0)
        self._model_epoch = 0  # epoch whose weights were last written to model.keras
        self._wall_until = time.perf_counter()  # up to where ``State.wall`` counts
        self._note: Callable[..., None] = timeline.add if timeline else _ignore
        self._clock = StepClock(slow, self._note)
        self._before = 0  # epochs that were done before this process
        self._begun = 0.0, 0  # time and rows done when this epoch started or was resumed

    def train(self) -> dict[str, Any] | None:
        """Train to the end; the best weights are then in the model and in ``model.keras``.

        Returns:
            The summary; None if the run was stopped by a signal, after writing a checkpoint.
        """
        state = self.state
        self._wall_until = time.perf_counter()
        self._before = state.epoch - 1
        try:
            finished = True
            if self.run is not None and not self._is_over():
                self.run.unfinish()
            while finished and not self._is_over():
                finished = self._epoch() and self._end_of_epoch()
            self.save_checkpoint()
            summary = self._finish() if finished else None
            self._on_board(lambda board: board.flush())
            self._saver.settle()
        finally:
            self._saver.join()
            self._on_board(lambda board: board.close())
        return summary

    def _finish(self) -> dict[str, Any]:
        """Set the weights to the best ones, write the model, and evaluate; returns the summary."""
        mpi.meet(self.comm, "restoring the best weights")
        if not self.state.best_epoch:
            with self._averaged():
                self.best = self.strategy.whole()
        if self.state.best_epoch or self.settings.ema:
            self.strategy.restore(self.best)
        summary = self._summary()
        due = self._model_due() or not self.state.best_epoch or self.validated is None
        if self.validated is None:
            self.validated = self.probabilities.get("validation")
        if self.run is not None and due:
            self._saver.start(self._write_model())
        return summary

    def _is_over(self) -> bool:
        return self.state.epoch > self.limits.epochs or self._patience_over()

    def _patience_over(self) -> bool:
        state, patience = self.state, self.limits.patience
        return bool(patience) and state.epoch - 1 - state.best_epoch >= patience

    def _epoch(self) -> bool:
        """Train the rest of the current epoch; False if a rank was asked to stop."""
        order = epoch_order(self.rows, self.settings.seed, self.state.epoch)
        line = Line(self.comm.rank == 0, interval=0)
        self._begun = time.monotonic(), self.state.rows_done
        stopped = False
        while self.state.rows_done < len(order) and not stopped:
            done = self._steps(order, line)
            if done.diverged:
                line.clear()
            self._divergence.check_steps(done, self.state.best_epoch)
            stopped = done.stopped and self.state.rows_done < len(order)
            if done.save and not stopped:
                self.save_checkpoint()
        line.clear()
        return not stopped

    def _steps(self, order: np.ndarray, line: Line) -> Done:
        """Train until the epoch ends, a rank is asked to stop, or a checkpoint is due.

        A strategy may report a step after it has launched the next one: then all ranks take that
        one too.

        Returns:
            The report with the strongest wishes of the last ones.
        """
        state, strategy, accumulate = self.state, self.strategy, self.settings.accumulate
        index, shares = strategy.share
        size = self.settings.batch_size * shares * accumulate
        steps = Steps(order[state.rows_done:], size, accumulate, strategy.share)
        first, begun = state.step, state.rows_done
        told = [Done()]  # of these steps

        def count(done: Done | None) -> None:
            if done is not None:
                self._count(done)
                self._clock.landed(done.waited)
                told.append(done)
                del told[:-2]

        course = Course(state.epoch - 1, begun, first, len(order), size, state.rate_factor)
        strategy.begin(course)
        self._on_board(lambda board: board.begin(course))
        watchdog.enter(f"training (epoch {state.epoch})")
        self._clock.begin()
        load = partial(self._load, state.epoch)
        for number, micro in strategy.deal(steps, load, first):
            self._clock.loaded()
            if micro is not None:
                batches = [Batch(loaded.pictures, loaded.labels, dropout_seed(
                    self.settings.seed, (first + number) * accumulate + place, index),
                    loaded.masks) for place, loaded in enumerate(micro)]
                doing = f"training (epoch {state.epoch}, step {first + number})"
                if strategy.lockstep:
                    watchdog.enter(doing, shared=True)
                else:
                    watchdog.advance(doing)
                self._clock.dawdle()
                done = strategy.launch(batches, steps.rows(number), first + number, self._wishes())
                self._clock.launched(first + number, strategy.idle)
                count(done)
            watchdog.advance()
            watchdog.started()
            self._show(line, min(begun + (number + 1) * size, len(order)), len(order))
            self._clock.ready()
            if told[-1].wishes:
                break
        count(strategy.landed())
        watchdog.started()
        watchdog.enter(f"ending a round of steps (epoch {state.epoch})")
        settled, spent = strategy.settle(self._clock.end())
        self._count(settled)
        for stage, seconds in spent.items():
            state.seconds[stage] += seconds
        return max(settled, *reversed(told), key=lambda done: done.wishes)

    def _count(self, done: Done) -> None:
        """Count steps of this epoch."""
        self.state.add(done)
        self._on_board(lambda board: board.steps(self.state.step, done))

    def _on_board(self, write: Callable[[Board], None]) -> None:
        """Write on the board, if there is one; an error is kept, as that of any file."""
        if self.board is not None:
            self._saver.now(partial(write, self.board))

    def _show(self, line: Line, done: int, rows: int) -> None:
        """Show the progress within the epoch, on a terminal only."""
        if line.due():
            began, first = self._begun
            rate = (done - first) / max(time.monotonic() - began, 1e-9)
            line.show(f"epoch {self.state.epoch}  {done:,} of {rows:,} images  {rate:,.0f}/s")

    def _wishes(self) -> int:
        return STOP * bool(self.stop) + SAVE * (self._checkpoint_due() or self._saver.failed)

    def _load(self, epoch: int, shares: list[np.ndarray]) -> list[Rows]:
        return [self.strategy.placed(
            self._augmentation.batch(self.data, rows, epoch, self.strategy.locates))
                for rows in shares]

    def _checkpoint_due(self) -> bool:
        """By rank 0's clock; the other ranks learn it from the sums of the step."""
        return (self.run is not None and self.limits.checkpoint_seconds > 0
                and not self._saver.busy
                and time.monotonic() - self._saved >= self.limits.checkpoint_seconds)

    def _end_of_epoch(self) -> bool:
        """Validate, keep the best weights, write the metrics; False if asked to stop."""
        state = self.state
        self._divergence.check_weights(state.step, state.best_epoch)
        began = time.perf_counter()
        with self._averaged():
            predicted, asked = self._predict(self.validation)
            probabilities = predicted.probabilities
            figures = predicted.figures(self.data.labels[self.validation])
            state.seconds["evaluate"] = time.perf_counter() - began
            self._note("evaluate", began, time.perf_counter())
            value = figures.get(self.settings.monitor.removeprefix("val_"))
            best = state.better(value, self.settings.monitor)
            if best:
                state.best, state.best_epoch = value, state.epoch
                state.mask_threshold = predicted.threshold
                began = time.perf_counter()
                self.best, self.validated = self.strategy.whole(), probabilities
                self._figures = figures
                state.seconds["checkpoint"] += time.perf_counter() - began
                self._note("checkpoint", began, time.perf_counter())
        training = sum(state.seconds[stage] for stage in ("input", "compute", "communication"))
        state.rates.append(len(self.rows) / training)
        state.wall_rates.append(len(self.rows) / self._wall())
        line = {"epoch": state.epoch, "step": state.step, "loss": state.loss / len(self.rows),
                "accuracy": state.right / len(self.rows), "images_per_s": state.rates[-1],
                "wall_images_per_s": state.wall_rates[-1], "wall_s": state.wall,
                "seconds": dict(state.seconds), "ranks": self._clock.over_ranks(self.comm),
                **{f"val_{name}": figure for name, figure in figures.items()}, **state.counts,
                "best": best}
        if self.settings.rate_schedule == "plateau":
            line["rate_factor"] = state.rate_factor
        lower = state.wait(best, self.settings)
        state.next_epoch()
        if self.run is not None:
            self._saver.now(partial(self.run.append, "metrics.jsonl", line))
            self._on_board(lambda board: board.epoch(line, probabilities,
                                                     self.data.labels[self.validation]))
            print(messages.epoch(line, self.limits.epochs), flush=True)
            if lower:
                print(messages.lower(self.settings, state.rate_factor), flush=True)
        if asked.save or not self.limits.checkpoint_seconds:
            self.save_checkpoint()
        elif self._model_due() and not self._saver.busy:
            self._saver.start(self._write_model())
        more = not self._is_over()
        return not (asked.stopped and more)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """With the averages of ``--ema`` in place of the weights. Collective."""
        if self.settings.ema:
            self.strategy.swap()
        yield
        if self.settings.ema:
            self.strategy.swap()

    def _wall(self) -> float:
        """The wall-clock seconds of this epoch up to now."""
        now = time.perf_counter()
        self.state.wall += now - self._wall_until
        self._wall_until = now
        return self.state.wall

    def _predict(self, rows: np.ndarray) -> tuple[Predicted, Done]:
        """What the network says of ``rows``, and what the ranks were asked for; on all ranks."""
        predicted, wishes = predict(self.comm, self.strategy, self.data, rows, self._wishes)
        return predicted, Done(wishes=wishes)

    def save_checkpoint(self) -> None:
        """Write a checkpoint of the current state, unless there is one. Collective: rank 0 copies
        the state and writes it while all ranks continue.

        Raises:
            InputError: this or an earlier file could not be written; on all ranks.
        """
        began = time.perf_counter()
        self._saver.settle()
        watchdog.enter("saving a checkpoint")
        current = (self.state.epoch, self.state.rows_done)
        if self._saved_state == current:
            return
        self._divergence.check_weights(self.state.step, self.state.best_epoch)
        state = self.strategy.state()
        self._wall()
        if self.run is not None:
            meta = {"state": asdict(self.state), "settings": self.settings.as_dict(),
                    "data": self.data.header.attributes, "ranks": self.comm.size,
                    "tensors": len(state), "validated": self.validated is not None}
            arrays = state + self.best + ([] if self.validated is None else [self.validated])
            write = partial(checkpoint.save, self.run.path / "checkpoints", self.state.step,
                            arrays, meta, self.limits.keep)
            self._saver.start(write, *([self._write_model()] if self._model_due() else []))
        self._saved, self._saved_state = time.monotonic(), current
        self.state.seconds["checkpoint"] += time.perf_counter() - began
        self._note("checkpoint", began, time.perf_counter())

    def restore(self, loaded: checkpoint.Loaded | None) -> None:
        """Continue from a checkpoint, or with None start from rank 0's weights. Collective; other
        ranks pass None."""
        mpi.meet(self.comm, "setting the initial weights", shared=True)
        meta = self.comm.bcast(loaded and loaded[1])
        if meta is not None:
            self.state = State(**meta["state"])
            self._saved_state = (self.state.epoch, self.state.rows_done)
            self.best = loaded[0][meta["tensors"]:] if loaded else []
            self.validated = self.best.pop() if self.best and meta.get("validated") else None
        self.strategy.load(loaded and loaded[0][:meta["tensors"]])

    def _keep_best(self) -> None:
        """Have the best weights and what is being written on the disk. Collective."""
        if self._model_due():
            self._saver.start(self._write_model())
        self._saver.settle()

    def _model_due(self) -> bool:
        """Whether this rank has better weights than those in ``model.keras``."""
        return self.run is not None and bool(self.best) \
            and self._model_epoch != self.state.best_epoch

    def _write_model(self) -> Callable[[], None]:
        """What writes ``model.keras`` with the best weights, on rank 0."""
        self._model_epoch = epoch = self.state.best_epoch
        best, validated = self.best, self.validated
        path = Path(self.run.path if self.run else "") / "model.keras"
        return lambda: save(self.strategy.keras_model(best), provenance.card(
            self.data, self.validation, validated, epoch, self._trained_on(),
            title(self.settings.network), start.summary(path.parent),
            self.state.mask_threshold), path)

    def _summary(self) -> dict[str, Any]:
        state, weights = self.state, self.strategy.class_weights
        parts: dict[str, dict[str, Any]] = {}
        self.probabilities = {}
        for part in ("validation", "test"):
            rows = self.data.rows(part)
            if not len(rows):
                continue
            if part == "validation" and self._figures is not None and self.validated is not None:
                # of these very weights, and at their own threshold of maps
                parts[part], self.probabilities[part] = self._figures, self.validated
            else:
                found, _ = self._predict(rows)
                parts[part] = found.figures(self.data.labels[rows], state.mask_threshold)
                self.probabilities[part] = found.probabilities
        return {"strategy": self.strategy.name, "ranks": self.comm.size,
                "feature": self.settings.feature, "epochs": state.epoch - 1,
                "epochs_before": self._before, "steps": state.step,
                "stopped_early": state.epoch <= self.limits.epochs,
                "best_epoch": state.best_epoch, "monitor": self.settings.monitor,
                "train_rows": len(self.rows), "size": self.data.size,
                **({"class_weights": weights} if weights else {}),
                "images_per_s": float(np.median(state.rates)),
                "wall_images_per_s": float(np.median(state.wall_rates or [np.nan])),
                **parts}


def dropout_seed(seed: int, number: int, rank: int) -> np.ndarray:
    """Two int32 that depend only on the seed, the number of the micro-batch, and the rank."""
    return np.random.SeedSequence([seed, number, rank]).generate_state(2).astype(np.int32)


def _ignore(*_: Any, **__: Any) -> None:
    """Take the place of ``Timeline.add`` without a timeline."""
