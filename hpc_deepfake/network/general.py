"""The training pass of any Keras model.

The model computes as it does in Keras, with three differences, made only while a pass is traced, so
that its file has stock layers: batch normalisation uses TensorFlow's fused operation, or the rows
of all ranks, and its statistics are reduced with the gradients; everything random follows the seed
of the pass; with bfloat16 all layers but the last compute in it.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.tensorflow import random

from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network import copies, graph, maps
from hpc_deepfake.network.base import Out, Pass, Product, buckets
from hpc_deepfake.network.batchnorm import Statistics, by_moving

HOST = "CPU:0"  # device of what is known there
_TINY = 1e-30  # of a probability whose logarithm is taken
_SAME = {"Identity", "Cast", "Reshape", "StopGradient"}  # operations behind a softmax
_RANDOM = {"RandomUniform", "RandomStandardNormal", "TruncatedNormal", "RandomUniformInt",
           "Multinomial", "RandomShuffle", "RandomGamma", "RandomPoissonV2"}


class General:
    """A Keras model with input (n, size, size, channels) of 0…255 and two outputs that are
    probabilities, perhaps with a layer ``map`` (``maps.has``): a ``base.Network``. Layers that are
    not trainable are frozen. A part of such a model may have any input and output: then ``run``
    computes it.

    Attributes:
        dense: place in ``trainable`` of the largest kernel of a dense layer that is used once, on
            (n, features); None: there is none.
        dense_layer: that layer.
    """

    large: tf.Variable | None = None

    def __init__(self, model: keras.Model, last: bool = True) -> None:
        """
        Args:
            model: owner of the variables.
            last: whether its last layer is the network's: with bfloat16 all others compute in it.
        """
        self.model, self.size = model, model.input_shape[1]
        self.channels = model.input_shape[-1]
        self.located = maps.both(model) if last and maps.has(model) else None
        self._layers = [layer for layer in model._flatten_layers(include_self=False)
                        if not hasattr(layer, "layers")]
        # they compute in the type of the weights
        self._exact = {id(layer) for layer in self._layers[-1:] if last} | {
            id(layer) for layer in self._layers if self.located and layer.name in maps.EXACT}
        self._normalisations = [layer for layer in self._layers
                                if layer.trainable and _is_plain(layer)]
        pairs = [pair for layer in self._normalisations
                 for pair in (layer.moving_mean, layer.moving_variance)]
        self._trained = list(model.trainable_variables)
        known = {id(variable) for variable in (*self._trained, *pairs)}
        self._constant = [variable for variable in model.non_trainable_weights
                          if id(variable) not in known]
        self.trainable = [variable.value for variable in self._trained]
        self.moving = [variable.value for variable in pairs]
        self.momenta: list[float] | None = [
            float(layer.momentum) for layer in self._normalisations for _ in range(2)]
        self.fixed = [variable.value for variable in self._constant]
        self.buckets = buckets(self.trainable)
        self.dense_layer, self.dense = self._largest_dense()

    @property
    def all(self) -> list[tf.Variable]:
        return [*self.trainable, *self.moving, *self.fixed]

    def check(self) -> None:
        """Raise InputError, on all ranks, unless it can be trained."""
        if not self.trainable:
            raise InputError("the network has no weights that are trained: freeze fewer layers",
                             everywhere=True)
        if len(kinds := {variable.dtype.name for variable in self.trainable}) > 1:
            raise InputError(f"the network's weights are of several types, {', '.join(kinds)}: "
                             "build it with one, which --precision gives", everywhere=True)

    @property
    def constraints(self) -> list[str]:
        """Paths of the weights that have one."""
        return [v.path for v in self._trained if v.constraint is not None]

    def constrain(self) -> None:
        for variable in self._trained:
            if variable.constraint is not None:
                variable.value.assign(variable.constraint(variable.value))

    def shard(self, rows: tf.Variable) -> None:
        """Let this rank have some rows of the dense kernel only, and give up the whole: a pass then
        needs ``Pass.product``."""
        assert self.dense is not None
        self._trained[self.dense]._value = rows
        self.trainable[self.dense] = self.large = rows
        others = [place for place in range(len(self.trainable)) if place != self.dense]
        self.buckets = [[self.dense], *(
            [others[place] for place in bucket]
            for bucket in buckets([self.trainable[place] for place in others]))]

    def forward(self, pictures: tf.Tensor, seed: tf.Tensor, how: Pass) -> Out:
        """As ``Network.forward``.

        Raises:
            InputError: a layer has a state that is no mean over batches, or draws random numbers
                that don't follow a seed; on all ranks.
        """
        own = self.trainable[0].dtype
        outputs, statistics, penalty = self.run(tf.cast(pictures, own), seed, how,
                                                located=self.located is not None)
        if self.located is None:
            return Out(tf.cast(logits(outputs), own), statistics, penalty)
        outputs, found = outputs
        return Out(tf.cast(logits(outputs), own), statistics, penalty,
                   tf.cast(log_odds(found), own)[..., 0])

    def run(self, x: tf.Tensor, seed: tf.Tensor, how: Pass, training: bool = True,
            located: bool = False) -> tuple[Any, list[tf.Tensor], tf.Tensor | None]:
        """The model's outputs of ``x``, or those of ``located``, its statistics and its penalty, as
        in ``Out``.

        Raises:
            InputError: as ``forward``.
        """
        own = self.trainable[0].dtype if self.trainable else tf.as_dtype(self.model.compute_dtype)
        found: dict[int, list[Statistics]] = {}
        before = len(_operations())
        # in the scope Keras finds only values that it is given when it computes regularisers
        regular = [(variable, tf.convert_to_tensor(variable.value)) for variable in self._trained
                   if variable.regularizer is not None]
        with self._traced(how, own, found), _seeds_on_host(), keras.StatelessScope(
                [*self._states(seed), *regular], collect_losses=True) as scope:
            called = self.located if located and self.located is not None else self.model
            outputs = called(x, training=training)
            penalties = self.model.losses
        self._check(scope, before)
        statistics = []
        for layer in self._normalisations:
            pairs = found.get(id(layer)) or [Statistics(layer.moving_mean.value,
                                                        layer.moving_variance.value)]
            statistics += [tf.add_n(list(values)) / len(pairs) if len(pairs) > 1 else values[0]
                           for values in zip(*pairs, strict=True)]
        return (outputs, statistics,
                tf.add_n([tf.cast(value, own) for value in penalties]) if penalties else None)

    def predict(self, pictures: tf.Tensor, product: Product) -> tf.Tensor:
        own = self.trainable[0].dtype
        how = Pass(own, None, False, tf.ones((), own), lambda value, _: value, product)
        outputs, *_ = self.run(tf.cast(pictures, own), tf.zeros(2, tf.int32), how, training=False)
        return tf.cast(outputs, own)

    def spare(self) -> keras.Model:
        return copies.build(copies.describe(self.model))

    def _largest_dense(self) -> tuple[keras.layers.Dense | None, int | None]:
        """The layer, and the place of its kernel in ``trainable``."""
        whole = graph.of(self.model)
        calls = [] if whole is None else [
            node for node in graph.calls(whole) if type(node.operation) is keras.layers.Dense]
        counts = Counter(id(node.operation) for node in calls)
        places = {id(variable): place for place, variable in enumerate(self._trained)}
        layers = [node.operation for node in calls
                  if counts[id(node.operation)] == 1 and id(node.operation.kernel) in places
                  and len(node.arguments.keras_tensors[0].shape) == 2]
        if not layers:
            return None, None
        layer = max(layers, key=lambda layer: math.prod(layer.kernel.shape))
        return layer, places[id(layer.kernel)]

    def _states(self, seed: tf.Tensor) -> list[tuple[Any, tf.Tensor]]:
        """The states of all generators of random numbers: by the names of their layers, so that a
        part of the model draws what the whole does."""
        with tf.device(HOST):
            return [(generator.state, _state(seed, f"{layer.name} {place}", generator.state.dtype))
                    for layer in (self.model, *self.model._flatten_layers(include_self=False))
                    for place, generator in enumerate(layer._seed_generators)]

    @contextmanager
    def _traced(self, how: Pass, own: tf.DType,
                found: dict[int, list[Statistics]]) -> Iterator[None]:
        """Within it the model's layers compute as this module says."""
        rates = [(layer, layer.rate) for layer in self._layers
                 if how.dropout is not None and isinstance(layer, keras.layers.Dropout)
                 and layer.rate]
        policies = [(layer, layer.dtype_policy) for layer in self._layers
                    if how.compute == tf.bfloat16 and id(layer) not in self._exact
                    and layer.dtype_policy.name == "float32"]
        calls: list[tuple[keras.Layer, Callable[..., tf.Tensor]]] = [
            (layer, _normalisation(layer, how, own, found.setdefault(id(layer), [])))
            for layer in self._normalisations]
        if self.dense_layer is not None and how.product is not tf.matmul:
            calls.append((self.dense_layer, _product(self.dense_layer, how)))
        try:
            for layer, _ in rates:
                layer.rate = how.dropout
            for layer, _ in policies:
                layer.dtype_policy = keras.DTypePolicy("mixed_bfloat16")
            for layer, call in calls:
                object.__setattr__(layer, "call", call)
            yield
        finally:
            for layer, _ in calls:
                layer.__dict__.pop("call", None)
            for layer, policy in policies:
                layer.dtype_policy = policy
            for layer, rate in rates:
                layer.rate = rate

    def _check(self, scope: keras.StatelessScope, before: int) -> None:
        """Raise InputError if the pass changed a state, or drew numbers of its own."""
        for variable in self._constant:
            if scope.get_current_value(variable) is not None:
                raise InputError(
                    f"the network's weight {variable.path} changes with each batch, and the ranks "
                    "can't average it: use layers whose only state is a batch normalisation's mean "
                    "and variance", everywhere=True)
        for operation in _operations()[before:]:
            if operation.type in _RANDOM:
                raise InputError(
                    f"the network draws random numbers ({operation.name}) that don't follow "
                    "--seed: draw them with keras.random and a keras.random.SeedGenerator of the "
                    "layer", everywhere=True)


