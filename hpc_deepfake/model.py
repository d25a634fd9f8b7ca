"""The network, of stock Keras layers, and the file it travels in."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from preprocessing.ela import SIZE, Parameters
from preprocessing.errors import InputError

if TYPE_CHECKING:
    import keras

PARAMETERS = 7_392_962


def build(precision: str = "float32") -> keras.Model:
    """The CNN: uint8 or float (n, 128, 128, 3) in 0…255 → (n, 2), authentic, tampered.

    Glorot-uniform kernels from Keras' global seed; 7,392,962 parameters, of which 192 are moving
    statistics.
    """
    import keras
    from keras import layers

    keras.config.set_dtype_policy(precision)  # it outlives a change of floatx
    model = keras.Sequential([
        keras.Input((SIZE, SIZE, 3), name="picture"),
        layers.Rescaling(1 / 255, name="rescaling"),
        layers.Conv2D(32, 3, activation="relu", name="conv1"),
        layers.BatchNormalization(name="bn1"),
        layers.MaxPooling2D(2, name="pool1"),
        layers.Conv2D(64, 3, activation="relu", name="conv2"),
        layers.BatchNormalization(name="bn2"),
        layers.MaxPooling2D(2, name="pool2"),
        layers.Flatten(name="flatten"),
        layers.Dense(128, activation="relu", name="dense1"),
        layers.Dropout(0.5, name="dropout"),
        layers.Dense(2, activation="softmax", name="dense2"),
    ], name="hpc_deepfake")
    assert model.count_params() == PARAMETERS
    return model


@dataclass(frozen=True)
class Card:
    """What must be known to use a trained model; ``model.json`` beside ``model.keras``.

    Attributes:
        feature: what the network was trained on. parameters: how that feature is computed.
        threshold: probability of "tampered" from which a picture is called so.
    """

    feature: str
    parameters: Parameters
    threshold: float = 0.5


def save(model: keras.Model, card: Card, path: Path) -> None:
    """Write ``model.keras`` and its card, each under a temporary name first."""
    temporary = path.with_name(f".new-{path.name}")
    model.save(temporary)
    os.replace(temporary, path)
    temporary = path.with_name(f".new-{path.stem}.json")
    values = {**asdict(card), "parameters": card.parameters.as_dict()}
    temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path.with_suffix(".json"))


def find(path: Path) -> Path:
    """The model's file for a run directory or a ``.keras`` file.

    Raises:
        InputError: there is none.
    """
    file = path / "model.keras" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"there is no trained model '{file}'. Train one:\n"
                         f"  mpirun -np 2 python -m hpc_deepfake.train --data FILE.h5 --run {path}")
    return file


def read_card(path: Path) -> Card:
    """The card beside a model file.

    Raises:
        InputError: it is missing or damaged.
    """
    file = find(path).with_suffix(".json")
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
        return Card(str(card["feature"]), Parameters(**card["parameters"]),
                    float(card["threshold"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"the model's card {file} can't be read ({error}); it is written by "
                         "training, beside model.keras: copy both files") from None


def load(path: Path) -> keras.Model:
    """A trained model, loaded in Keras' safe mode: no code from the file is run.

    Raises:
        InputError: missing, damaged, or another network.
    """
    import keras

    file = find(path)
    try:
        model = keras.saving.load_model(file, compile=False, safe_mode=True)
    except Exception as error:  # zip, HDF5, JSON and Keras errors alike
        raise InputError(f"{file} is no model that Keras can load: {error}") from None
    # a network that was never built has no shapes
    shapes = [getattr(model, name, None) for name in ("input_shape", "output_shape")]
    if shapes != [(None, SIZE, SIZE, 3), (None, 2)]:
        raise InputError(f"{file} is another network: input {shapes[0]}, output {shapes[1]}, "
                         f"not (None, {SIZE}, {SIZE}, 3) and (None, 2)")
    return model
