"""The files of a trained model: ``model.keras`` and its card, ``model.json``."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpc_deepfake.core import json_data
from hpc_deepfake.core.errors import InputError, reason
from hpc_deepfake.core.files import whole, write_json
from hpc_deepfake.core.surroundings import check_keras
from hpc_deepfake.network import ensemble
from hpc_deepfake.network.card import Card
from preprocessing import ela, faces
from preprocessing.ela import FEATURES, computable

if TYPE_CHECKING:
    import keras

__all__ = ["Card", "card_file", "card_for_pictures", "digest", "find", "load", "read_card", "save"]

_HDF5 = b"\x89HDF\r\n\x1a\n"  # how a data file begins
MOST_BYTES = 1 << 30  # of a model file when unpacked, unless the file itself is as large


def save(model: keras.Model, card: Card, path: Path) -> None:
    """Write the model to ``path``, a ``.keras`` file, and its card beside it, each file whole.

    At every moment the card belongs to the model beside it, also where the program is killed: in
    between it names both models, the new one and the one before.
    """
    file = path.with_suffix(".json")
    card = replace(card, weights=(digest(model.get_weights()),))
    with whole(path) as temporary:
        model.save(temporary)
        with suppress(OSError, ValueError):  # the first one, or of an earlier version
            if before := Card.of(json_data.read(file)).weights:
                write_json(file, replace(card, weights=card.weights + before).as_dict())
    write_json(file, card.as_dict())


def digest(weights: Sequence[np.ndarray]) -> str:
    """SHA-256 of a network's weights, which all files with these weights have in common."""
    whole = hashlib.sha256()
    for array in weights:
        whole.update(f"{array.dtype} {array.shape}".encode())
        whole.update(np.ascontiguousarray(array).data)
    return whole.hexdigest()


def find(path: Path) -> Path:
    """The ``.keras`` file of a run directory, or ``path`` itself if it is a file; of an ensemble
    its ``ensemble.json``.

    Raises:
        InputError: there is no such file, or it is a data file; or an ensemble lacks a member.
    """
    if members := ensemble.members(path):
        for member in members:
            if not (member / "model.keras").is_file():
                raise InputError(f"{member.name} of the ensemble {path} has no model yet: finish "
                                 "the training with the same command and --resume, or name one of "
                                 f"the finished members, such as {members[0]}")
        return path / ensemble.NAME if path.is_dir() else path
    file = path / "model.keras" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"there is no trained model '{file}'. Train one:\n"
                         f"  mpirun -np 2 python -m hpc_deepfake.train --data FILE.h5 --run {path}")
    with suppress(OSError), file.open("rb") as content:
        if content.read(len(_HDF5)) == _HDF5:
            raise InputError(f"{file} is a data file, not a trained model: name a run directory, "
                             "or the .keras file in one")
    return file


def card_file(path: Path) -> Path:
    """Where the card of a model, a run or an ensemble is, or belongs."""
    file = find(path)
    return file.with_name("model.json" if file.name == ensemble.NAME else f"{file.stem}.json")


def read_card(path: Path) -> Card:
    """The card beside a model file; of an ensemble that has none yet, one made of its members'.

    Raises:
        InputError: it is missing or damaged.
    """
    file, members = card_file(path), ensemble.members(path)
    if members and not file.is_file():
        return ensemble.card(path, [read_card(member) for member in members])
    try:
        return Card.of(json_data.read(file))
    except (OSError, ValueError) as error:
        raise InputError(f"the model's card {file} can't be read ({reason(error)}); training "
                         "writes it beside model.keras: copy both files") from None


def card_for_pictures(path: Path) -> Card:
    """``read_card`` of a model that is to predict pictures as they come.

    Raises:
        InputError: as ``read_card``; or its feature can't be computed from pictures, or not here.
    """
    card = read_card(path)
    if not computable(card.feature):
        raise InputError(f"{path} was trained on the feature '{card.feature}', and only "
                         f"{', '.join(FEATURES)} can be computed from pictures: take another "
                         "--model")
    if card.parameters.crop is not None:
        faces.require()
    return card


def load(path: Path) -> keras.Model:
    """A trained model, loaded in Keras' safe mode, which runs no code from the file.

    Raises:
        InputError: the file is missing or damaged, the network has unexpected shapes, or others
            than its card says, its weights are not finite, or its card is that of another model.
    """
    import keras

    import hpc_deepfake.network.zoo.layers  # noqa: F401, registered with Keras

    check_keras()
    if members := ensemble.members(path):
        return _joined(path, members)
    file = find(path)
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > max(MOST_BYTES, 2 * file.stat().st_size):  # Keras doesn't compress
            raise ValueError(f"unpacked it has {size / 1e9:,.1f} GB")
        model = keras.saving.load_model(file, compile=False, safe_mode=True)
    except Exception as error:  # zip, HDF5, JSON and Keras errors alike
        raise InputError(f"{file} is not a model that Keras can load: {error}. Use a "
                         "model.keras from training, copied completely") from None
    # a network that was never built has neither attribute
    shapes = [getattr(model, name, None) for name in ("input_shape", "output_shape")]
    side = shapes[0][1] if isinstance(shapes[0], tuple) and len(shapes[0]) == 4 else None
    channels = shapes[0][3] if isinstance(shapes[0], tuple) and side is not None else 3
    if side is None or shapes != [(None, side, side, channels), (None, 2)] or not channels \
            or channels % 3:
        raise InputError(f"{file} has unexpected shapes: input {shapes[0]}, output {shapes[1]}, "
                         "not (None, S, S, 3) and (None, 2); use a model from training")
    beside = file.with_suffix(".json")
    card = read_card(file) if beside.is_file() else None
    if channels != (wanted := 3 if card is None else ela.channels(card.feature)):
        raise InputError(f"{file} takes {channels} channels, and its card {beside} says "
                         f"{wanted}: copy both files from one run directory" if card else
                         f"{file} takes {channels} channels, and its card {beside}, which says of "
                         "which features, is missing: training writes it, copy both files")
    if card is not None and (told := card.parameters.size) != side:
        raise InputError(f"the model's card {beside} says that the network takes {told} × {told} "
                         f"pixels, and it takes {side} × {side}: copy model.json from its training "
                         "again")
    weights = model.get_weights()
    if not all(np.isfinite(weight).all() for weight in weights):
        raise InputError(f"{file} has weights that are not finite (NaN or infinity): its training "
                         "diverged. Train again with a lower --learning-rate or --clip-norm 1")
    if card is not None and card.weights and digest(weights) not in card.weights:
        raise InputError(f"{file} and its card {beside} are of two trainings: thresholds and "
                         "caveats would be those of another model. Copy both files from one run "
                         "directory")
    return model


def _joined(path: Path, members: Sequence[Path]) -> keras.Model:
    """The model of an ensemble, from ``ensemble.joined``."""
    find(path)
    belongs = read_card(path).weights
    models = [load(member) for member in members]
    own = tuple(digest(model.get_weights()) for model in models)
    if belongs and belongs != own:
        raise InputError(f"the card {card_file(path)} belongs to other members than those in "
                         f"{path}: one was trained again. Start the training once more with "
                         "--resume, which makes the ensemble anew")
    return ensemble.joined(models, [read_card(member).temperature for member in members])
