"""Training on one rank, and what the data parallel strategies share with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from hpc_deepfake.network import batchnorm, maps
from hpc_deepfake.network.base import Network, Pass, of
from hpc_deepfake.network.batchnorm import update_moving
from hpc_deepfake.network.loss import classes, losses, map_losses
from hpc_deepfake.network.optimizer import Optimizer, optimizer_of
from hpc_deepfake.network.scoring import Scores
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.strategies import clipping, meter
from hpc_deepfake.strategies.base import DIVERGED, Batch, Done, Judged, Strategy
from hpc_deepfake.strategies.facts import Facts, Now, Told
from hpc_deepfake.strategies.layout import Layout
from hpc_deepfake.strategies.meter import KINDS, Meter

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.data.augment import Rows

PICTURES = tf.TensorSpec((None, None, None, None), tf.uint8)  # of the network's size
_LABELS = tf.TensorSpec((None,), tf.float32)
_SEED = tf.TensorSpec((2,), tf.int32)  # on the host, where what makes random numbers wants it
_MASKS = tf.TensorSpec((None, None, None), tf.uint8)
_SUMS = tf.TensorSpec((4,), tf.float64)
_LARGE = 1 << 16  # numbers in a weight from which on its gradient isn't copied to be checked
INPUTS = (PICTURES, _LABELS, _SEED, _MASKS)



class Parts(NamedTuple):
    """What the ranks add up.

    Attributes:
        gradients: of the trainable weights.
        batch: batch statistics, weighted by rows.
        sums: losses, correct classifications, requests.
    """

    gradients: list[tf.Tensor]
    batch: list[tf.Tensor]
    sums: list[tf.Tensor]


class Flight(NamedTuple):
    """A step that was launched and not reported yet.

    Attributes:
        step: its number.
        rows: of all ranks.
        waited: seconds within it that this rank waited for others; NaN if unknown.
    """

    step: int
    rows: int
    waited: float


class Sequential(Strategy):
    """One rank has all rows of a batch; subclasses override ``_reduce`` to be data parallel.

    Gradients are those of the rows' cross-entropies, summed and divided by the number of rows in
    the global batch, so that ranks may have any number of rows.

    A step is reported after the next one was launched, so that a GPU always has work: the graph of
    each step begins by copying the sums of the one before to the host. They can't be read later
    either, since TensorFlow's copies wait for all that the GPU was given before them.

    Attributes:
        weights: the network with this rank's weights.
        optimizer: updates them.
    """

    name = "sequential"
    model: keras.Model
    optimizer: Optimizer

    def __init__(self, model: keras.Model, settings: Settings, comm: Comm | None = None,
                 layout: Layout | None = None) -> None:
        super().__init__(comm)
        self.model, self.settings, self.layout = model, settings, layout or Layout()
        self.weights = self._take(model)
        self.locates = self.weights.located is not None
        self.optimizer = self._optimizer()
        self.variables, self.slots = self.weights.all, self.optimizer.slots
        self._own = self.weights.trainable[0].dtype
        self._compute = tf.bfloat16 if settings.precision == "bfloat16" else self._own
        self._sent = dict.fromkeys(KINDS, 0.0)  # bytes of this rank since the last ``settle``
        self._facts = Facts()
        self._sums = tf.zeros(_SUMS.shape, _SUMS.dtype)  # of the step in flight
        self._before, self._metered = Told(_SUMS.shape[0]), Told(1 + len(KINDS))
        self._flight: Flight | None = None
        self._no_masks = tf.zeros((0, 0, 0), tf.uint8)
        self.loaders = 1 if meter.on_cpu(self.weights.trainable[0]) else 2
        # sums over all micro-batches of a step but the last
        self._held = [tf.Variable(tf.zeros_like(v), trainable=False)
                      for v in (*self.weights.trainable, *self.weights.moving,
                                *tf.zeros((3,), self._own))] \
            if settings.accumulate > 1 else []

    def _optimizer(self) -> Optimizer:
        return optimizer_of(self.settings, self.weights.trainable, self.share[1],
                            whole=self._whole_squares)

    def step(self, batches: Sequence[Batch], rows: int, step: int, wishes: int = 0) -> Done:
        self.launch(batches, rows, step, wishes)
        done = self.landed()
        assert done is not None
        return done

    def launch(self, batches: Sequence[Batch], rows: int, step: int,
               wishes: int = 0) -> Done | None:
        self._facts.tell(rows=rows, step=step, wishes=wishes)
        *earlier, last = batches
        waited = 0.0
        for batch in earlier:
            self._hold(*self._inputs(batch))
            waited += self._read_meter()
        self._sums = self._step(*self._inputs(last), self._sums)
        self._facts.counted()
        waited += self._read_meter()
        done = self._report(self._before.read) if self._flight else None
        self._flight = Flight(step, rows, waited)
        return done

    def landed(self) -> Done | None:
        done = self._report(self._sums.numpy().tolist) if self._flight else None
        self._flight = None
        return done

    def _report(self, sums: Callable[[], list[float]]) -> Done:
        """What the step in flight did, from its sums."""
        assert self._flight is not None
        step, rows, waited = self._flight
        loss, right, wishes, own = sums()
        if own >= DIVERGED and self.diverged_at is None:
            self.diverged_at = step
        return Done(1, rows, loss, right, round(wishes), waited)

    def _read_meter(self) -> float:
        """The seconds waited in the graph that was launched last; the bytes that it sent are kept
        for ``settle``."""
        waited, *sent = self._metered.read()
        for kind, size in zip(KINDS, sent, strict=True):
            self._sent[kind] += size
        return waited

    def settle(self, spent: dict[str, float]) -> tuple[Done, dict[str, float]]:
        sent, self._sent = self._sent, dict.fromkeys(KINDS, 0.0)
        ranks = self.comm.allgather(sent) if self.comm else [sent]
        total = {kind: round(sum(sizes[kind] for sizes in ranks)) for kind in KINDS}
        total = {kind: size for kind, size in total.items() if size}
        return Done(counts={"bytes": total} if total else {}), spent

    def placed(self, rows: Rows) -> Rows:
        return rows._replace(
            pictures=self._on_device(rows.pictures),
            labels=self._on_device(np.asarray(rows.labels, np.float32)),
            masks=None if rows.masks is None else self._on_device(rows.masks))

    def _on_device(self, values: np.ndarray) -> tf.Tensor:
        """A copy in the memory of the device that computes; on a CPU the host's."""
        with tf.device("CPU:0"):
            host = tf.constant(values)
        with tf.device(self.weights.trainable[0].device):
            return tf.identity(host)

    def _inputs(self, batch: Batch) -> tuple[tf.Tensor, ...]:
        """The tensors of ``INPUTS``; tells the graph whether there are rows.

        A rank without rows computes one row that counts for nothing: TensorFlow's convolutions get
        the shape of an empty batch wrong, and all ranks must take part in the reductions."""
        present = len(batch.labels) > 0
        self._facts.tell(present=present)
        if not present:
            shape = 1, self.weights.size, self.weights.size
            batch = batch._replace(pictures=np.zeros((*shape, self.weights.channels), np.uint8),
                                   labels=np.zeros(1, np.uint8),
                                   masks=None if batch.masks is None else np.zeros(shape, np.uint8))
        return (tf.convert_to_tensor(batch.pictures),
                tf.cast(tf.convert_to_tensor(batch.labels), tf.float32),
                tf.constant(batch.seed, tf.int32),
                self._no_masks if batch.masks is None else tf.convert_to_tensor(batch.masks))

    def judged(self, pictures: np.ndarray, where: bool = False) -> Callable[[], Judged]:
        pictures = tf.convert_to_tensor(pictures)
        outputs, found = self._locate(pictures) if where else (self._predict(pictures), None)
        return lambda: Judged(Scores.of(outputs.numpy()).probabilities,
                              None if found is None else maps.quantised(found.numpy()))

    def gradients(self, batch: Batch, rows: int) -> list[np.ndarray]:
        """Reduced gradients of one batch, without a step, for comparisons; collective."""
        self._facts.tell(rows=rows)
        return [gradient.numpy() for gradient in self._gradients(*self._inputs(batch))]

    @tf.function(autograph=False, input_signature=INPUTS)
    def _gradients(self, *inputs: tf.Tensor) -> list[tf.Tensor]:
        return self._reduce(self._parts(*inputs)).gradients

    @tf.function(autograph=False, input_signature=INPUTS)
    def _hold(self, *inputs: tf.Tensor) -> None:
        parts = self._parts(*inputs)
        for held, value in zip(self._held, (*parts.gradients, *parts.batch, *parts.sums),
                               strict=True):
            held.assign_add(value)
        self._metered.tell(self._meter.total())

    @tf.function(autograph=False, input_signature=(*INPUTS, _SUMS))
    def _step(self, *inputs: tf.Tensor) -> tf.Tensor:
        """Returns the sums over all ranks, with this rank's own requests; tells those of the step
        before, which are the last input."""
        *batch, before = inputs
        self._before.tell(before)
        sums = self._finish(self._parts(*batch), self._facts.now())
        self._facts.count()
        return sums

    def _parts(self, pictures: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor,
               masks: tf.Tensor) -> Parts:
        """This rank's contribution to the sums of the step; zero unless it has rows."""
        now = self._facts.now()
        self._meter = self._new_meter()
        self._shape(pictures)
        count = batchnorm.rows_of(labels, self._own)
        if not self.settings.soft_labels:
            labels = tf.cast(labels, tf.int64)
        present, rows = tf.cast(now.present, self._own), tf.cast(now.rows, self._own)
        how = Pass(self._compute, self.settings.dropout, self.settings.sync_bn, present,
                   self._allreduce, self._product)
        with tf.GradientTape() as tape:
            out = self.weights.forward(pictures, seed, how)
            each = losses(out.logits, labels, self.settings, self.class_weights)
            if out.map is not None:
                each += map_losses(out.map, masks)
            loss = present * tf.reduce_sum(each)
            mean = loss / rows
            share = present * count / rows
            if out.penalty is not None:
                mean += share * out.penalty
        gradients = tape.gradient(mean, self.weights.trainable,
                                  unconnected_gradients=tf.UnconnectedGradients.ZERO)
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        batch = [value * share for value in out.statistics]
        right = tf.cast(tf.equal(tf.argmax(out.logits, 1), classes(labels)), self._own)
        return Parts(gradients, batch, [loss, present * tf.reduce_sum(right),
                                        tf.zeros((), self._own)])

    def _total(self, parts: Parts, wishes: tf.Tensor) -> Parts:
        """Sum over the micro-batches of the step: ``parts`` of the last and the held ones, which
        are then cleared. Requests are ``wishes``, and ``DIVERGED`` if need be."""
        parts.sums[2] = tf.cast(wishes, self._own)
        if self._held:
            totals = iter([value + held for value, held in zip(
                (*parts.gradients, *parts.batch, *parts.sums), self._held, strict=True)])
            parts = Parts(*([next(totals) for _ in part] for part in parts))
            for held in self._held:
                held.assign(tf.zeros_like(held))
        parts.sums[2] += DIVERGED * self._not_finite(parts)
        return parts

    def _not_finite(self, parts: Parts) -> tf.Tensor:
        """1 if a number of ``parts`` is not finite, else 0.

        The large kernel's gradient is left out, since reading it would take 3% of a step: where it
        is not finite, that of the layer's bias, which sums the same factors, isn't either. What
        still escapes, such as an overflow in the update, is found in the weights (``finite``).
        Other large gradients are read once, for their norm.
        """
        small, norms = [*parts.batch, *parts.sums], []
        for gradient, variable in zip(parts.gradients, self.weights.trainable, strict=True):
            if gradient.shape.num_elements() < _LARGE:
                small.append(gradient)
            elif variable is not self.weights.large:
                norms.append(tf.nn.l2_loss(gradient))
        flat = tf.concat([tf.reshape(value, [-1]) for value in (*small, *norms)], 0)
        return 1 - tf.cast(tf.reduce_all(tf.math.is_finite(flat)), self._own)

    def _finish(self, parts: Parts, now: Now) -> tf.Tensor:
        """Reduce and update; returns the sums over all ranks and this rank's own requests."""
        step = tf.cast(now.step, tf.int64)
        parts = self._total(parts, now.wishes)
        computed, own = parts.gradients, parts.sums[2]
        parts = self._reduce(parts)
        self._meter.waits(computed, parts.gradients)
        self.optimizer.apply(self._clip(parts.gradients), step)
        self.weights.constrain()
        update_moving(self.weights.moving, parts.batch, step + 1, self.weights.momenta)
        sums = [tf.cast(value, tf.float64) for value in (*parts.sums, own)]
        self._metered.tell(self._meter.total())
        return tf.stack(sums)

    def _clip(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        """The gradients as ``--clip-norm`` limits them."""
        bound = self.settings.clip_norm
        return clipping.clipped(gradients, self._squares(gradients), bound) if bound else gradients

    def _squares(self, gradients: list[tf.Tensor]) -> tf.Tensor:
        """Sum of the squares of the whole gradient."""
        return clipping.squares(gradients)

    def _whole_squares(self, squares: tf.Tensor) -> tf.Tensor:
        """Sums of squares of whole weights (2, trained weights), float64, from those of this rank's
        parts, for LAMB."""
        return squares

    def _new_meter(self) -> Meter:
        return Meter(meter.on_cpu(self.weights.trainable[0]))

    def _take(self, model: keras.Model) -> Network:
        """The network with the part of the model's weights that this rank holds."""
        return of(model, self.settings)

    def _another(self) -> keras.Model:
        return self.weights.spare()

    def _variables(self, model: keras.Model) -> list[tf.Variable]:
        return of(model, self.settings).all

    def _product(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """The product of features (n, c) and the large dense kernel (c, units)."""
        return tf.matmul(x, kernel)

    def _reduce(self, parts: Parts) -> Parts:
        """Sum over the ranks."""
        return parts

    def _allreduce(self, value: tf.Tensor, name: str) -> tf.Tensor:
        """Sum over the ranks of one small tensor."""
        return value

    @tf.function(autograph=False, input_signature=(PICTURES,))
    def _predict(self, pictures: tf.Tensor) -> tf.Tensor:
        self._shape(pictures)
        return self.model(pictures, training=False)

    @tf.function(autograph=False, input_signature=(PICTURES,))
    def _locate(self, pictures: tf.Tensor) -> list[tf.Tensor]:
        self._shape(pictures)
        assert self.weights.located is not None
        return self.weights.located(pictures, training=False)

    def _shape(self, pictures: tf.Tensor) -> None:
        """Tell TensorFlow the shape of the network's input."""
        weights = self.weights
        pictures.set_shape((None, weights.size, weights.size, weights.channels))
