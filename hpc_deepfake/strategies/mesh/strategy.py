"""Model parallel training: stages (pipeline), shards (tensor), and shares of the data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from hpc_deepfake.core.mpi import wait
from hpc_deepfake.network.fused import Weights
from hpc_deepfake.network.optimizer import optimizer_of
from hpc_deepfake.network.scoring import Scores
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.strategies.base import DIVERGED, Arrays, Batch, Done, Strategy
from hpc_deepfake.strategies.layout import Layout
from hpc_deepfake.strategies.mesh.cut import cut
from hpc_deepfake.strategies.mesh.pipeline import Direction, Pipeline
from hpc_deepfake.strategies.mesh.schedule import SCHEDULES, Operation, bubble
from hpc_deepfake.strategies.mesh.shape import parse
from hpc_deepfake.strategies.mesh.shards import Parameter, parameters
from hpc_deepfake.strategies.mesh.stage import LARGE, Local, Stage
from hpc_deepfake.strategies.mesh.trace import Trace
from hpc_deepfake.strategies.mesh.weights import Exchange
from preprocessing.ela import SIZE

if TYPE_CHECKING:
    import keras
    from mpi4py.MPI import Comm

_FIGURES = (("bytes", "point_to_point"), ("bytes", "allreduce"), ("bytes", "tensor"),
            ("pipeline", "waited_s"), ("pipeline", "formula_s"), ("pipeline", "step_s"))


class Mesh(Strategy):
    """Each rank holds the blocks of one stage, and of each of their weights one shard.

    Ranks with the same data index work on the same rows: the first stage takes the pictures, the
    last one the labels. Activations and gradients are sent between neighbouring stages, from and to
    ranks with the same tensor index. Gradients are those of the rows' cross-entropies, summed and
    divided by the number of rows in the step, as in ``Sequential``; ranks that hold the same
    weights add them up once per step.

    Attributes:
        shape: of the mesh.
        place: of this rank in it.
        weights: this rank's shards, by name.
        optimizer: updates them.
        stage: computes.
        pipeline: exchanges messages with the neighbouring stages.
        trace: records both, with ``--trace``.
    """

    name = "mesh"
    comm: Comm

    def __init__(self, model: keras.Model | None, settings: Settings, comm: Comm,
                 layout: Layout) -> None:
        """Collective; the model is needed on rank 0 only, and ``load`` deals out its weights."""
        super().__init__(comm)
        self.settings, self.layout = settings, layout
        self.shape = parse(layout.mesh, comm.size)
        self.place = place = self.shape.place(comm.rank)
        self.share = self.evaluation_share = (place.data, self.shape.data)
        stages = cut(self.shape.pipeline, layout.stages)
        self._own = tf.float64 if settings.precision == "float64" else tf.float32
        self._table = parameters(layout.tensor_layout)
        self._trained = [parameter for parameter in self._table if parameter.trainable]
        stage_of = {block: stage for stage, blocks in enumerate(stages) for block in blocks}
        self._exchange = Exchange(comm, self.shape, stage_of.__getitem__)
        self._initial = None if model is None or comm.rank else [
            value.numpy() for value in Weights(model).all]
        self.model = None
        own = self._exchange.own(self._table)
        self.weights = {parameter.name: tf.Variable(tf.zeros(
            parameter.part_shape(place.tensor, self.shape.tensor), self._own), parameter.trainable)
            for parameter in own}
        self.variables = list(self.weights.values())
        self._trainable = [self.weights[parameter.name] for parameter in own
                           if parameter.trainable]
        self.optimizer = optimizer_of(settings, self._trainable, self.shape.data)
        self.slots = self.optimizer.slots

        self.stage = Stage(stages, self.shape, place, self.weights, self.optimizer, settings,
                           layout, [parameter.axis is not None for parameter in own
                                    if parameter.trainable])
        self.speaks = self.stage.last and place.tensor == 0
        self._sums_comm = comm.Dup()
        self._model_comm = comm.Split(place.data)  # ranks that hold the network together
        title = f"rank {comm.rank}: data {place.data}, stage {place.stage} " \
                f"({', '.join(self.stage.blocks)}), tensor {place.tensor}"
        self.trace = Trace(comm.rank, title, layout.trace) if layout.trace else None
        self.pipeline = Pipeline(
            comm.Dup(), None if self.stage.first else self._neighbour(-1),
            None if self.stage.last else self._neighbour(1), self.trace)
        self._figures = np.zeros(len(_FIGURES))  # of this rank, not yet summed over the ranks
        self._steps = 0

    @classmethod
    def wants_model(cls, rank: int) -> bool:
        return rank == 0

    def _neighbour(self, offset: int) -> int:
        return self.shape.rank(self.place._replace(stage=self.place.stage + offset))

    # ---- a step

    def step(self, batches: Sequence[Batch], rows: int, step: int, wishes: int = 0) -> Done:
        began = time.perf_counter()
        local, loss, right = self._work(batches, rows)
        figures, self._figures = self._figures, np.zeros_like(self._figures)
        if not _finite(local, loss):
            wishes += DIVERGED
            self.diverged_at = step if self.diverged_at is None else self.diverged_at
        summands = np.array([loss, right, wishes, *figures])
        sums = np.empty_like(summands)
        # mpi4py 4.1.2 keeps no reference: "summands" must exist until the request is complete
        request = self._sums_comm.Iallreduce(summands, sums)
        ready = time.perf_counter()
        number = tf.constant(step, tf.int64)
        reducing = self._finish_clipped(local, number) if self.settings.clip_norm \
            else np.nan_to_num(float(self.stage.finish(*local, number)))
        updated = time.perf_counter()
        idle = wait(request)
        ended = time.perf_counter()
        if self.trace is not None:
            self.trace.work("reduce and update", ready, updated, step=step)
            self.trace.work("wait", updated, ended, what="end of the step", step=step)
        micro = [max(len(batch.labels), 1) for batch in batches]
        stage = self.stage
        self._figures[:3] = (self.pipeline.sent,
                             stage.data.sent(1) + len(micro) * stage.batch.sent(1),
                             sum(stage.tensor.sent(rows) for rows in micro))
        if self._steps:  # the first step also builds the graphs
            share = bubble(self.shape.pipeline, len(batches))
            self._figures[3:] = self.pipeline.waited + idle, share * (ended - began), ended - began
        self._steps += 1
        loss, right, wishes, *totals = sums.tolist()
        return Done(1, rows, loss, right, round(wishes),
                    float(self.pipeline.waited + idle + reducing), _counts(totals))

    def _finish_clipped(self, local: Local, step: tf.Tensor) -> float:
        """``Stage.finish`` with ``--clip-norm``; returns the seconds of the reductions.

        The norm is summed by MPI, since stages have no group of Horovod's in common."""
        began = time.perf_counter()
        reduced = self.stage.reduced(*local)
        own = np.array([float(self.stage.squares(reduced.gradients))])
        total = np.empty_like(own)
        wait(self._model_comm.Iallreduce(own, total))
        reducing = time.perf_counter() - began
        self.stage.update(*reduced, step, tf.constant(total[0]))
        return reducing

    def settle(self, spent: dict[str, float]) -> tuple[Done, dict[str, float]]:
        figures, self._figures = self._figures, np.zeros_like(self._figures)
        sums = np.empty_like(figures)
        wait(self._sums_comm.Iallreduce(figures, sums))
        if self.trace is not None:
            self.trace.write(self.comm)
        return Done(counts=_counts(sums.tolist())), spent

    def gradients(self, batch: Batch, rows: int) -> Arrays:
        """On rank 0, the whole reduced gradients of one batch, for comparisons; collective."""
        local, *_ = self._work([batch], rows)
        reduced = self.stage.reduced(*local).gradients
        return self._exchange.gather(self._trained, [value.numpy() for value in reduced])

    def _work(self, batches: Sequence[Batch], rows: int) -> tuple[Local, float, float]:
        """Forward and backward passes of all micro-batches.

        Returns:
            This rank's sums of gradients and batch statistics; sums of losses and of correct
            classifications, on the ranks that speak.
        """
        stage = self.stage
        inputs = [_inputs(batch, rows) for batch in batches]
        tapes: dict[int, tuple[tf.GradientTape, tf.Tensor, tf.Tensor]] = {}
        total: list[tf.Tensor] = []
        batch: list[tf.Tensor] = []
        scores = np.zeros(2)

        def forward(micro: int, received: np.ndarray | None) -> np.ndarray | None:
            nonlocal batch
            x, *rest = inputs[micro]
            x = tf.constant(x if stage.first else received)
            with tf.GradientTape() as tape:
                if not stage.first:
                    tape.watch(x)
                y, statistics, sums = stage.forward(x, *rest)
            tapes[micro] = tape, x, y
            batch = [value + added for value, added in zip(batch, statistics, strict=True)] \
                if batch else list(statistics)
            if stage.last:
                scores[:] += sums.numpy()
                return None
            return y.numpy()

        def backward(micro: int, received: np.ndarray | None) -> np.ndarray | None:
            nonlocal total
            tape, x, y = tapes.pop(micro)
            upstream = None if received is None else tf.constant(received)
            sources = [*self._trainable, *([] if stage.first else [x])]
            gradients = tape.gradient(y, sources, upstream)
            own = gradients[:len(self._trainable)]
            total = [value + added for value, added in zip(total, own, strict=True)] \
                if total else own
            return None if stage.first else gradients[-1].numpy()

        def buffer(shape: Sequence[int], kind: tf.DType, micro: int) -> np.ndarray:
            return np.empty((len(inputs[micro][0]), *shape), kind.as_numpy_dtype)

        self.pipeline.run(
            SCHEDULES[self.layout.schedule](self.shape.pipeline, len(batches), self.place.stage),
            {"forward": Direction(forward, partial(buffer, stage.received.shape[1:],
                                                   stage.received.dtype)),
             "backward": Direction(backward, partial(buffer, stage.sent_shape, stage.sent_type))})
        return Local(total, batch), *(scores.tolist() if self.speaks else (0.0, 0.0))

    # ---- evaluation

    def probabilities(self, pictures: np.ndarray) -> np.ndarray:
        stage = self.stage
        micro = np.array_split(pictures, min(self.shape.pipeline, len(pictures)))
        outputs: list[np.ndarray] = []

        def forward(number: int, received: np.ndarray | None) -> np.ndarray | None:
            y = stage.evaluate(tf.constant(micro[number] if stage.first else received)).numpy()
            outputs.append(y)
            return None if stage.last else y

        def buffer(number: int) -> np.ndarray:
            return np.empty((len(micro[number]), *stage.evaluated.shape[1:]),
                            stage.evaluated.dtype.as_numpy_dtype)

        self.pipeline.run([Operation("forward", number) for number in range(len(micro))],
                          {"forward": Direction(forward, buffer)})
        return Scores.of(np.concatenate(outputs)).probabilities if stage.last \
            else np.zeros(len(pictures))

    # ---- weights

    def whole(self) -> Arrays:
        return self._exchange.gather(self._table, self.variables)

    def restore(self, whole: Arrays) -> None:
        parts = self._exchange.deal(self._table, whole, self._own.as_numpy_dtype)
        for variable, value in zip(self.variables, parts, strict=True):
            variable.assign(value)

    def state(self) -> Arrays:
        return self._exchange.gather(self._state_table(), [*self.variables, *self.slots])

    def load(self, state: Arrays | None) -> None:
        has_state = self.comm.bcast(state is not None)
        table = self._state_table() if has_state else self._table
        parts = self._exchange.deal(table, state if has_state else self._initial,
                                    self._own.as_numpy_dtype)
        variables = (*self.variables, *self.slots) if has_state else self.variables
        for variable, value in zip(variables, parts, strict=True):
            variable.assign(value)
        self._initial = None

    def _state_table(self) -> list[Parameter]:
        """The content of a checkpoint: weights, and the optimizer's state of the trained ones."""
        copies = len(self.slots) // len(self._trainable)
        return [*self._table, *(copies * self._trained)]


