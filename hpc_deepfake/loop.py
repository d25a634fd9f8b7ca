"""The training loop of all strategies: epochs, validation, early stopping, metrics, progress."""

from __future__ import annotations

import math
import sys
import time
from argparse import Namespace
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc_deepfake import metrics
from hpc_deepfake.data import DataFile, epoch_order, prefetch, share
from hpc_deepfake.model import Card, save
from hpc_deepfake.rundir import RunDir
from preprocessing import mpi

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.strategies.sequential import Sequential

EVALUATION_BATCH = 64
MONITORS = {"val_loss": min, "val_auc": max, "val_accuracy": max}


class EarlyStopping:
    """Remembers the best epoch and says when there has been none for ``patience`` epochs.

    ``patience`` 0 never stops. All ranks decide on the same reduced value.
    """

    def __init__(self, monitor: str, patience: int) -> None:
        self.monitor, self.patience = monitor, patience
        self.best: float | None = None
        self.best_epoch = 0
        self.weights: list[np.ndarray] = []

    def better(self, value: float | None) -> bool:
        """Whether ``value`` beats the best so far; a value that isn't a number never does."""
        if value is None or not math.isfinite(value):
            return False
        return self.best is None or (value != self.best
                                     and MONITORS[self.monitor](value, self.best) == value)

    def over(self, epoch: int) -> bool:
        return bool(self.patience) and epoch - self.best_epoch >= self.patience


def train(comm: Comm, strategy: Sequential, data: DataFile, options: Namespace,
          run: RunDir | None) -> dict[str, Any]:
    """Train to the end; collective.

    The best weights are in the model afterwards, and in ``model.keras`` of the run.

    Args:
        run: on rank 0.

    Returns:
        The summary: best epoch, figures of the best weights, times.
    """
    rows, validation = data.rows("train"), data.rows("validation")
    card = Card(options.feature, data.header.parameters)
    stopping = EarlyStopping(options.monitor, options.patience)
    weights = strategy.weights.all
    step = epoch = 0
    rates = []
    start = time.perf_counter()
    for epoch in range(1, options.epochs + 1):
        trained = _epoch(comm, strategy, data, rows, options, epoch, step)
        step += trained.pop("steps")
        began = time.perf_counter()
        found = evaluate(comm, strategy, data, validation)
        trained["seconds"]["evaluate"] = time.perf_counter() - began
        value = found[options.monitor.removeprefix("val_")]
        best = stopping.better(value)
        if best:
            stopping.best, stopping.best_epoch = value, epoch
            stopping.weights = [variable.numpy() for variable in weights]
            if run is not None:
                save(strategy.model, card, run.path / "model.keras")
        rates.append(trained["images_per_s"])
        if run is not None:
            line = {"epoch": epoch, "step": step, **trained,
                    **{f"val_{name}": figure for name, figure in found.items()}, "best": best}
            run.append("metrics.jsonl", line)
            _say(_epoch_line(line, options.epochs))
        if stopping.over(epoch):
            break
    seconds = time.perf_counter() - start
    for variable, best_value in zip(weights, stopping.weights, strict=False):
        variable.assign(best_value)
    if run is not None and not stopping.weights:  # never a finite validation figure
        save(strategy.model, card, run.path / "model.keras")
    parts = {part: evaluate(comm, strategy, data, data.rows(part))
             for part in ("validation", "test") if len(data.rows(part))}
    return {"strategy": strategy.name, "ranks": comm.size, "feature": options.feature,
            "epochs": epoch, "steps": step, "stopped_early": epoch < options.epochs,
            "best_epoch": stopping.best_epoch, "monitor": options.monitor,
            "train_rows": len(rows), "seconds": seconds,
            "images_per_s": float(np.median(rates)), **parts}


def _epoch(comm: Comm, strategy: Sequential, data: DataFile, rows: np.ndarray,
           options: Namespace, epoch: int, first_step: int) -> dict[str, Any]:
    """One pass over the training rows; figures are of the whole, the same on all ranks."""
    order = epoch_order(rows, options.seed, epoch)
    size = options.batch_size * comm.size
    batches = np.split(order, range(size, len(order), size))
    shares = [share(batch, comm.rank, comm.size) for batch in batches]
    terminal = comm.rank == 0 and sys.stderr.isatty()
    results, waited = [], 0.0
    start = last = ready = time.perf_counter()
    for number, (pictures, labels) in enumerate(prefetch(data, shares)):
        waited += time.perf_counter() - ready
        step = first_step + number
        results.append(strategy.step(pictures, labels, len(batches[number]), step,
                                     dropout_seed(options.seed, step, comm.rank)))
        ready = time.perf_counter()
        if terminal and ready - last > 0.5:
            last = ready
            done = (number + 1) * size
            print(f"\r\033[Kepoch {epoch}  {min(done, len(order)):,} of {len(order):,} images  "
                  f"{done / (ready - start):,.0f}/s", end="", file=sys.stderr, flush=True)
    loss, right, exposed = np.sum([result.numpy() for result in results], axis=0).tolist()
    communication = exposed if math.isfinite(exposed) else None
    if terminal:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - start
    return {"steps": len(batches), "loss": loss / len(order), "accuracy": right / len(order),
            "images_per_s": len(order) / seconds,
            "seconds": {"train": seconds, "input": waited, "communication": communication,
                        "compute": seconds - waited - (communication or 0)}}


def dropout_seed(seed: int, step: int, rank: int) -> np.ndarray:
    """Two int32 that are a function of (seed, step, rank) alone."""
    return np.random.SeedSequence([seed, step, rank]).generate_state(2).astype(np.int32)


def evaluate(comm: Comm, strategy: Sequential, data: DataFile,
             rows: np.ndarray) -> dict[str, Any]:
    """Exact figures over ``rows``, each computed by one rank; the same on all; collective."""
    mine = share(rows, comm.rank, comm.size)
    batches = np.split(mine, range(EVALUATION_BATCH, len(mine), EVALUATION_BATCH))
    scores = [strategy.probabilities(pictures) for pictures, _ in prefetch(data, batches)
              if len(pictures)]
    local = np.concatenate([np.empty(0, np.float32), *scores])
    return metrics.evaluate(mpi.concatenate(comm, local), data.labels[rows])


def _epoch_line(line: dict[str, Any], epochs: int) -> str:
    def text(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    return (f"epoch {line['epoch']:>{len(str(epochs))}}/{epochs}"
            f"  loss {line['loss']:.4f}  accuracy {line['accuracy']:.1%}"
            f"  | validation loss {text(line['val_loss'], '.4f')}"
            f"  accuracy {text(line['val_accuracy'], '.1%')}  AUC {text(line['val_auc'], '.3f')}"
            f"  | {line['images_per_s']:,.0f} images/s"
            f"{'  best' if line['best'] else ''}")


def _say(text: str) -> None:
    print(text, flush=True)
