"""The network that a run trains: all ranks have the same one, described in the run directory, and a
resumed run has it too, also where the file that it comes from has changed since; and it has the
layers that options are for."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc_deepfake.core import json_data, mpi
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.core.text import plural
from hpc_deepfake.data.rows import DataFile, first_rows
from hpc_deepfake.network import maps, registry
from preprocessing.mask import UNKNOWN
from preprocessing.names import TAMPERED

if TYPE_CHECKING:
    import keras
    from mpi4py.MPI import Comm

    from hpc_deepfake.network.settings import Settings
    from hpc_deepfake.train.rundir import RunDir

FILE = "network.json"
_LOOKED, _BLOCK = 2000, 256  # rows whose masks are looked at, unless none is known; at a time


def check(comm: Comm, spec: str, model: keras.Model | None, run: RunDir | None,
          resumed: bool) -> None:
    """Compare the ranks' networks, and on rank 0 write the description, or compare it with that of
    a resumed run. Collective.

    Args:
        comm: of the training.
        spec: ``--network``; those in the box need no description.
        model: of this rank, if it has one.
        run: on rank 0 the run directory.
        resumed: on rank 0 whether the run continues from a checkpoint.

    Raises:
        InputError: they are not the same; on all ranks.
    """
    if spec in registry.NAMES:
        return
    own = None if model is None else _described(model)
    digest = None if own is None else hashlib.sha256(json.dumps(own).encode()).hexdigest()
    digests = mpi.gather(comm, digest)
    others = [rank for rank, other in enumerate(digests) if other not in (None, digests[0])]
    if others:
        raise InputError(f"--network {spec}: rank {others[0]} has another network than rank 0: the "
                         "file is not the same on all nodes, or its function builds another "
                         "network each time", everywhere=True)

    def same() -> None:
        if run is None or own is None:
            return
        before: Any = None
        with suppress(OSError, ValueError):
            before = json_data.read(run.path / FILE)
        if not resumed:
            run.write(FILE, own)
        elif before is not None and before != own:
            raise InputError(f"--network {spec}: the file has changed since the run in {run.path} "
                             "began, and gives another network now: put the old one back, or "
                             "start a new run with another --run")

    mpi.on_root(comm, same)


def refuse_idle(settings: Settings, model: keras.Model) -> None:
    """Raise InputError for options of layers that the network doesn't have; on this rank alone."""
    import keras

    layers = model._flatten_layers(include_self=False)
    if settings.dropout and not any(isinstance(layer, keras.layers.Dropout) and layer.rate
                                    for layer in layers):
        raise InputError(f"--dropout {settings.dropout:g}: --network {settings.network} has no "
                         "Dropout layer whose rate it could be (GRU, LSTM and MultiHeadAttention "
                         "have their own): leave it out, or put such a layer in")
    if settings.sync_bn and not any(isinstance(layer, keras.layers.BatchNormalization)
                                    for layer in layers):
        raise InputError(f"--sync-bn: --network {settings.network} has no batch normalisation: "
                         "leave it out")


def check_map(strategy: str, settings: Settings, model: keras.Model, data: DataFile) -> None:
    """Raise InputError if a network that says where can't be trained like this, or another one
    doesn't have what the options want; on this rank alone."""
    network = f"--network {settings.network}"
    if not maps.has(model):
        if settings.monitor.startswith("val_pixel"):
            raise InputError(f"--monitor {settings.monitor}: {network} has no map of what was "
                             "changed: use val_loss, or --network unet")
        return
    if strategy in ("mesh", "hybrid"):
        raise InputError(f"{network} has a map of what was changed, which --strategy {strategy} "
                         "can't train: use sync, local-sgd or async")
    if settings.soft_labels:
        raise InputError(f"--augment mixup: {network} says where a picture was changed, and of a "
                         "mixture of two that can't be said: leave mixup out")
    if data.masks is None:
        raise InputError(f"{network} learns from masks, and "
                         f"{data.header.path or '--synthetic data'} has none: preprocess pictures "
                         "that have ground-truth masks (docs/data.md) with another --out, or use "
                         "another --network")


def check_masks(settings: Settings, data: DataFile) -> str | None:
    """Whether training rows have masks to learn from, and validation rows those that ``--monitor``
    needs; reads those of all tampered rows, or of many the first.

    Returns:
        A note if some training rows lack one.

    Raises:
        InputError: none has one; on this rank alone.
    """
    train = first_rows(data.rows("train"), settings.rows, settings.seed)
    known, looked = _known(data, train)
    if not known:
        raise InputError(f"--network {settings.network} learns from masks, and none of the "
                         f"{plural(looked, 'tampered training picture')} of {data.header.path} "
                         "has a usable one: the file beside it whose name ends in .masks.csv says "
                         "why; mend them and run the same preprocessing command again, or use "
                         "another --network")
    if settings.monitor.startswith("val_pixel") and not _known(data, data.rows("validation"))[0]:
        raise InputError(f"--monitor {settings.monitor}: no tampered validation picture of "
                         f"{data.header.path} has a usable mask: use val_loss, or preprocess with "
                         "another --split or --seed")
    if known == looked:
        return None
    return (f"note: {known:,} of {plural(looked, 'tampered training picture')} looked at "
            f"{'has' if known == 1 else 'have'} a usable mask; the others count with their label "
            "only")


def _known(data: DataFile, rows: np.ndarray) -> tuple[int, int]:
    """How many tampered ones of rows have a usable mask, and of how many; of more than some
    thousand at least until one has."""
    rows = rows[data.labels[rows] == TAMPERED]
    known = looked = 0
    while looked < len(rows) and (looked < _LOOKED or not known):
        block = rows[looked:looked + _BLOCK]
        assert data.masks is not None
        known += int((np.asarray(data.masks[block]) != UNKNOWN).any((1, 2)).sum())
        looked += len(block)
    return known, looked


def _described(model: keras.Model) -> dict[str, Any]:
    """What a ``.keras`` file says of the model, without its weights: JSON."""
    import keras

    return json.loads(json.dumps(keras.saving.serialize_keras_object(model), sort_keys=True))
