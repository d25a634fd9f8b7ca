"""Pixels of maps by what the masks say: a model's maps, and baselines that know nothing of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from hpc_deepfake.core import json_data, mpi, watchdog
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.data.rows import DataFile, open_data, share
from hpc_deepfake.metrics import masks
from hpc_deepfake.metrics.masks import LEVELS
from hpc_deepfake.network import maps
from hpc_deepfake.network.model import find
from hpc_deepfake.network.scoring import Scores, launcher
from preprocessing import ela
from preprocessing.mask import CHANGED, SAME, UNKNOWN
from preprocessing.names import AUTHENTIC, TAMPERED

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    from hpc_deepfake.network.card import Card

MODEL, ERRORS, MEAN = "model", "error levels", "mean mask"
ELA = "ela"  # the feature
_BLUR = 16  # the width of the blur is one of so many parts of a picture
_ROWS = 256  # masks at a time


@dataclass(frozen=True)
class Mapper:
    """Counts the pixels of a model's maps and of baselines, for some pictures at a time.

    Attributes:
        network: the model, whose last output is the map; any other model as it is.
        feature: the model's.
        names: maps that are counted; empty: the model has no map.
        mean: the mean mask, uint8 (S, S); None: there is none.
    """

    network: Any
    feature: str
    names: tuple[str, ...]
    mean: np.ndarray | None = None

    @classmethod
    def of(cls, network: Any, feature: str, errors: bool, mean: np.ndarray | None) -> Mapper:
        """For a trained model, of an ensemble with its members or without.

        Args:
            network: the model.
            feature: its feature.
            errors: whether the pictures' error levels are there.
            mean: see above.
        """
        if not maps.has(network):
            return cls(network, feature, ())
        names = (MODEL, *[ERRORS] * errors, *[MEAN] * (mean is not None))
        return cls(_with_map(network), feature, names, mean)

    def launch(self, features: np.ndarray) -> Any:
        """What ``judge`` needs of the network for pictures; a GPU may still compute it."""
        return launcher(self.network)(features)

    def judge(self, outputs: Any, features: np.ndarray, known: np.ndarray | None = None,
              errors: np.ndarray | None = None) -> tuple[Scores, dict[str, np.ndarray]]:
        """What the model says of pictures, and the pixels of each map of ``names``.

        Args:
            outputs: of ``launch``.
            features: the model's feature, uint8 (n, S, S, channels).
            known: their masks, uint8 (n, S, S), values as in ``preprocessing.mask``.
            errors: their error levels, uint8 (n, S, S, 3); None: the feature contains them.

        Returns:
            The scores, and int32 (n, 2, 256) for each map, as of ``masks.histograms``.
        """
        if not self.names:
            return Scores.of(outputs), {}
        assert known is not None
        *verdicts, where = outputs
        levels = {MODEL: maps.quantised(where)}
        if ERRORS in self.names:
            own = own_errors(features, self.feature) if errors is None else errors
            assert own is not None
            levels[ERRORS] = blurred(own)
        if self.mean is not None:
            levels[MEAN] = np.broadcast_to(self.mean, known.shape)
        return (Scores.of(verdicts[0] if len(verdicts) == 1 else verdicts),
                {name: masks.histograms(levels[name], known) for name in self.names})

    def joined(self, parts: Sequence[Mapping[str, np.ndarray]],
               comm: Comm | None = None) -> dict[str, np.ndarray]:
        """The pixels of all parts of all ranks, on each of them. Collective."""
        return {name: mpi.concatenate(comm, np.concatenate([
            np.empty(0, np.int32), *(part[name].ravel() for part in parts)])).reshape(-1, 2, LEVELS)
            for name in self.names}


@lru_cache(1)  # a new one would be compiled anew, for each of several data files
def _with_map(network: Any) -> Any:
    """The model with its map as a further output."""
    import keras

    return keras.Model(network.input, [*network.outputs, network.get_layer(maps.LAYER).output])


def own_errors(features: np.ndarray, feature: str) -> np.ndarray | None:
    """The error levels that a model's feature contains, uint8 (…, S, S, 3); None: it has none."""
    parts = ela.parts(feature)
    if ELA not in parts:
        return None
    first = 3 * parts.index(ELA)
    return features[..., first:first + 3]


