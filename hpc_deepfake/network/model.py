"""A trained model's files: ``model.keras``, and its card ``model.json``."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpc_deepfake.core.errors import InputError
from preprocessing.ela import SIZE, Parameters

if TYPE_CHECKING:
    import keras

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
