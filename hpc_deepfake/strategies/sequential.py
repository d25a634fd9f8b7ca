"""Training on one rank, and what the data parallel strategies share with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from hpc_deepfake.network import maps
from hpc_deepfake.network.base import Network, Pass, of
from hpc_deepfake.network.batchnorm import update_moving
from hpc_deepfake.network.loss import classes, losses, map_losses
from hpc_deepfake.network.optimizer import Optimizer, optimizer_of
from hpc_deepfake.network.scoring import Scores
from hpc_deepfake.network.settings import Settings
from hpc_deepfake.strategies import clipping
from hpc_deepfake.strategies.base import DIVERGED, Batch, Done, Strategy
from hpc_deepfake.strategies.layout import Layout
from hpc_deepfake.strategies.meter import KINDS, Meter

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

PICTURES = tf.TensorSpec((None, None, None, None), tf.uint8)  # of the network's size
_LABELS = tf.TensorSpec((None,), tf.float32)
COUNT = tf.TensorSpec((), tf.int64)
_SEED = tf.TensorSpec((2,), tf.int32)
_FLAG = tf.TensorSpec((), tf.bool)
_MASKS = tf.TensorSpec((None, None, None), tf.uint8)
WISHES = tf.TensorSpec((), tf.int32)
_LARGE = 1 << 16  # numbers in a weight from which on its gradient isn't copied to be checked
INPUTS = (PICTURES, _LABELS, _SEED, COUNT, _FLAG, _MASKS)


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


class Sequential(Strategy):
    """One rank has all rows of a batch; subclasses override ``_reduce`` to be data parallel.

    Gradients are those of the rows' cross-entropies, summed and divided by the number of rows in
    the global batch, so that ranks may have any number of rows.

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
        # sums over all micro-batches of a step but the last
        self._held = [tf.Variable(tf.zeros_like(v), trainable=False)
                      for v in (*self.weights.trainable, *self.weights.moving,
                                *tf.zeros((3,), self._own))] \
            if settings.accumulate > 1 else []

    def _optimizer(self) -> Optimizer:
        return optimizer_of(self.settings, self.weights.trainable, self.share[1],
                            whole=self._whole_squares)

    def step(self, batches: Sequence[Batch], rows: int, step: int, wishes: int = 0) -> Done:
        *earlier, last = [self._inputs(batch, rows) for batch in batches]
        metered = [self._hold(*inputs) for inputs in earlier]
        sums, last_metered = self._step(*last, tf.constant(step, tf.int64), tf.constant(wishes))
        waited = sum(self._read(total) for total in (*metered, last_metered))
        loss, right, wishes, own = sums.numpy().tolist()
        if own >= DIVERGED and self.diverged_at is None:
            self.diverged_at = step
        return Done(1, rows, loss, right, round(wishes), waited)

    def _read(self, metered: tf.Tensor) -> float:
        """The seconds waited, from a meter's total; the bytes sent are kept for ``settle``."""
        waited, *sent = metered.numpy().tolist()
        for kind, size in zip(KINDS, sent, strict=True):
            self._sent[kind] += size
        return waited

    def settle(self, spent: dict[str, float]) -> tuple[Done, dict[str, float]]:
        sent, self._sent = self._sent, dict.fromkeys(KINDS, 0.0)
        ranks = self.comm.allgather(sent) if self.comm else [sent]
        total = {kind: round(sum(sizes[kind] for sizes in ranks)) for kind in KINDS}
        total = {kind: size for kind, size in total.items() if size}
        return Done(counts={"bytes": total} if total else {}), spent

    def _inputs(self, batch: Batch, rows: int) -> tuple[tf.Tensor, ...]:
        """The tensors of ``INPUTS``.

        A rank without rows computes one row that counts for nothing: TensorFlow's convolutions get
        the shape of an empty batch wrong, and all ranks must take part in the reductions."""
        present = len(batch.labels) > 0
        if not present:
            shape = 1, self.weights.size, self.weights.size
            batch = batch._replace(pictures=np.zeros((*shape, self.weights.channels), np.uint8),
                                   labels=np.zeros(1, np.uint8),
                                   masks=None if batch.masks is None else np.zeros(shape, np.uint8))
        masks = np.empty((0, 0, 0), np.uint8) if batch.masks is None else batch.masks
        return (tf.constant(batch.pictures), tf.constant(batch.labels, tf.float32),
                tf.constant(batch.seed, tf.int32), tf.constant(rows, tf.int64),
                tf.constant(present), tf.constant(masks))

    def probabilities(self, pictures: np.ndarray) -> np.ndarray:
        return Scores.of(self._predict(tf.constant(pictures)).numpy()).probabilities

    def located(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        probabilities, found = self._locate(tf.constant(pictures))
        return Scores.of(probabilities.numpy()).probabilities, maps.quantised(found.numpy())

    def gradients(self, batch: Batch, rows: int) -> list[np.ndarray]:
        """Reduced gradients of one batch, without a step, for comparisons; collective."""
        return [gradient.numpy() for gradient in self._gradients(*self._inputs(batch, rows))]

    @tf.function(autograph=False, input_signature=INPUTS)
    def _gradients(self, *inputs: tf.Tensor) -> list[tf.Tensor]:
        return self._reduce(self._parts(*inputs)).gradients

    @tf.function(autograph=False, input_signature=INPUTS)
    def _hold(self, *inputs: tf.Tensor) -> tf.Tensor:
        parts = self._parts(*inputs)
        for held, value in zip(self._held, (*parts.gradients, *parts.batch, *parts.sums),
                               strict=True):
            held.assign_add(value)
        return self._meter.total()

    @tf.function(autograph=False, input_signature=(*INPUTS, COUNT, WISHES))
    def _step(self, *inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        *batch, step, wishes = inputs
        return self._finish(self._parts(*batch), step, wishes)

    def _parts(self, pictures: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, rows: tf.Tensor,
               present: tf.Tensor, masks: tf.Tensor) -> Parts:
        """This rank's contribution to the sums of the step; zero unless ``present``."""
        self._meter = self._new_meter()
        self._shape(pictures)
        if not self.settings.soft_labels:
            labels = tf.cast(labels, tf.int32)
        present = tf.cast(present, self._own)
        rows = tf.cast(rows, self._own)
        how = Pass(self._compute, self.settings.dropout, self.settings.sync_bn, present,
                   self._allreduce, self._product)
        with tf.GradientTape() as tape:
            out = self.weights.forward(pictures, seed, how)
            each = losses(out.logits, labels, self.settings, self.class_weights)
            if out.map is not None:
                each += map_losses(out.map, masks)
            loss = present * tf.reduce_sum(each)
            mean = loss / rows
            share = present * tf.cast(tf.size(labels), self._own) / rows
            if out.penalty is not None:
                mean += share * out.penalty
        gradients = tape.gradient(mean, self.weights.trainable,
                                  unconnected_gradients=tf.UnconnectedGradients.ZERO)
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        batch = [value * share for value in out.statistics]
        right = tf.cast(tf.equal(tf.argmax(out.logits, 1, tf.int32), classes(labels)), self._own)
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

    def _finish(self, parts: Parts, step: tf.Tensor,
                wishes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Reduce and update; returns the sums over all ranks and this rank's own requests, and the
        meter's total."""
        parts = self._total(parts, wishes)
        computed, own = parts.gradients, parts.sums[2]
        parts = self._reduce(parts)
        self._meter.waits(computed, parts.gradients)
        self.optimizer.apply(self._clip(parts.gradients), step)
        self.weights.constrain()
        update_moving(self.weights.moving, parts.batch, step + 1, self.weights.momenta)
        sums = [tf.cast(value, tf.float64) for value in (*parts.sums, own)]
        return tf.stack(sums), self._meter.total()

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
        return Meter(self.weights.trainable[0].device.endswith("CPU:0"))

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
