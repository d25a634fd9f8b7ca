"""What decides a training run's course, apart from its data, and how ranks share its work."""

from __future__ import annotations

import math
from argparse import Namespace
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
SCALINGS = ("none", "linear", "sqrt")
PRECISIONS = ("float32", "bfloat16", "float64")


@dataclass(frozen=True)
class Settings:
    """The options of ``train`` of the same names; a resumed run must have the same."""

    feature: str = "ela"
    batch_size: int = 32
    accumulate: int = 1
    optimizer: str = "adam"
    learning_rate: float = 1e-4
    decay: float = 1e-6
    scale_rate: str = "none"
    warmup_steps: int = 0
    dropout: float = 0.5
    sync_bn: bool = False
    precision: str = "float32"
    compression: str = "none"
    monitor: str = "val_loss"
    seed: int = 0
    rows: int = 0

    @classmethod
    def of(cls, options: Namespace) -> Settings:
        """Those of a command line."""
        return _of(cls, options)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def rate_scale(self, ranks: int) -> float:
        """Factor on the learning rate for so many ranks."""
        return {"none": 1.0, "linear": float(ranks), "sqrt": math.sqrt(ranks)}[self.scale_rate]


@dataclass(frozen=True)
class Layout:
    """How the ranks share the work: options of ``train`` of the same names, which a resumed run
    may change.

    Attributes:
        servers: parameter servers of asynchronous training. max_staleness: bound on a gradient's
        age in updates, None for any. staleness_rate: divide the learning rate by that age.
        sync_every: steps between two averages of local SGD.
        shard_group: ranks that hold the large kernel together in ``hybrid``; 0: those of a node.
        mesh, stages, schedule, tensor_layout: of ``--strategy mesh``. trace: file for its trace.
    """

    servers: int = 1
    max_staleness: int | None = None
    staleness_rate: bool = False
    sync_every: int = 8
    shard_group: int = 0
    mesh: str | None = None
    stages: str | None = None
    schedule: str = "1f1b"
    tensor_layout: str = "row"
    trace: Path | None = None

    @classmethod
    def of(cls, options: Namespace) -> Layout:
        """That of a command line."""
        return _of(cls, options)


def _of(kind: type[T], options: Namespace) -> T:
    return kind(**{field.name: getattr(options, field.name) for field in fields(kind)})
