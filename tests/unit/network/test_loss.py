"""The loss of each row equals Keras' and, with the defaults, is the operation of before."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from hpc_deepfake.network.loss import classes, losses
from hpc_deepfake.network.settings import Settings

_LOGITS = np.random.default_rng(1).normal(0, 3, (6, 2))
_LABELS = np.array([0, 1, 1, 0, 1, 0], np.uint8)


def operations(function) -> list[str]:
    """Of the graph of a function of logits and labels, constants aside."""
    graph = tf.function(function).get_concrete_function(
        tf.TensorSpec((None, 2), tf.float32), tf.TensorSpec((None,), tf.uint8)).graph
    return [op.type for op in graph.get_operations() if op.type != "Const"]


def test_the_defaults_are_the_operation_of_before():
    """One operation, which is given the labels as int32: the bits of earlier versions."""
    def before(logits, labels):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(labels, tf.int32), logits)

    assert operations(lambda logits, labels: losses(logits, labels, Settings())) \
        == operations(before)


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("weights", [None, (0.75, 1.5)])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_rows_are_those_of_keras(kind, weights, smoothing):
    """With label smoothing, and with class weights as ``fit`` applies them."""
    actual = losses(tf.constant(_LOGITS, kind), tf.constant(_LABELS),
                    Settings(label_smoothing=smoothing), weights)
    rows = [1.0] * 6 if weights is None else [weights[label] for label in _LABELS]
    expected = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=smoothing, reduction=None, dtype=kind)(
        np.eye(2)[_LABELS], _LOGITS, sample_weight=np.array(rows))
    assert actual.dtype == kind
    np.testing.assert_allclose(actual, expected, rtol={"float32": 2e-6, "float64": 1e-14}[kind])


def test_a_mixture_of_labels_is_the_mixture_of_their_losses():
    """Without smoothing and weights; shares of 0 and 1 are labels, with either."""
    logits, shares = tf.constant(_LOGITS), np.array([0, 1, 0.25, 0.5, 0.75, 1])
    ends = [losses(logits, tf.fill([6], label), Settings()) for label in (0, 1)]
    np.testing.assert_allclose(losses(logits, tf.constant(shares, tf.float32), Settings()),
                               (1 - shares) * ends[0] + shares * ends[1], rtol=1e-13)
    settings, weights = Settings(label_smoothing=0.1), (0.5, 2.0)
    for labels in (_LABELS, 1 - _LABELS):
        np.testing.assert_allclose(
            losses(logits, tf.constant(labels.astype(np.float32)), settings, weights),
            losses(logits, tf.constant(labels), settings, weights), rtol=1e-13)


def test_the_class_of_a_mixture():
    assert classes(tf.constant([0.0, 0.4, 0.5, 0.6, 1.0])).numpy().tolist() == [0, 0, 1, 1, 1]
    assert classes(tf.constant(_LABELS)).numpy().tolist() == _LABELS.tolist()
