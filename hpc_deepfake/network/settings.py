"""The options that determine what a training run computes, apart from its data."""

from __future__ import annotations

import math
from argparse import Namespace
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
SCALINGS = ("none", "linear", "sqrt")
CLASS_WEIGHTS = ("none", "balanced")
PRECISIONS = ("float32", "bfloat16", "float64")


@dataclass(frozen=True)
class Settings:
    """The options of ``train`` with the same names; a resumed run must have the same values."""

    feature: str = "ela"
    batch_size: int = 32
    accumulate: int = 1
    optimizer: str = "adam"
    learning_rate: float = 1e-4
    decay: float = 1e-6
    scale_rate: str = "none"
    warmup_steps: int = 0
    clip_norm: float = 0.0
    dropout: float = 0.5
    label_smoothing: float = 0.0
    class_weight: str = "none"
    sync_bn: bool = False
    precision: str = "float32"
    compression: str = "none"
    monitor: str = "val_loss"
    seed: int = 0
    rows: int = 0

    @classmethod
    def of(cls, options: Namespace) -> Settings:
        """The settings of a command line."""
        return from_options(cls, options)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def rate_scale(self, ranks: int) -> float | None:
        """Factor of the learning rate for a number of ranks; None: it is not scaled."""
        return {"none": None, "linear": float(ranks), "sqrt": math.sqrt(ranks)}[self.scale_rate]


def from_options(kind: type[T], options: Namespace) -> T:
    """An instance of the dataclass ``kind`` with the options that have the names of its fields."""
    return kind(**{field.name: getattr(options, field.name) for field in fields(kind)})
