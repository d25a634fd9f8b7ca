"""What a training prints: its first line, a line for each epoch, and the result."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc_deepfake import metrics

if TYPE_CHECKING:
    from hpc_deepfake.data.rows import DataFile
    from hpc_deepfake.network.device import Device
    from hpc_deepfake.network.settings import Settings


def headline(ranks: int, shares: int, options: Namespace, settings: Settings, data: DataFile,
              device: Device) -> str:
    counts = [len(data.rows(part)) for part in ("train", "validation", "test")]
    counts[0] = settings.rows or counts[0]
    rows = f"{counts[0]:,} train + {counts[1]:,} validation" \
           + (f" + {counts[2]:,} test" if counts[2] else "")
    share = data.labels[data.rows("validation")].mean()
    who = f"{f'{options.mesh}: ' * bool(options.mesh)}{ranks} rank{'s' * (ranks > 1)}"
    if options.strategy == "async":
        workers = ranks - options.servers
        who = f"{workers} worker{'s' * (workers > 1)} with {options.servers} " \
              f"server{'s' * (options.servers > 1)}"
    batch = "batch of an update" if options.strategy == "async" else "global batch"
    source = options.data or "random pictures"
    return (f"{options.feature} of {source}: {rows} images (majority class "
            f"{max(share, 1 - share):.1%}); {options.strategy} on {who}, "
            f"{device.kind} ({device.name}), {device.threads} "
            f"thread{'s' * (device.threads > 1)} each; {batch} "
            f"{options.batch_size * shares * options.accumulate}")


def result(summary: dict[str, Any], path: Path) -> str:
    """Of a finished run."""
    lines = [f"{summary['epochs']} epochs in {summary['seconds']:.1f} s, "
             f"{summary['images_per_s']:,.0f} images/s; best: epoch {summary['best_epoch']} "
             f"by {summary['monitor']}" + (", stopped early" * summary["stopped_early"])]
    for part in ("validation", "test"):
        if part in summary:
            note = "" if part == "test" else \
                " (it also chose the epoch: a fresh test part would score a little lower)"
            lines += [f"{part} part, {summary[part]['rows']:,} images{note}:",
                      metrics.table(summary[part])]
    return "\n".join([*lines, f"model: {path / 'model.keras'}"])


def epoch(line: dict[str, Any], epochs: int) -> str:
    """Of a finished epoch: ``line`` as in ``metrics.jsonl``."""
    def text(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    return (f"epoch {line['epoch']:>{len(str(epochs))}}/{epochs}"
            f"  loss {line['loss']:.4f}  accuracy {line['accuracy']:.1%}"
            f"  | validation loss {text(line['val_loss'], '.4f')}"
            f"  accuracy {text(line['val_accuracy'], '.1%')}  AUC {text(line['val_auc'], '.3f')}"
            f"  | {line['images_per_s']:,.0f} images/s"
            f"{'  best' if line['best'] else ''}")


def stopped(signal: str | None, epoch: int, step: int, run: Path) -> str:
    """Of a run that was told to stop: by ``signal``, or by one that another rank received."""
    return (f"stopped by {signal or 'a signal to another rank'} in epoch {epoch} after step "
            f"{step}; a checkpoint is written. To resume: --run {run} --resume")