def blurred(errors: np.ndarray) -> np.ndarray:
    """What error levels alone say of where pictures were changed: the highest channel, blurred
    (Gaussian, standard deviation of 1/16 of the side), stretched so that its maximum is 255.

    The baseline of the field's comparisons (Krawetz 2007; Zampoglou et al. 2017, "Large-scale
    evaluation of splicing localization algorithms for web images"). The blur is the best of those
    that were tried on CASIA 1: without it, single pixels decide.

    Args:
        errors: uint8 (n, S, S, 3).

    Returns:
        uint8 (n, S, S).
    """
    found = np.empty(errors.shape[:3], np.uint8)
    for own, levels in zip(found, errors, strict=True):
        smooth = cv2.GaussianBlur(levels.max(2).astype(np.float32), (0, 0),
                                  max(errors.shape[1] / _BLUR, 1))
        own[:] = np.rint(smooth * ((LEVELS - 1) / max(float(smooth.max()), 1e-6)))
    return found


def of_block(mapper: Mapper, data: DataFile, rows: np.ndarray) -> tuple[np.ndarray, ...]:
    """What ``Mapper.judge`` needs of rows of a data file, int64 (n), beside their features."""
    known = of_labels(data.labels[rows], data.size) if data.masks is None \
        else np.asarray(data.masks[rows])
    if ERRORS not in mapper.names or ELA in ela.parts(data.feature):
        return (known,)
    return known, np.asarray(data.header.array(ELA)[rows])


def of_labels(labels: np.ndarray, size: int) -> np.ndarray:
    """Masks where no others are known, uint8 (n, size, size): authentic pictures are unchanged."""
    values = np.where(labels == AUTHENTIC, SAME, UNKNOWN).astype(np.uint8)
    return np.broadcast_to(values[:, None, None], (len(labels), size, size))


def mean_mask(data: DataFile, comm: Comm | None = None) -> np.ndarray | None:
    """The mean mask of the training part's tampered pictures, 255 for a pixel that was changed in
    all of them, uint8 (S, S); None without masks. It says where forgers like to change pictures.
    With ``comm`` collective."""
    if data.masks is None:
        return None
    rows = data.rows("train")
    rows = rows[data.labels[rows] == TAMPERED]
    watchdog.enter("averaging the masks")
    own = rows if comm is None else share(rows, comm.rank, comm.size)
    local = mpi.together(comm, lambda: _sums(data, own))
    changed, known = np.sum(mpi.gather(comm, local), axis=0)
    if not known.any():
        return None
    return np.rint((LEVELS - 1) * changed / np.maximum(known, 1)).astype(np.uint8)


def _sums(data: DataFile, rows: np.ndarray) -> np.ndarray:
    """In how many of the rows each pixel was changed, and is known; int64 (2, S, S)."""
    sums = np.zeros((2, data.size, data.size), np.int64)
    assert data.masks is not None
    for start in range(0, len(rows), _ROWS):
        values = np.asarray(data.masks[rows[start:start + _ROWS]])
        sums += (values == CHANGED).sum(0), (values != UNKNOWN).sum(0)
        watchdog.advance()
    return sums


def training_file(model: Path, card: Card) -> DataFile | None:
    """The data file that a model was trained on, if it is still there and has masks that fit."""
    try:
        config = json_data.read(find(model).parent / "config.json")
        data = open_data(Path(config["data"]), card.feature, "read")
    except (InputError, OSError, ValueError, KeyError, TypeError):
        return None
    return data if data.masks is not None and data.header.parameters == card.parameters else None
