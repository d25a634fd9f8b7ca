"""The network as other runtimes get it: a feature's bytes in, the probability of tampered out, and
the map of a network that says where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc_deepfake.network import maps
from hpc_deepfake.network.scoring import LEAST

if TYPE_CHECKING:
    import keras

INPUT, OUTPUT, MAP = "picture", "tampered", "changed"


def portable(network: keras.Model, temperature: float, says_where: bool = False) -> keras.Model:
    """A model to export: uint8 (n, S, S, channels) → float32 (n), with the temperature inside, and
    the map, float32 (n, S, S), of a network that has one.

    Its input is uint8, so that a picture scaled to 0…1 is refused rather than misjudged. It
    computes in float32 whatever the network was trained in.

    Args:
        network: input (n, S, S, channels), softmax output (n, 2), authentic and tampered.
        temperature: divides the log-odds, as ``metrics.temperature.of_odds`` does; 1 leaves the
            graph without it.
        says_where: whether the map is wanted.
    """
    import keras
    from keras import ops

    if any(weight.dtype != "float32" for weight in network.weights):
        network = _in_float32(network)
    picture = keras.Input(network.input_shape[1:], dtype="uint8", name=INPUT)
    found = {}
    if says_where:
        outputs, where = maps.both(network)(picture)
        found[MAP] = where[..., 0]
    else:
        outputs = network(picture)
    probability = outputs[:, 1]
    if temperature != 1:
        logarithms = ops.log(ops.maximum(outputs, LEAST))
        probability = ops.sigmoid((logarithms[:, 1] - logarithms[:, 0]) / temperature)
    return keras.Model(picture, {OUTPUT: probability, **found}, name="hpc_deepfake")


def _in_float32(network: keras.Model) -> keras.Model:
    """A copy that computes in float32, of a network trained in float64."""
    copy: keras.Model = type(network).from_config(_named_float32(network.get_config()))
    copy.set_weights(network.get_weights())
    return copy


def _named_float32(config: Any) -> Any:
    """A configuration with float32 wherever it names float64: in layers, in models within it, and
    in operations between them."""
    if isinstance(config, dict):
        return {name: _named_float32(value) for name, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(map(_named_float32, config))
    return "float32" if config == "float64" else config
