"""What the training loop calls of a strategy, implemented for ranks that all hold everything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import numpy as np

from hpc_deepfake.core.mpi import wait
from hpc_deepfake.data.rows import AHEAD, prefetch

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    from mpi4py.MPI import Comm

    from hpc_deepfake.data.augment import Rows
    from hpc_deepfake.network.optimizer import Optimizer
    from hpc_deepfake.network.settings import Course, Settings
    from hpc_deepfake.strategies.layout import Layout

T = TypeVar("T")
R = TypeVar("R")
Arrays = list[np.ndarray]

# What a rank may request with a step, added up over the ranks: that all ranks stop; that rank 0
# saves (only rank 0 requests that, and there are fewer than 2**20 ranks); that the training ends,
# because this rank's numbers are not finite. Float32 holds the first two exactly beside each other;
# beside the third, which may be added up many times, they no longer matter.
STOP, SAVE, DIVERGED = 1, 1 << 20, 1 << 22


class Batch(NamedTuple):
    """This rank's share of a batch or micro-batch, of n rows; n may be 0.

    Attributes:
        pictures: uint8 (n, size, size, channels).
        labels: uint8 (n), or float32 (n), the share of tampered where rows are mixed.
        seed: int32 (2), of everything random in the network.
        masks: uint8 (n, size, size), of values as in ``preprocessing.mask``; None: the network has
            no map.
    """

    pictures: np.ndarray
    labels: np.ndarray
    seed: np.ndarray
    masks: np.ndarray | None = None


class Done(NamedTuple):
    """What was done, the same on all ranks.

    Attributes:
        steps: optimizer steps.
        rows: rows of all ranks in these steps.
        loss: sum over these rows.
        right: correct classifications among them.
        wishes: sum of the ranks' requests, ``STOP``, ``SAVE`` and ``DIVERGED``.
        waited: seconds within the steps that this rank waited for others; NaN if unknown.
        counts: more figures by name and kind, to be added up over an epoch.
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
        """Whether a rank requested to stop."""
        return bool(self.wishes % SAVE)

    @property
    def save(self) -> bool:
        """Whether rank 0 requested a checkpoint."""
        return self.wishes >= SAVE

    @property
    def diverged(self) -> bool:
        """Whether a rank's loss, gradients or batch statistics were not finite."""
        return self.wishes >= DIVERGED


class Judged(NamedTuple):
    """What the network says of n pictures.

    Attributes:
        probabilities: of tampered, float (n).
        maps: uint8 (n, size, size), as of ``maps.quantised``; None: not asked for.
    """

    probabilities: np.ndarray
    maps: np.ndarray | None = None


