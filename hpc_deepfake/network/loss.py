"""The loss of each row: cross-entropy, with label smoothing, class weights and soft labels; and the
loss of its map."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from hpc_deepfake.network.settings import Settings

ClassWeights = tuple[float, float]  # of authentic and of tampered rows
DICE = 0.5  # weight of the Dice loss of a map beside its cross-entropy


def losses(logits: tf.Tensor, labels: tf.Tensor, settings: Settings,
           weights: Sequence[float] | None = None) -> tf.Tensor:
    """Cross-entropy of each row, to be summed and divided by the number of rows.

    With ``--label-smoothing`` α the target of each row is (1 - α)·y + α/2 (Szegedy et al. 2016,
    section 7, for two classes). A row counts with the weight of its class, as in Keras' ``fit``; a
    mixture of two classes with the same mixture of their weights.

    Args:
        logits: (n, 2).
        labels: integers (n), 0 for authentic and 1 for tampered; or float (n), the share of
            "tampered".
        settings: with ``label_smoothing``.
        weights: of the two classes; None: 1 each.

    Returns:
        (n) in the type of the logits.
    """
    kind, smoothing = logits.dtype, settings.label_smoothing
    if labels.dtype.is_integer:
        labels = tf.cast(labels, tf.int64)  # TensorFlow looks at int32 on the host
        if not smoothing:
            return _weighted(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits),
                             labels, weights)
    tampered = tf.cast(labels, kind)
    target = tampered * (1 - smoothing) + smoothing / 2
    return _weighted(tf.nn.softmax_cross_entropy_with_logits(
        tf.stack([1 - target, target], 1), logits), tampered, weights)


def _weighted(rows: tf.Tensor, tampered: tf.Tensor, weights: Sequence[float] | None) -> tf.Tensor:
    """The losses of ``rows`` (n), weighted by their class; ``tampered`` (n) as ``labels``."""
    if weights is None:
        return rows
    authentic, other = (tf.constant(weight, rows.dtype) for weight in weights)
    share = tf.cast(tampered, rows.dtype)
    return rows * (authentic * (1 - share) + other * share)


def map_losses(log_odds: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
    """Loss of the map of each row, to be summed like ``losses``.

    The cross-entropy of its known pixels, in which changed and unchanged ones count half each
    however few they are (Xie & Tu 2015, "Holistically-nested edge detection", arXiv 1504.06375);
    and for a row with changed pixels half the Dice loss (Milletari, Navab & Ahmadi 2016, "V-Net"),
    which keeps the region from growing. 0 for a row without known pixels.

    Args:
        log_odds: that each pixel was changed, (n, S, S).
        masks: uint8 (n, S, S), 1 changed, 0 not, any other value unknown.

    Returns:
        (n) in the type of ``log_odds``.
    """
    kind, pixels = log_odds.dtype, (1, 2)
    changed, same = (tf.cast(tf.equal(masks, value), kind) for value in (1, 0))
    region, rest = (tf.reduce_sum(part, pixels) for part in (changed, same))
    each = tf.nn.sigmoid_cross_entropy_with_logits(changed, log_odds)
    entropies = [tf.math.divide_no_nan(tf.reduce_sum(each * part, pixels), count)
                 for part, count in ((changed, region), (same, rest))]
    kinds = tf.cast(region > 0, kind) + tf.cast(rest > 0, kind)
    found = (changed + same) * tf.sigmoid(log_odds)
    overlap = 2 * tf.reduce_sum(found * changed, pixels)
    dice = 1 - overlap / (tf.reduce_sum(found, pixels) + tf.maximum(region, 1))
    return (tf.math.divide_no_nan(tf.add_n(entropies), kinds)
            + DICE * tf.where(region > 0, dice, tf.zeros_like(dice)))


def classes(labels: tf.Tensor) -> tf.Tensor:
    """The class that counts as a right answer, int64 (n): of a mixture the one with the larger
    share, of equal shares "tampered". (TensorFlow compares int32 on the host.)"""
    return tf.cast(labels if labels.dtype.is_integer else labels >= 0.5, tf.int64)
