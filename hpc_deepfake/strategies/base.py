"""What the training loop asks of a strategy, answered for ranks that all hold everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from hpc_deepfake.data.rows import prefetch

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    from mpi4py.MPI import Comm

T, R = TypeVar("T"), TypeVar("R")
Arrays = list[np.ndarray]

# What a rank may wish for with a step, added up over the ranks: that all stop; that rank 0 saves
# (only rank 0 wishes so, and there are fewer ranks than that).
STOP, SAVE = 1, 1 << 20


class Batch(NamedTuple):
    """This rank's share of a (micro-)batch: uint8 (n, 128, 128, 3) and (n); n may be 0."""

    pictures: np.ndarray
    labels: np.ndarray
    seed: np.ndarray  # int32 (2), of the dropout mask


class Done(NamedTuple):
    """What was done, the same on all ranks.

    Attributes:
        steps, rows: optimizer steps, and rows of all ranks in them. loss, right: sums over those
        rows. wishes: sum over the ranks. waited: seconds that this rank waited for others within.
        counts: further figures by name and kind, to be added up over an epoch.
    """

    steps: int = 0
    rows: int = 0
    loss: float = 0.0
    right: float = 0.0
    wishes: int = 0
    waited: float = 0.0
    counts: dict[str, dict[str, float]] = {}  # noqa: RUF012 (never changed)

    @property
    def stopped(self) -> bool:
        return bool(self.wishes % SAVE)

    @property
    def save(self) -> bool:
        return self.wishes >= SAVE


class Strategy:
    """The loop runs on every rank and calls these at the same places; "collective" means that a
    strategy may communicate there.

    Attributes:
        model: the Keras model; its weights are current after ``fill_model``.
        share: index and number of the data parallel shares that training batches are dealt to;
            ranks of one model parallel group have the same. evaluation_share: of evaluation.
        speaks: whether this rank's probabilities count; speakers are ordered as their shares.
        lockstep: whether all ranks take the same steps. idle: seconds that ``deal`` waited for
            other ranks before it gave the last batch.
        wishes: set by the loop; gives this rank's wishes where no step asks for them. overdue:
            set by the loop; to be told of a rank that this one has waited for, and how long.
    """

    name = ""
    lockstep = True
    speaks = True
    idle = 0.0

    model: keras.Model | None
    variables: Sequence[tf.Variable] = ()  # the model's weights, in the order of a checkpoint
    slots: Sequence[tf.Variable] = ()  # of the optimizer

    def __init__(self, comm: Comm | None = None) -> None:
        self.comm = comm
        self.wishes: Callable[[], int] = lambda: 0
        self.overdue: Callable[[int, float], None] = lambda rank, seconds: None
        self.share = self.evaluation_share = (comm.rank, comm.size) if comm else (0, 1)

    @classmethod
    def wants_model(cls, rank: int) -> bool:
        """Whether this rank must be given the whole model to begin with; rank 0 always is."""
        return True

    def deal(self, items: Sequence[T], load: Callable[[T], R],
             first: int) -> Iterator[tuple[int, R | None]]:
        """Numbers of the items that fall to this rank, in turn, each with what ``load`` gives for
        it; None if there is only progress to be shown. The loop may leave early.

        Args:
            items: this share's, one for each step. first: number of the first step.
        """
        return enumerate(prefetch(load, items))

    def step(self, batches: Sequence[Batch], rows: int, step: int, wishes: int) -> Done:
        """One optimizer step; collective.

        Args:
            batches: the step's micro-batches. rows: of all shares and micro-batches together.
            step: from 0. wishes: of this rank.
        """
        raise NotImplementedError

    def settle(self, spent: dict[str, float]) -> tuple[Done, dict[str, float]]:
        """After the last step before something else: what ``step`` hasn't told yet, and the
        seconds of the stages that speak for all ranks, given this rank's. Collective."""
        return Done(), spent

    def probabilities(self, pictures: np.ndarray) -> np.ndarray:
        """Of "tampered", float (n), for uint8 (n, 128, 128, 3); collective in the share."""
        raise NotImplementedError

    def snapshot(self) -> Arrays:
        """This rank's part of the weights, copied."""
        return [variable.numpy() for variable in self.variables]

    def restore(self, snapshot: Arrays) -> None:
        """Set the weights to a snapshot; collective."""
        for variable, value in zip(self.variables, snapshot, strict=True):
            variable.assign(value)

    def whole(self, snapshot: Arrays) -> Arrays:
        """On rank 0 the whole weights of the ranks' snapshots; collective."""
        return snapshot

    def part(self, whole: Arrays | None) -> Arrays:
        """This rank's snapshot of whole weights, which rank 0 gives; collective."""
        return self.comm.bcast(whole) if self.comm else whole

    def state(self) -> Arrays:
        """On rank 0 whole weights and optimizer state, as in a checkpoint; collective."""
        return [variable.numpy() for variable in (*self.variables, *self.slots)]

    def load(self, state: Arrays | None) -> None:
        """Take up what ``state`` gave, or without any the weights that rank 0 has; rank 0 gives
        it; collective."""
        if state is not None:
            for variable, value in zip((*self.variables, *self.slots), state, strict=True):
                variable.assign(value)
        self.broadcast()

    def broadcast(self) -> None:
        """Give all ranks rank 0's state; collective."""

    def fill_model(self) -> None:
        """Bring rank 0's Keras model up to date; collective."""
