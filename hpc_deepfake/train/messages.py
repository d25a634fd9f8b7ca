"""What a training prints: its first line, a line for each epoch, and the result."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc_deepfake import metrics
from hpc_deepfake.core.text import number, percent, plural
from hpc_deepfake.network import blocks, registry
from preprocessing.ela import SIZE

if TYPE_CHECKING:
    from hpc_deepfake.data.rows import DataFile
    from hpc_deepfake.network.device import Device
    from hpc_deepfake.network.settings import Settings


def headline(ranks: int, shares: int, options: Namespace, settings: Settings, data: DataFile,
             device: Device) -> str:
    """The first line: data, network, strategy, ranks, device and batch size."""
    counts = [len(data.rows(part)) for part in ("train", "validation", "test")]
    counts[0] = settings.rows or counts[0]
    rows = f"{counts[0]:,} train + {counts[1]:,} validation" \
           + (f" + {counts[2]:,} test" if counts[2] else "") + " images" \
           + f" of {data.size} × {data.size} pixels" * (data.size != SIZE)
    share = data.labels[data.rows("validation")].mean()
    if options.strategy == "async":
        ranks_text = f"{plural(ranks - options.servers, 'worker')} with " \
                     f"{plural(options.servers, 'server')}"
        batch = "batch of an update"
    else:
        ranks_text = f"{f'{options.mesh}: ' if options.mesh else ''}{plural(ranks, 'rank')}"
        batch = "global batch"
    source = options.data or "random pictures"
    network = "" if settings.network == registry.DEFAULT else \
        f"{registry.title(settings.network)} by "
    return (f"{options.feature} of {source}: {rows} (majority class "
            f"{max(share, 1 - share):.1%}); {network}{options.strategy} on {ranks_text}, "
            f"{device.kind} ({device.name}{_kind(settings, device)}), "
            f"{plural(device.threads, 'thread')} each; {batch} "
            f"{options.batch_size * shares * options.accumulate}")


def _kind(settings: Settings, device: Device) -> str:
    """What is unusual about how a GPU computes."""
    return ", tf32" * (settings.precision == "tf32") \
        + ", not deterministic" * (not device.deterministic)


def determinism(begun: dict[str, Any], options: Namespace, device: Device) -> str | None:
    """Of a resumed run, that its steps on a GPU are deterministic only before or after this start;
    None if nothing has changed. ``begun``: the options of its earlier start."""
    was = begun.get("deterministic", True)
    if not options.resume or not device.gpu or was == options.deterministic:
        return None
    return ("note: this run was deterministic until now, and is not from here on: resumed with "
            "--deterministic it would continue bit for bit" if was else
            "note: this run was started with --no-deterministic, and is deterministic from here on")


def compiled(environment: dict[str, Any], options: Namespace, settings: Settings, device: Device,
             vectors: str) -> str | None:
    """That a run computes its steps with TensorFlow's operations though it could be faster, or, if
    it was resumed, that they were others before; None if there is nothing to say.

    Args:
        environment: of the earlier start; empty if this is the first one.
        options: of the command line.
        settings: of the training.
        device: of this rank.
        vectors: as of ``blocks.vectors``.
    """
    if device.gpu or settings.network != "table":
        return None
    ranks = environment.get("ranks")
    if options.resume and ranks and bool(ranks[0].get("compiled")) != bool(vectors):
        how = "compiled operations", "TensorFlow's"
        before, now = how if not vectors else how[::-1]
        return (f"note: this run computed with {before} until now, and computes with {now} from "
                "here on: its sums are rounded differently than those of a run in one piece"
                + " (--no-compiled would keep them)" * bool(vectors))
    if options.compiled and blocks.missing() and options.strategy != "mesh" \
            and settings.precision in ("float32", "bfloat16"):
        return f"note: steps take longer without the compiled operations: {blocks.missing()}"
    return None


def result(summary: dict[str, Any], run: Path) -> str:
    """The result of a finished run."""
    epochs, new = plural(summary["epochs"], "epoch"), summary["epochs"] - summary["epochs_before"]
    seconds = f"in {summary['seconds']:.1f} s"
    done = f"{epochs} {seconds}" if new == summary["epochs"] else \
        f"{epochs}, {new:,} of them now, {seconds}" if new else f"{epochs}, all done before"
    lines = [f"{done}, {_rates(summary)}; best: epoch {summary['best_epoch']} "
             f"by {summary['monitor']}" + (", stopped early" * summary["stopped_early"])]
    for part in ("validation", "test"):
        if part in summary:
            note = "" if part == "test" else \
                " (it also chose the epoch: a fresh test part would score a little lower)"
            lines += [f"{part} part, {summary[part]['rows']:,} images{note}:",
                      metrics.table(summary[part]), *_pixels(summary[part])]
    return "\n".join([*lines, f"model: {run / 'model.keras'}"])


def _pixels(figures: dict[str, Any]) -> list[str]:
    """Of a network that says where a picture was changed, how well it does."""
    if "pixel_auc" not in figures:
        return []
    return [f"pixels               ROC-AUC {number(figures['pixel_auc'])}, F1 "
            f"{percent(figures['pixel_f1'])}, IoU {percent(figures['pixel_iou'])}: means over "
            "tampered pictures"]


def same_answer(summary: dict[str, Any]) -> list[str]:
    """A warning if the best model predicts one class for all pictures of a part."""
    for part in ("validation", "test"):
        figures = summary.get(part) or {}
        counts = [figures.get(name) or 0 for name in ("tp", "fp", "tn", "fn")]
        for answer, other in (("tampered", counts[2:]), ("authentic", counts[:2])):
            if sum(counts) > 1 and not any(other):
                return [f"warning: the model predicts {answer} for each of the {sum(counts):,} "
                        f"pictures of the {part} part, so it tells no more than the majority "
                        "class; train for more epochs, or with another --learning-rate, and look "
                        "at the data with hpc-deepfake audit"]
    return []


def epoch(line: dict[str, Any], epochs: int) -> str:
    """The line of a finished epoch.

    Args:
        line: as in ``metrics.jsonl``.
        epochs: maximum number of epochs.
    """
    pixels = f", of pixels {number(line['val_pixel_auc'])}" if "val_pixel_auc" in line else ""
    return (f"epoch {line['epoch']:>{len(str(epochs))}}/{epochs}"
            f"  loss {line['loss']:.4f}  accuracy {line['accuracy']:.1%}"
            f"  | validation loss {number(line['val_loss'], '.4f')}"
            f"  accuracy {percent(line['val_accuracy'])}  AUC {number(line['val_auc'])}{pixels}"
            f"  | {_rates(line)}"
            f"{'  best' if line['best'] else ''}")


def lower(settings: Settings, factor: float) -> str:
    """Of a learning rate that ``--rate-schedule plateau`` has lowered to ``factor`` of its own."""
    return (f"learning rate now {settings.learning_rate * factor:.3g}: "
            f"{plural(settings.epochs_of_rate, 'epoch')} without a better {settings.monitor}")


def _rates(record: dict[str, Any]) -> str:
    """Of training alone, and by the wall clock."""
    return (f"{record['images_per_s']:,.0f} images/s, wall clock "
            f"{number(record['wall_images_per_s'], ',.0f')}")


def stopped(signal: str | None, epoch: int, step: int, command: str) -> str:
    """Of a run stopped by ``signal``, or by one that another rank received (None); ``command``
    resumes it."""
    return (f"stopped by {signal or 'a signal to another rank'} in epoch {epoch} after step "
            f"{step}; a checkpoint is written. To resume:\n  {command}")


def resuming(argv: Sequence[str] | None, ranks: int, run: Path) -> str:
    """The shell command that resumes a run.

    Args:
        argv: its arguments; None: those of this process.
        ranks: number of ranks.
        run: the run directory.
    """
    words, kept = list(sys.argv[1:] if argv is None else argv), []
    while words:
        word = words.pop(0)
        if word == "--run":
            words = words[1:]
        elif word != "--resume" and not word.startswith("--run="):
            kept.append(word)
    launcher = ["mpirun", "-np", str(ranks)] if ranks > 1 else []
    return shlex.join([*launcher, "python", "-m", "hpc_deepfake.train", *kept, "--run", str(run),
                       "--resume"])