def _is_plain(layer: keras.Layer) -> bool:
    """Whether it is a batch normalisation that computes as Keras' own does."""
    stock = keras.layers.BatchNormalization
    return isinstance(layer, stock) and type(layer).call is stock.call \
        and not getattr(layer, "renorm", False)


def _normalisation(layer: Any, how: Pass, own: tf.DType,
                   found: list[Statistics]) -> Callable[..., tf.Tensor]:
    """What takes the place of the call of a batch normalisation; appends the batch's statistics to
    ``found``."""
    normalise = how.normaliser(own)
    by_moving_ones = by_moving({layer.name: Statistics(layer.moving_mean.value,
                                                       layer.moving_variance.value)})
    gamma, beta, shape = layer.gamma, layer.beta, layer.moving_mean.shape

    def call(inputs: tf.Tensor, training: bool | None = None,
             mask: tf.Tensor | None = None) -> tf.Tensor:
        if mask is not None:
            raise InputError(f"the network's layer {layer.name} normalises masked values, which "
                             "pictures don't need: leave the mask out", everywhere=True)
        rank = inputs.shape.rank
        axis = (layer.axis if isinstance(layer.axis, int) else layer.axis[0]) % rank
        order = [*(place for place in range(rank) if place != axis), axis]
        x = inputs if axis == rank - 1 else tf.transpose(inputs, order)
        moved = tf.shape(x)
        if rank != 4:
            x = tf.reshape(x, (moved[0], 1, math.prod(x.shape[1:-1]), shape[0]))
        scale = tf.ones(shape, own) if gamma is None else tf.convert_to_tensor(gamma.value)
        offset = tf.zeros(shape, own) if beta is None else tf.convert_to_tensor(beta.value)
        if training:
            y, statistics = normalise(x, scale, offset, f"{layer.name}_{len(found)}",
                                      layer.epsilon)
            found.append(statistics)
        else:
            y, _ = by_moving_ones(tf.cast(x, own), scale, offset, layer.name, layer.epsilon)
        y = y if rank == 4 else tf.reshape(y, moved)
        if axis != rank - 1:
            y = tf.transpose(y, [order.index(place) for place in range(rank)])
        return tf.cast(tf.ensure_shape(y, inputs.shape), layer.compute_dtype)

    return call


