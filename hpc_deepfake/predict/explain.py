"""Which areas of a picture influenced the prediction: occlusion sensitivity."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from hpc_deepfake.network.scoring import Scores, launcher
from preprocessing.ela import at_once

CELLS = 16  # along a side: a patch covers two by two
_BATCH = 32  # pictures of 128 × 128


def occlusion(network: Any, picture: np.ndarray) -> np.ndarray:
    """How much each area contributes to "tampered": the loss of log-odds when it is hidden.

    A patch of an eighth of each side, 16 × 16 pixels of 128 × 128, is covered with the picture's
    mean colour, at each place of a grid with half that step, and the network predicts again (Zeiler
    & Fergus 2014, section 4.2). The value of a pixel is the mean over the patches that covered it.

    Why not gradients: Grad-CAM (Selvaraju et al. 2017) averages gradients over the places of a
    feature map, but behind this network's flattened dense layer every place has weights of its
    own; gradient × input is zero wherever the error level is, whatever the network made of that.
    Hiding an area measures its influence directly. Limits: it misses areas that matter only
    together with others, it shows what influenced this network and not where a picture was
    changed, and it costs 225 predictions for each picture.

    Args:
        network: maps a batch of pictures to probabilities (n, 2), or to these and maps.
        picture: the network's input, uint8 (S, S, channels), S at least 16.

    Returns:
        float64 (S, S): positive where an area is evidence for tampered, negative for
        authentic.
    """
    size = len(picture)
    patch, most = -(-2 * size // CELLS), at_once(_BATCH, size)
    starts = np.linspace(0, size - patch, CELLS - 1).round().astype(int).tolist()
    places = list(product(starts, starts))
    unhidden = _log_odds(network, picture[None])[0]
    cover = np.round(picture.mean(axis=(0, 1))).astype(np.uint8)
    total, covered = np.zeros((2, size, size))
    for start in range(0, len(places), most):
        batch = places[start:start + most]
        hidden = np.repeat(picture[None], len(batch), axis=0)
        for pixels, (top, left) in zip(hidden, batch, strict=True):
            pixels[top:top + patch, left:left + patch] = cover
        for (top, left), value in zip(batch, _log_odds(network, hidden), strict=True):
            total[top:top + patch, left:left + patch] += unhidden - value
            covered[top:top + patch, left:left + patch] += 1
    return total / covered


def _log_odds(network: Any, pictures: np.ndarray) -> np.ndarray:
    """log(tampered / authentic), float64 (n): unlike a probability it doesn't saturate at 1."""
    given = launcher(network)(pictures)
    return Scores.of(given[0] if isinstance(given, list) else given).odds  # a map follows
