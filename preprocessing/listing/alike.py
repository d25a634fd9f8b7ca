"""Whether pictures that are named like frames of a video look like them: neighbours in a series
resemble each other more than pictures of different series do."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from preprocessing import picture

PAIRS = 24  # pairs of neighbours that are compared, and as many of strangers
_FROM = 0.85  # share of comparisons in which neighbours are more alike; 0.5 is chance
_HALF = 0.6  # share of pairs that differ by less than half of what a stranger differs by
_LEAST = 4  # pairs that must be readable
_SIDE = 16  # of the thumbnails, pixels
_MOST = 32 << 20  # bytes of a picture that is looked at


def frames(series: Sequence[Sequence[bytes]], pairs: int = PAIRS) -> bool | None:
    """Whether the pictures of each series look like frames of one video.

    Args:
        series: file names, in the order of their numbers; of a single series, neighbours are
            compared with pictures far from each other.
        pairs: number of pairs of neighbours to compare, about.

    Returns:
        None if too few pictures can be read.
    """
    alone = len(series) == 1
    chosen = [series[at] for at in np.unique(np.linspace(0, len(series) - 1, pairs, dtype=int))]
    each = -(-pairs // len(chosen))
    neighbours, strangers = [], []
    for number, files in enumerate(chosen):
        other = files if alone else chosen[(number + 1) % len(chosen)]
        for at in np.unique(np.linspace(0, len(files) - 2, each, dtype=int)):
            far = (at + len(files) // 2) % len(files) if alone else at * len(other) // len(files)
            first, second, third = (thumbnail(name) for name in (files[at], files[at + 1],
                                                                  other[far]))
            if first is None or second is None or third is None:
                continue
            neighbours.append(np.abs(first - second).mean())
            strangers.append(np.abs(first - third).mean())
    if len(neighbours) < min(_LEAST, len(chosen)):
        return None
    near, far_apart = np.array(neighbours)[:, None], np.array(strangers)[None]
    wins = (near < far_apart).mean() + (near == far_apart).mean() / 2
    half = (np.array(neighbours) < np.array(strangers) / 2).mean()
    return bool(wins >= _FROM and half >= _HALF)


def thumbnail(name: bytes) -> np.ndarray | None:
    """Grey levels, float32 (16, 16); None if the file can't be used."""
    try:
        data = picture.read(name)
        if len(data) > _MOST:
            return None
        grey = cv2.cvtColor(picture.decode(data), cv2.COLOR_BGR2GRAY)
    except picture.Rejected:
        return None
    return cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
