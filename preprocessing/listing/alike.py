"""Whether pictures that are named like frames of a video look like them: neighbours in a series
resemble each other more than pictures of different series do."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from hpc_deepfake.core import watchdog
from preprocessing import picture

PAIRS = 24  # pairs of neighbours that are compared, and as many of strangers
_FROM = 0.85  # share of comparisons in which neighbours are more alike; 0.5 is chance
_HALF = 0.6  # share of pairs that differ by less than half of what a stranger differs by
_LEAST = 4  # pairs that must be readable
_CLEARLY_NOT = 0.7, 0.35  # shares as above, below both of which pictures are not frames
_ENOUGH = 3  # pairs on which some series are judged apart from the others
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


def kinds(units: Sequence[Sequence[Sequence[bytes]]]) -> list[bool | None]:
    """Whether pictures look like frames, for each of several kinds of series.

    Neighbours in a series are compared with pictures of the other series of all kinds. A kind that
    is neither clearly frames nor clearly not is what all of them together are.

    Args:
        units: of each kind, its series, as in ``frames``.

    Returns:
        For each kind; None if too few pictures can be read.
    """
    every = [files for series in units for files in series]
    if len(every) == 1:
        return [frames(every)]
    spread = np.unique(np.linspace(0, len(every) - 1, PAIRS, dtype=int)).tolist()
    strangers = {at: shown for at in spread
                 for shown in (thumbnail(every[at][len(every[at]) // 2]),) if shown is not None}
    found: list[tuple[np.ndarray, np.ndarray]] = []
    start = 0
    for series in units:
        pairs = max(_LEAST, PAIRS // len(units))
        chosen = np.unique(np.linspace(0, len(series) - 1, pairs, dtype=int)).tolist()
        near, far = [], []
        for number in chosen:
            watchdog.advance()
            files = series[number]
            others = np.array([shown for at, shown in strangers.items() if at != start + number])
            for at in np.unique(np.linspace(0, len(files) - 2, -(-pairs // len(chosen)),
                                            dtype=int)).tolist():
                first, second = thumbnail(files[at]), thumbnail(files[at + 1])
                if first is not None and second is not None and len(others):
                    near.append(np.abs(first - second).mean())
                    far.append(np.abs(others - first).mean((1, 2)))
        start += len(series)
        both = list(zip(near, far, strict=True))
        found.append((np.array([((value < values).mean() + (value <= values).mean()) / 2
                                for value, values in both]),
                      np.array([value < np.median(values) / 2 for value, values in both])))
    wins, half = (np.concatenate([each[at] for each in found]) for at in range(2))
    together = bool(wins.mean() >= _FROM and half.mean() >= _HALF) \
        if len(wins) >= min(_LEAST, len(every)) else None
    return [_verdict(*each, together) for each in found]


def _verdict(wins: np.ndarray, half: np.ndarray, together: bool | None) -> bool | None:
    if len(wins) < _ENOUGH:
        return together
    if wins.mean() >= _FROM and half.mean() >= _HALF:
        return True
    if wins.mean() < _CLEARLY_NOT[0] and half.mean() < _CLEARLY_NOT[1]:
        return False
    return together


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