def _inputs(batch: Batch, rows: int) -> tuple[np.ndarray | tf.Tensor, ...]:
    """The pictures as an array, and the other inputs of ``Stage.forward`` as tensors.

    A share without rows is one picture that counts for nothing (see ``Sequential``)."""
    present = len(batch.labels) > 0
    pictures = batch.pictures if present else np.zeros((1, SIZE, SIZE, 3), np.uint8)
    labels = batch.labels if present else np.zeros(1, np.uint8)
    return (pictures, tf.constant(labels), tf.constant(batch.seed, tf.int32),
            tf.constant(rows, tf.int64), tf.constant(present))


def _finite(local: Local, loss: float) -> bool:
    """Whether loss, gradients and batch statistics are finite; the large kernel is left out (see
    ``Sequential``)."""
    small = [value.numpy() for value in (*local.gradients, *local.batch)
             if value.shape.num_elements() < LARGE]
    return bool(np.isfinite(loss)) and all(np.isfinite(value).all() for value in small)


def _counts(figures: Sequence[float]) -> dict[str, dict[str, float]]:
    """Figures in the order of ``_FIGURES`` as in ``Done.counts``."""
    counts: dict[str, dict[str, float]] = {}
    for (name, kind), figure in zip(_FIGURES, figures, strict=True):
        counts.setdefault(name, {})[kind] = figure
    return counts