class Strategy:
    """How the ranks work together; the loop calls these methods on every rank at the same points.

    "Collective" means that a strategy may communicate in a method.

    Attributes:
        name: as in ``--strategy``.
        model: the Keras model that this rank was given, as far as it needs one.
        variables: the weights of this rank, in the order of a checkpoint.
        optimizer: updates them; None where there is none.
        slots: the optimizer's state for them.
        share: index and number of the data parallel shares that training batches are dealt to;
            ranks of the same model parallel group have the same share.
        evaluation_share: the same for evaluation.
        speaks: whether this rank's probabilities count; such ranks are ordered as their shares.
        lockstep: whether all ranks take the same steps.
        locates: whether the network says where: then batches have masks.
        idle: seconds that ``deal`` waited for other ranks before it yielded the last batch.
        loaders: threads that load batches.
        class_weights: of authentic and tampered rows in the loss, set before the first step; None:
            1 each.
        wishes: set by the loop; returns this rank's requests between steps.
        diverged_at: first step in which this rank's own numbers, before any reduction, were not
            finite; None: none so far.
    """

    name = ""
    lockstep = True
    locates = False
    speaks = True
    idle = 0.0
    loaders = 1
    diverged_at: int | None = None
    class_weights: tuple[float, float] | None = None
    _spare: keras.Model | None = None  # not trained: for files

    comm: Comm | None
    model: keras.Model | None
    optimizer: Optimizer | None = None
    variables: Sequence[tf.Variable] = ()
    slots: Sequence[tf.Variable] = ()

    def __init__(self, comm: Comm | None = None) -> None:
        self.comm = comm
        self.wishes: Callable[[], int] = lambda: 0
        self.share = self.evaluation_share = (comm.rank, comm.size) if comm else (0, 1)

    @classmethod
    def wants_model(cls, rank: int) -> bool:
        """Whether this rank must be given the whole model at the start; rank 0 always is."""
        return True

    def begin(self, course: Course) -> None:
        """Learn where the run is, before each round of steps, for the learning rate."""
        if self.optimizer is not None:
            self.optimizer.schedule.begin(course)

    def swap(self) -> None:
        """Exchange the trained weights and their averages of ``--ema``, for evaluation, and back
        again. Collective."""
        if self.optimizer is not None:
            self.optimizer.swap()

    def deal(self, items: Sequence[T], load: Callable[[T], R],
             first: int) -> Iterator[tuple[int, R | None]]:
        """Yield the steps that this rank takes: their numbers and loaded items.

        In place of an item None means that there is only progress to show. The caller may leave
        early.

        Args:
            items: this share's, one per step.
            load: loads an item.
            first: number of the first step.
        """
        return enumerate(prefetch(load, items, ahead=AHEAD, threads=self.loaders))

    def placed(self, rows: Rows) -> Rows:
        """Rows of a batch where the step wants them, such as in a GPU's memory; called by the
        threads that load them."""
        return rows

    def launch(self, batches: Sequence[Batch], rows: int, step: int, wishes: int) -> Done | None:
        """Begin one optimizer step; collective, as ``step``.

        Returns:
            What the oldest step did that wasn't reported yet, which may be the one before; None:
            that will be known later.
        """
        return self.step(batches, rows, step, wishes)

    def landed(self) -> Done | None:
        """What the last step that was launched did, once it is done; None if it was reported."""
        return None

    def step(self, batches: Sequence[Batch], rows: int, step: int, wishes: int) -> Done:
        """Take one optimizer step and wait for it; collective.

        Args:
            batches: the step's micro-batches.
            rows: number of rows in all shares and micro-batches together.
            step: number of the step, from 0.
            wishes: requests of this rank.
        """
        raise NotImplementedError

    def settle(self, spent: dict[str, float]) -> tuple[Done, dict[str, float]]:
        """Finish a round of steps; collective.

        Args:
            spent: this rank's seconds by stage.

        Returns:
            What no step has reported, and the seconds by stage that represent all ranks.
        """
        return Done(), spent

    def probabilities(self, pictures: np.ndarray) -> np.ndarray:
        """Probabilities of tampered, float (n), for uint8 (n, size, size, channels); collective
        among the ranks of the share."""
        return self.judged(pictures)().probabilities

    def located(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``probabilities``, and the maps of a network that says where, uint8 (n, size, size), as
        of ``maps.quantised``."""
        probabilities, found = self.judged(pictures, where=True)()
        assert found is not None
        return probabilities, found

    def judged(self, pictures: np.ndarray, where: bool = False) -> Callable[[], Judged]:
        """Begin to compute ``probabilities``, or with ``where`` what ``located`` returns.

        Returns:
            What waits for the result; to be called in the order of the batches, collectively.
        """
        found = Judged(self.probabilities(pictures))
        return lambda: found

    def whole(self) -> Arrays:
        """On rank 0, a copy of the whole weights; nothing elsewhere. Collective."""
        return self._copies(self.variables)

    def restore(self, whole: Arrays) -> None:
        """Set the weights to whole ones, which rank 0 passes; collective."""
        values = iter(whole)
        for variable in self.variables:
            value = next(values, None)
            if value is None:
                value = np.empty(variable.shape, variable.dtype.as_numpy_dtype)
            if self.comm is not None:
                value = np.ascontiguousarray(value)  # kept: mpi4py holds no reference
                wait(self.comm.Ibcast(value))
            variable.assign(value)

    def _copies(self, variables: Iterable[tf.Variable]) -> Arrays:
        """The variables' values on rank 0, nothing on the others, which need no copy."""
        return [] if self.comm is not None and self.comm.rank else \
            [variable.numpy() for variable in variables]

    def finite(self) -> bool:
        """Whether all numbers of this rank's weights and optimizer are finite."""
        return all(np.isfinite(variable.numpy()).all()
                   for variable in (*self.variables, *self.slots))

    def state(self) -> Arrays:
        """On rank 0, a copy of the whole weights and optimizer state, as in a checkpoint; nothing
        elsewhere. Collective."""
        return self._copies((*self.variables, *self.slots))

    def load(self, state: Arrays | None) -> None:
        """Set weights and optimizer to a ``state``, which rank 0 passes; if it passes None, give
        all ranks its initial weights. Collective."""
        if state is not None:
            for variable, value in zip((*self.variables, *self.slots), state, strict=True):
                variable.assign(value)
        self.broadcast()

    def broadcast(self) -> None:
        """Give all ranks the weights and the optimizer state of rank 0; collective."""

    def keras_model(self, whole: Arrays) -> keras.Model:
        """A Keras model with these whole weights. It is none that is being trained, and the same
        one at each call: only one thread at a time may use it."""
        import tensorflow as tf

        with tf.device("CPU"):  # a GPU's memory is for training
            if self._spare is None:
                self._spare = self._another()
            for variable, value in zip(self._variables(self._spare), whole, strict=True):
                variable.assign(value)
        return self._spare

    def _another(self) -> keras.Model:
        """Another Keras model of the same layers; on rank 0."""
        raise NotImplementedError

    def _variables(self, model: keras.Model) -> list[tf.Variable]:
        """Its variables in the order of a checkpoint."""
        raise NotImplementedError


class StrategyClass(Protocol):
    """A strategy's class: called with the model, which ranks that don't want it may lack."""

    name: str

    def __call__(self, model: keras.Model | None, settings: Settings, comm: Comm,
                 layout: Layout) -> Strategy: ...

    def wants_model(self, rank: int) -> bool:
        """As ``Strategy.wants_model``."""
