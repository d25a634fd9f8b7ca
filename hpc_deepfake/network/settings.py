"""The options that determine what a training run computes, apart from its data."""

from __future__ import annotations

import math
from argparse import Namespace
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from hpc_deepfake.core.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
OPTIMIZERS = ("adam", "adamw", "sgd", "lamb")
RATE_SCHEDULES = ("inverse-time", "cosine", "step", "plateau")
SCALINGS = ("none", "linear", "sqrt")
CLASS_WEIGHTS = ("none", "balanced")
MONITORS = ("val_loss", "val_auc", "val_accuracy", "val_pixel_auc", "val_pixel_f1")
PRECISIONS = ("float32", "tf32", "bfloat16", "float64")


@dataclass(frozen=True)
class Settings:
    """The options of ``train`` with the same names; a resumed run must have the same values."""

    feature: str = "ela"
    network: str = "table"
    batch_size: int = 32
    accumulate: int = 1
    optimizer: str = "adam"
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float | None = None
    learning_rate: float = 1e-4
    rate_schedule: str = "inverse-time"
    rate_epochs: int | None = None
    rate_factor: float = 0.1
    decay: float = 1e-6
    scale_rate: str = "none"
    warmup_steps: int = 0
    clip_norm: float = 0.0
    dropout: float | None = 0.5
    label_smoothing: float = 0.0
    class_weight: str = "none"
    ema: float = 0.0
    sync_bn: bool = False
    precision: str = "float32"
    compression: str = "none"
    monitor: str = "val_loss"
    augment: str = "none"
    freeze: str = ""
    seed: int = 0
    rows: int = 0

    @classmethod
    def of(cls, options: Namespace) -> Settings:
        """The settings of a command line."""
        settings = from_options(cls, options)
        if settings.rate_schedule == "cosine" and settings.rate_epochs is None:
            settings = replace(settings, rate_epochs=options.epochs)
        if settings.network == "table" and settings.dropout is None:
            return replace(settings, dropout=cls.dropout)
        return settings

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def soft_labels(self) -> bool:
        """Whether labels of training rows are shares of "tampered", float32, not classes."""
        return "mixup" in self.augment

    @property
    def decay_of_weights(self) -> float:
        """``--weight-decay``, or the optimizer's own: that of PyTorch's AdamW and of LAMB's paper.
        """
        if self.weight_decay is None:
            return 0.01 if self.optimizer in ("adamw", "lamb") else 0.0
        return self.weight_decay

    @property
    def epochs_of_rate(self) -> int:
        """``--rate-epochs``, or the schedule's own."""
        return self.rate_epochs or {"step": 10, "plateau": 2}.get(self.rate_schedule, 0)

    @property
    def copies(self) -> int:
        """How many copies of the trained weights the optimizer's state has, averages included."""
        own = bool(self.momentum) if self.optimizer == "sgd" else 2
        return own + bool(self.ema)

    def check(self, epochs: int, patience: int) -> None:
        """Raise InputError, the same on all ranks, for options of the optimizer and its learning
        rate that would have no effect.

        Args:
            epochs: maximum number.
            patience: of early stopping; 0: none.
        """
        def refuse(why: str) -> NoReturn:
            raise InputError(why, everywhere=True)

        kind, every, default = self.rate_schedule, self.epochs_of_rate, type(self)()
        if self.momentum and self.optimizer != "sgd":
            refuse(f"--momentum {self.momentum:g}: {self.optimizer} has its own; leave it out, or "
                   "use --optimizer sgd")
        if self.nesterov and not self.momentum:
            refuse("--nesterov is a form of momentum: give --optimizer sgd and --momentum 0.9 too, "
                   "or leave it out")
        if self.weight_decay and self.optimizer == "adam":
            refuse(f"--weight-decay {self.weight_decay:g}: Adam with weight decay is --optimizer "
                   "adamw; use that, or leave it out")
        if self.decay != default.decay and kind != "inverse-time":
            refuse(f"--decay {self.decay:g} is for --rate-schedule inverse-time, not {kind}: leave "
                   "one of them out")
        if self.rate_epochs and kind == "inverse-time":
            refuse(f"--rate-epochs {self.rate_epochs} needs --rate-schedule cosine, step or "
                   "plateau: give one of them, or leave it out")
        if self.rate_factor != default.rate_factor and kind not in ("step", "plateau"):
            refuse(f"--rate-factor {self.rate_factor:g} is for --rate-schedule step and plateau, "
                   f"not {kind}: leave it out")
        if kind == "cosine" and every < epochs:
            refuse(f"--rate-schedule cosine with --rate-epochs {every} has a learning rate of 0 "
                   f"before --epochs {epochs}: train for at most {every} epochs")
        if kind == "plateau" and 0 < patience <= every:
            refuse(f"--rate-schedule plateau lowers the learning rate after {every} epochs without "
                   f"improvement, when --patience {patience} has ended the training: give a larger "
                   "--patience, or a smaller --rate-epochs")

    def rate_scale(self, ranks: int) -> float | None:
        """Factor of the learning rate for a number of ranks; None: it is not scaled."""
        return {"none": None, "linear": float(ranks), "sqrt": math.sqrt(ranks)}[self.scale_rate]


@dataclass(frozen=True)
class Course:
    """Where a run is when a round of steps begins, for learning rates that follow epochs.

    Attributes:
        epochs: finished epochs.
        rows: rows of the current epoch that are done.
        step: number of the round's first step.
        per_epoch: rows of an epoch.
        per_step: rows of a step; the last one of an epoch may have fewer.
        factor: that ``--rate-schedule plateau`` has reached.
    """

    epochs: int
    rows: int
    step: int
    per_epoch: int
    per_step: int
    factor: float = 1.0


def from_options(kind: type[T], options: Namespace) -> T:
    """An instance of the dataclass ``kind`` with the options that have the names of its fields."""
    return kind(**{field.name: getattr(options, field.name) for field in fields(kind)})
