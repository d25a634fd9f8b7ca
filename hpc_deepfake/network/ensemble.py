"""An ensemble: a folder of trained models, its members, whose calibrated probabilities are averaged
(deep ensembles, Lakshminarayanan, Pritzel & Blundell 2017).

``ensemble.json`` lists the members, which are run directories in the same folder. To everything
that uses a trained model the folder is one: a Keras model, a card, and a list of pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpc_deepfake.core import json_data
from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.core.json_data import dictionary, items
from hpc_deepfake.network import maps
from hpc_deepfake.network.card import Card
from hpc_deepfake.network.scoring import LEAST

if TYPE_CHECKING:
    import keras
    from keras import KerasTensor

NAME = "ensemble.json"
MOST = 1000  # members
_LONGEST = 255  # bytes of a name, by file systems
_ENSEMBLE, _MEAN = "ensemble", "mean"  # names of the joined model, and of its mean's layer


def members(path: Path) -> list[Path] | None:
    """The run directories of an ensemble's members; None if there is no ensemble.

    Args:
        path: its folder, or ``ensemble.json`` in it.

    Raises:
        InputError: ``ensemble.json`` is damaged.
    """
    file = path / NAME if path.is_dir() else path
    if file.name != NAME or not file.is_file():
        return None
    try:
        names = items(dictionary(json_data.read(file)).get("members"))
        if not 0 < len(names) <= MOST or not all(map(_is_name, names)):
            raise ValueError("it doesn't list folders beside it")
    except (OSError, ValueError) as error:
        raise InputError(f"{file}, the list of the ensemble's members, can't be read "
                         f"({reason(error)}); start its training again with --resume") from None
    return [file.parent / str(name) for name in names]


def check_calibration(path: Path, calibration: str) -> None:
    """Raise InputError if an ensemble is to be used without calibration (see ``decision.in_use``).
    """
    if calibration == "off" and members(path):
        raise InputError(f"--calibration off: the ensemble {path} averages calibrated "
                         "probabilities; leave it out, or name one of the members")


def _is_name(name: object) -> bool:
    """Whether it is the name of a folder, with no way to another place."""
    return isinstance(name, str) and name not in ("", ".", "..") and "/" not in name \
        and name.isprintable() and len(name.encode()) <= _LONGEST


def card(folder: Path, cards: Sequence[Card]) -> Card:
    """The card of an ensemble from its members', with the default threshold and the mean of their
    mask thresholds; ``weights`` are the members', in order.

    Raises:
        InputError: the members read different features, or were trained on different data.
    """
    first = cards[0]
    for place, other in enumerate(cards[1:], 1):
        if (other.feature, other.parameters) != (first.feature, first.parameters):
            raise InputError(f"{folder}: member {place} reads {other.feature} "
                             f"{other.parameters.as_dict()}, but the first one {first.feature} "
                             f"{first.parameters.as_dict()}; an ensemble's members are trained on "
                             "the same feature")
        if _data_sets(other) != _data_sets(first):
            raise InputError(f"{folder}: member {place} was trained on other data than the first "
                             "one, which would make neither's pictures the ensemble's; train them "
                             "on one data file")
    levels = [one.mask_threshold for one in cards if one.mask_threshold is not None]
    mean = round(sum(levels) / len(levels)) if len(levels) == len(cards) else None
    return replace(first, threshold=0.5, lower=None, threshold_chosen=None, temperature=1.0,
                   validation=None, mask_threshold=mean, weights=tuple(
                       digest for each in cards for digest in each.weights[:1]))


def _data_sets(card: Card) -> list[object]:
    """Names of those that a model was trained on."""
    return [dictionary(data).get("name") for data in items((card.trained_on or {}).get("data"))]


def joined(models: Sequence[keras.Model], temperatures: Sequence[float]) -> keras.Model:
    """One Keras model: the mean of the models' probabilities, each by its temperature, like
    ``decision.calibrated``, and of their maps where all have one. Its layers ``member0``, … are the
    models, which are renamed."""
    import keras
    from keras import ops

    picture = keras.Input(models[0].input_shape[1:], name="picture")
    outputs, located = [], all(map(maps.has, models))
    found = []
    for number, (model, temperature) in enumerate(zip(models, temperatures, strict=True)):
        member = maps.both(model) if located else model
        member.name = f"member{number}"
        output = member(picture)
        if located:
            output, where = output
            found.append(where)
        if temperature != 1:
            output = ops.softmax(ops.log(ops.maximum(output, LEAST)) / temperature)
        outputs.append(output)
    mean = _average(outputs, _MEAN)
    if located:  # 0 of the map: only what the output is computed of is in the model
        where = _average(found, maps.LAYER)
        mean = mean + keras.layers.GlobalAveragePooling2D(name="share")(where) * 0.0
    return keras.Model(picture, mean, name=_ENSEMBLE)


def _average(values: Sequence[KerasTensor], name: str) -> KerasTensor:
    """Their mean, by a layer of that name."""
    import keras

    return (keras.layers.Average if len(values) > 1 else keras.layers.Identity)(name=name)(
        values if len(values) > 1 else values[0])


def with_members(network: keras.Model) -> keras.Model:
    """A model from ``joined`` with the members' calibrated probabilities as further outputs; any
    other model itself."""
    import keras

    mean = next((layer for layer in getattr(network, "layers", ()) if layer.name == _MEAN), None)
    if getattr(network, "name", "") != _ENSEMBLE or not isinstance(mean, keras.layers.Average):
        return network
    return keras.Model(network.input, [network.output, *mean.input])
