"""Model parallel training: stages (pipeline), shards (tensor), and shares of the data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from hpc_deepfake.core import mpi
from hpc_deepfake.core.mpi import wait
from hpc_deepfake.network import copies
from hpc_deepfake.network.base import of, refuse_constraints
from hpc_deepfake.network.optimizer import optimizer_of
from hpc_deepfake.network.scoring import Scores
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.network.shapes import Shapes
from hpc_deepfake.strategies.base import DIVERGED, Arrays, Batch, Done, Strategy
from hpc_deepfake.strategies.layout import Layout
from hpc_deepfake.strategies.mesh.part import Groups, Part
from hpc_deepfake.strategies.mesh.pipeline import Direction, Pipeline
from hpc_deepfake.strategies.mesh.schedule import SCHEDULES, Operation, bubble
from hpc_deepfake.strategies.mesh.shape import parse
from hpc_deepfake.strategies.mesh.shards import BLOCKS, Parameter
from hpc_deepfake.strategies.mesh.stage import LARGE, Local, Stage
from hpc_deepfake.strategies.mesh.trace import Trace
from hpc_deepfake.strategies.mesh.weights import Exchange

if TYPE_CHECKING:
    import keras
    from mpi4py.MPI import Comm

    from hpc_deepfake.network.base import Network

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
        self._kind = np.dtype(np.float64 if settings.precision == "float64" else np.float32)
        self._groups = groups = Groups(self.shape, place)
        network: Network | None = None

        def take() -> None:
            nonlocal network
            assert model is not None
            network = of(model, settings)
            refuse_constraints(network, self.name)

        mpi.on_root(comm, take)
        self._part = part = self._part_of(network, groups)
        self._initial = None if network is None else [value.numpy() for value in network.all]
        # what the model for files is made of
        self._description = None if network is None else copies.describe(network.model)
        self.model = None
        self._table = part.parameters
        self._trained = [parameter for parameter in self._table if parameter.trainable]
        self._exchange = Exchange(comm, self.shape, part.stage_of.__getitem__)
        own = self._exchange.own(self._table)
        self.weights = part.weights
        self.variables = [self.weights[parameter.name] for parameter in own]
        trained = [parameter for parameter in own if parameter.trainable]
        self._trainable = [self.weights[parameter.name] for parameter in trained]
        cut = [parameter.axis is not None for parameter in trained]
        self.optimizer = optimizer_of(settings, self._trainable, self.shape.data,
                                      whole=partial(_whole, cut, groups))
        self.slots = self.optimizer.slots

        first, last = place.stage == 0, place.stage == self.shape.pipeline - 1
        self.stage = Stage(part, groups, first, last, self.optimizer, settings,
                           [one or place.tensor == 0 for one in cut])
        self.speaks = last and place.tensor == 0
        self._sums_comm = comm.Dup()
        self._model_comm = comm.Split(place.data)  # ranks that hold the network together
        title = f"rank {comm.rank}: data {place.data}, stage {place.stage} " \
                f"({', '.join(part.stages[place.stage])}), tensor {place.tensor}"
        self.trace = Trace(comm.rank, title, layout.trace) if layout.trace else None
        self.pipeline = Pipeline(comm.Dup(), None if first else self._neighbour(-1),
                                 None if last else self._neighbour(1), self.trace)
        self._figures = np.zeros(len(_FIGURES))  # of this rank, not yet summed over the ranks
        self._steps, self._traced = 0, False

    def _part_of(self, network: Network | None, groups: Groups) -> Part:
        """This rank's part of the network, which rank 0 has; collective."""
        if self.settings.network == "table":
            from hpc_deepfake.strategies.mesh.table_part import TablePart

            def described() -> tuple[int, list[str]]:
                assert network is not None
                return network.size, [block for block in BLOCKS
                                      if not network.model.get_layer(block).trainable]

            size, frozen = mpi.on_root(self.comm, described)
            return TablePart(Shapes(size), frozen, self.shape, self.place, self.settings,
                             self.layout, groups)
        from hpc_deepfake.strategies.mesh.chain_part import ChainPart

        return ChainPart(network, self.comm, self.shape, self.place, self.settings, self.layout,
                         groups)

    @classmethod
    def wants_model(cls, rank: int) -> bool:
        return rank == 0

    def _another(self) -> keras.Model:
        assert self._description is not None  # on rank 0
        return copies.build(self._description)

    def _variables(self, model: keras.Model) -> list[tf.Variable]:
        return of(model, self.settings).all

    def _neighbour(self, offset: int) -> int:
        return self.shape.rank(self.place._replace(stage=self.place.stage + offset))

    # ---- a step

    def step(self, batches: Sequence[Batch], rows: int, step: int, wishes: int = 0) -> Done:
        began = time.perf_counter()
        local, loss, right = self._work(batches, rows)
        figures, self._figures = self._figures, np.zeros_like(self._figures)
        if not self._finite(local, loss):
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
        groups = self._groups
        self._figures[:3] = (self.pipeline.sent,
                             groups.data.sent(1) + len(micro) * groups.batch.sent(1),
                             sum(groups.tensor.sent(rows) for rows in micro))
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
        return self._exchange.gather(self._trained, [value.numpy() for value in reduced],
                                     self._kind)

    def _work(self, batches: Sequence[Batch], rows: int) -> tuple[Local, float, float]:
        """Forward and backward passes of all micro-batches.

        Returns:
            This rank's sums of gradients and batch statistics; sums of losses and of correct
            classifications, on the ranks that speak.
        """
        stage, part = self.stage, self._part
        if not self._traced:
            stage.class_weights = self.class_weights
            # what a layer can't do is found here, on some stages only
            mpi.together(self.comm, stage.forward.get_concrete_function)
            self._traced = True
        inputs = [self._inputs(batch, rows) for batch in batches]
        tapes: dict[int, tuple[tf.GradientTape, tf.Tensor, tf.Tensor, tf.Tensor | None]] = {}
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
                y, statistics, sums, penalty = stage.forward(x, *rest)
            tapes[micro] = tape, x, y, penalty
            batch = [value + added for value, added in zip(batch, statistics, strict=True)] \
                if batch else list(statistics)
            if stage.last:
                scores[:] += sums.numpy()
                return None
            return y.numpy()

        def backward(micro: int, received: np.ndarray | None) -> np.ndarray | None:
            nonlocal total
            tape, x, y, penalty = tapes.pop(micro)
            upstream = None if received is None else tf.constant(received)
            sources = [*self._trainable, *([] if stage.first else [x])]
            targets, upstream = (y, upstream) if penalty is None else \
                ([y, penalty], [upstream, tf.ones_like(penalty)])
            gradients = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(
                targets, sources, upstream, tf.UnconnectedGradients.ZERO)]
            own = gradients[:len(self._trainable)]
            total = [value + added for value, added in zip(total, own, strict=True)] \
                if total else own
            return None if stage.first else gradients[-1].numpy()

        def buffer(sent: tf.TensorSpec, micro: int) -> np.ndarray:
            return np.empty((len(inputs[micro][0]), *sent.shape[1:]), sent.dtype.as_numpy_dtype)

        self.pipeline.run(
            SCHEDULES[self.layout.schedule](self.shape.pipeline, len(batches), self.place.stage),
            {"forward": Direction(forward, partial(buffer, part.received)),
             "backward": Direction(backward, partial(buffer, part.sent))})
        return Local(total, batch), *(scores.tolist() if self.speaks else (0.0, 0.0))

    # ---- evaluation

    def probabilities(self, pictures: np.ndarray) -> np.ndarray:
        stage, expected = self.stage, self._part.evaluated
        micro = np.array_split(pictures, min(self.shape.pipeline, len(pictures)))
        outputs: list[np.ndarray] = []

        def forward(number: int, received: np.ndarray | None) -> np.ndarray | None:
            y = stage.evaluate(tf.constant(micro[number] if stage.first else received)).numpy()
            outputs.append(y)
            return None if stage.last else y

        def buffer(number: int) -> np.ndarray:
            return np.empty((len(micro[number]), *expected.shape[1:]),
                            expected.dtype.as_numpy_dtype)

        self.pipeline.run([Operation("forward", number) for number in range(len(micro))],
                          {"forward": Direction(forward, buffer)})
        return Scores.of(np.concatenate(outputs)).probabilities if stage.last \
            else np.zeros(len(pictures))

    # ---- weights

    def whole(self) -> Arrays:
        return self._exchange.gather(self._table, self.variables, self._kind)

    def restore(self, whole: Arrays) -> None:
        parts = self._exchange.deal(self._table, whole, self._kind)
        for variable, value in zip(self.variables, parts, strict=True):
            variable.assign(value)

    def state(self) -> Arrays:
        return self._exchange.gather(self._state_table(), [*self.variables, *self.slots],
                                     self._kind)

    def load(self, state: Arrays | None) -> None:
        has_state = self.comm.bcast(state is not None)
        table = self._state_table() if has_state else self._table
        parts = self._exchange.deal(table, state if has_state else self._initial, self._kind)
        variables = (*self.variables, *self.slots) if has_state else self.variables
        for variable, value in zip(variables, parts, strict=True):
            variable.assign(value)
        self._initial = None

    def _state_table(self) -> list[Parameter]:
        """The content of a checkpoint: weights, and the optimizer's state of the trained ones."""
        return [*self._table, *(self.settings.copies * self._trained)]

    def _inputs(self, batch: Batch, rows: int) -> tuple[np.ndarray | tf.Tensor, ...]:
        """The pictures as an array, and the other inputs of ``Stage.forward`` as tensors.

        A share without rows is one picture that counts for nothing (see ``Sequential``)."""
        present = len(batch.labels) > 0
        pictures = batch.pictures if present else np.zeros((1, *batch.pictures.shape[1:]), np.uint8)
        labels = batch.labels if present else np.zeros(1, np.uint8)
        return (pictures, tf.constant(labels, tf.float32), tf.constant(batch.seed, tf.int32),
                tf.constant(rows, tf.int64), tf.constant(present))

    def _finite(self, local: Local, loss: float) -> bool:
        """Whether loss, gradients and batch statistics are finite (see ``Sequential``)."""
        looked_at = [gradient for gradient, variable in zip(
            local.gradients, self._trainable, strict=True) if variable is not self._part.large]
        return bool(np.isfinite(loss)) and all(
            np.isfinite(tf.nn.l2_loss(value) if value.shape.num_elements() >= LARGE
                        else value.numpy()).all() for value in (*looked_at, *local.batch))


def _whole(cut: Sequence[bool], groups: Groups, squares: tf.Tensor) -> tf.Tensor:
    """Sums of squares (2, weights) of whole weights, for ``optimizer_of``: those of shards are
    added up over the tensor group."""
    shards = tf.constant(cut)
    return tf.where(shards, groups.tensor.allreduce(
        tf.where(shards, squares, tf.zeros_like(squares)), "squares"), squares)


def _counts(figures: Sequence[float]) -> dict[str, dict[str, float]]:
    """Figures in the order of ``_FIGURES`` as in ``Done.counts``."""
    counts: dict[str, dict[str, float]] = {}
    for (name, kind), figure in zip(_FIGURES, figures, strict=True):
        counts.setdefault(name, {})[kind] = figure
    return counts
