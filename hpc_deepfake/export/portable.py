"""The network as other runtimes get it: a feature's bytes in, the probability of tampered out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpc_deepfake.network.scoring import LEAST

if TYPE_CHECKING:
    import keras

INPUT, OUTPUT = "picture", "tampered"


def portable(network: keras.Model, temperature: float) -> keras.Model:
    """A model to export: uint8 (n, S, S, 3) → float32 (n), with the temperature inside.

    Its input is uint8, so that a picture scaled to 0…1 is refused rather than misjudged. It
    computes in float32 whatever the network was trained in.

    Args:
        network: input (n, S, S, 3), softmax output (n, 2), authentic and tampered.
        temperature: divides the log-odds, as ``metrics.temperature.of_odds`` does; 1 leaves the
            graph without it.
    """
    import keras
    from keras import ops

    if any(weight.dtype != "float32" for weight in network.weights):
        network = _in_float32(network)
    picture = keras.Input(network.input_shape[1:], dtype="uint8", name=INPUT)
    outputs = network(picture)
    probability = outputs[:, 1]
    if temperature != 1:
        logarithms = ops.log(ops.maximum(outputs, LEAST))
        probability = ops.sigmoid((logarithms[:, 1] - logarithms[:, 0]) / temperature)
    return keras.Model(picture, {OUTPUT: probability}, name="hpc_deepfake")


def _in_float32(network: keras.Model) -> keras.Model:
    """A copy that computes in float32, of a network trained in float64."""
    import keras

    copy = keras.models.clone_model(network, clone_function=lambda layer: type(layer).from_config(
        {**layer.get_config(), "dtype": "float32"}))
    copy.set_weights(network.get_weights())
    return copy
