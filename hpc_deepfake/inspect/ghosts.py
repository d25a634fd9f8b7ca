"""JPEG ghosts: regions that were once compressed at a lower quality than the rest (H. Farid,
"Exposing Digital Forgeries from JPEG Ghosts", IEEE Transactions on Information Forensics and
Security 4, 2009).

The picture is compressed again at each quality of a range. Where a region was compressed at that
very quality before, it changes less than at the qualities on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hpc_deepfake.inspect import tables
from hpc_deepfake.inspect.blocks import SIDE

QUALITIES = tuple(range(40, 99, 2))
_APART = 3  # places in QUALITIES of the neighbours that a quality is compared with
_WINDOW = 3  # blocks, down and across, over which differences are averaged
_CHUNK = 32  # rows of blocks at a time
_DIP = 0.35  # depth of a dip that counts
_CLEAR = 0.55  # difference of the depths inside and outside that counts
_CLEARER = 0.65  # where the whole picture has a dip at another quality than its own
_FLAT = 0.2  # squared levels: below it a place is too flat to show anything
_OWN = 4  # qualities around the file's own, at which the whole picture has a dip anyway
_LEAST, _MOST = 0.006, 0.6  # share of the picture that a ghost covers
_DRAWN = 0.4  # share of a ghost's blocks that may be drawn


@dataclass(frozen=True)
class Ghosts:
    """Differences by quality.

    Attributes:
        qualities: of the recompressions.
        mean: float (qualities), mean squared difference in levels.
        maps: float32 (qualities, rows, columns) of blocks: the differences, normalised to 0…1
            over the qualities in each place (Farid's equation 5).
        ghost: the ghost found in some area only, if any.
    """

    qualities: tuple[int, ...]
    mean: np.ndarray
    maps: np.ndarray
    ghost: Ghost | None


@dataclass(frozen=True)
class Ghost:
    """An area that changes less than its surroundings at one quality.

    Attributes:
        quality: of the recompression.
        share: of the picture's blocks.
        mask: bool (rows, columns) of blocks.
        score: how clear it is: depth of the dip inside less that outside.
    """

    quality: int
    share: float
    mask: np.ndarray
    score: float


def analyse(values: np.ndarray, own: int | None = None, drawn: np.ndarray | None = None
            ) -> Ghosts:
    """Compress the luminance again at all ``QUALITIES``, on the same grid, and compare.

    The DCT is orthonormal, so squared differences of coefficients are those of pixels, except for
    the rounding of pixels. The mean of each block is left out: in smooth places nothing else is
    there, and it is a multiple of many steps by chance.

    Args:
        values: DCT coefficients from ``blocks.coefficients``.
        own: quality of the file's luminance table, or of an earlier one of the whole picture if it
            is not a JPEG file; None: there is none.
        drawn: bool (rows, columns): blocks in which a dip shows nothing.
    """
    steps = [tables.ijg(quality).astype(np.float32)[:, None, :] for quality in QUALITIES]
    energy = np.empty((len(QUALITIES), values.shape[0], values.shape[2]), np.float32)
    for top in range(0, len(values), _CHUNK):
        part = values[top:top + _CHUNK]
        for number, step in enumerate(steps):
            error = part / step
            error[:, 0, :, 0] = 0
            error -= np.rint(error)
            error *= step
            np.einsum("ruck,ruck->rc", error, error, out=energy[number, top:top + _CHUNK])
    energy /= SIDE**2
    smooth = np.stack([cv2.blur(one, (_WINDOW, _WINDOW)) for one in energy]).clip(0)
    low, high = smooth.min(0), smooth.max(0)
    return Ghosts(QUALITIES, energy.mean((1, 2)), (smooth - low) / np.maximum(high - low, 1e-6),
                  _ghost(smooth, own, drawn))


def _ghost(smooth: np.ndarray, own: int | None, drawn: np.ndarray | None) -> Ghost | None:
    best: Ghost | None = None
    dips = {number: depth(smooth, number)
            for number in range(_APART, len(QUALITIES) - _APART)}
    if own is not None:  # at which the picture changes only where it is clipped
        dips = {number: dip for number, dip in dips.items()
                if abs(QUALITIES[number] - own) > _OWN}
    whole = any(np.median(dip) > _DIP for dip in dips.values())
    for number, dip in dips.items():
        mask = (cv2.medianBlur((dip > _DIP).astype(np.uint8), 5) > 0)
        count, labels, areas, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
        if count < 2:
            continue
        largest = 1 + int(areas[1:, cv2.CC_STAT_AREA].argmax())
        area = labels == largest
        share = float(area.mean())
        if not _LEAST <= share <= _MOST or area.sum() < 16:
            continue
        if drawn is not None and drawn[area].mean() > _DRAWN:
            continue
        outside = float(np.median(dip[~area]))
        score = float(np.median(dip[area])) - outside
        if score <= (_CLEARER if whole else _CLEAR) or abs(outside) >= _DIP:
            continue  # outside there can be the opposite of a dip, where two steps are one
        if best is None or score * share**0.5 > best.score * best.share**0.5:
            best = Ghost(QUALITIES[number], share, area, score)
    return best


def depth(smooth: np.ndarray, number: int) -> np.ndarray:
    """How far the difference at one quality is below those at both sides, relative to them; 0: on
    the line between them."""
    around = np.sqrt(smooth[number - _APART] * smooth[number + _APART]) + _FLAT
    return np.asarray(1 - (smooth[number] + _FLAT) / around)