def _product(layer: Any, how: Pass) -> Callable[..., tf.Tensor]:
    """What takes the place of the call of a dense layer, with the product of the pass."""
    def call(inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if inputs.shape.rank != 2:
            raise InputError(f"the network's layer {layer.name} gets {inputs.shape.rank} axes, and "
                             "only a dense layer behind Flatten or a pooling can be sharded: use "
                             "--strategy sync", everywhere=True)
        y = how.product(inputs, tf.cast(layer.kernel.value, inputs.dtype))
        if layer.bias is not None:
            y = tf.nn.bias_add(y, tf.cast(layer.bias.value, y.dtype))
        return y if layer.activation is None else layer.activation(y)

    return call


@contextmanager
def _seeds_on_host() -> Iterator[None]:
    """Within it Keras computes seeds on the host, where operations that draw numbers take them: a
    GPU would be waited for."""
    def on_host(compute: Callable[..., Any]) -> Callable[..., Any]:
        def seed(*given: Any) -> Any:
            with tf.device(HOST):
                return compute(*given)

        return seed

    theirs = {name: getattr(random, name) for name in ("draw_seed", "_cast_seed")
              if hasattr(random, name)}  # without them it would only be slower
    try:
        for name, compute in theirs.items():
            setattr(random, name, on_host(compute))
        yield
    finally:
        for name, compute in theirs.items():
            setattr(random, name, compute)


def _state(seed: tf.Tensor, name: str, kind: str) -> tf.Tensor:
    """The state of the generator ``name`` for the seed of a pass, int32 (2)."""
    first, second = tf.unstack(tf.cast(seed, tf.int64) & 0x7FFFFFFF)
    mixed = (second + zlib.crc32(name.encode())) & 0x7FFFFFFF
    return tf.cast(tf.stack([first, mixed]), kind)


def logits(outputs: tf.Tensor) -> tf.Tensor:
    """What the softmax in ``outputs`` was computed of; without one, the logarithms, of which the
    softmax is the outputs."""
    operation = _behind(outputs)
    if operation.type == "Softmax" and operation.inputs[0].shape.rank == 2:
        return operation.inputs[0]
    return tf.math.log(tf.maximum(outputs, _TINY))


def log_odds(probabilities: tf.Tensor) -> tf.Tensor:
    """What the sigmoid in ``probabilities`` was computed of; without one, by its inverse."""
    operation = _behind(probabilities)
    if operation.type == "Sigmoid":
        return operation.inputs[0]
    return tf.math.log(tf.maximum(probabilities, _TINY)) \
        - tf.math.log(tf.maximum(1 - probabilities, _TINY))


def _behind(values: tf.Tensor) -> tf.Operation:
    """The operation that computed them."""
    operation = values.op
    while operation.type in _SAME:
        operation = operation.inputs[0].op
    return operation


def _operations() -> list[tf.Operation]:
    """Those of the graph that is being traced."""
    return tf.compat.v1.get_default_graph().get_operations()
