"""From files to probabilities: prepared as the model's training data were, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from hpc_deepfake.network.model import Card
from hpc_deepfake.network.scoring import probabilities
from hpc_deepfake.predict.inputs import is_video
from hpc_deepfake.predict.output import Row
from preprocessing.catalogue import LABELS
from preprocessing.ela import features_of_pixels
from preprocessing.picture import Rejected, decode, read

BATCH = 32


@dataclass(frozen=True)
class Block:
    """Consecutive files of the list, done by one rank: up to ``BATCH`` pictures, or one video.

    ``first`` is the place of the first one in the list, from 1.
    """

    first: int
    paths: list[bytes]


def blocks(paths: Sequence[bytes], ranks: int) -> list[Block]:
    """The list in blocks, small enough that each of ``ranks`` has some."""
    size = max(1, min(BATCH, len(paths) // (4 * ranks)) if ranks > 1 else BATCH)
    found: list[Block] = []
    for place, path in enumerate(paths, 1):
        last = found[-1].paths if found else []
        if not last or len(last) == size or is_video(path) or is_video(last[0]):
            found.append(Block(place, []))
        found[-1].paths.append(path)
    return found


def prepare(block: Block, card: Card) -> list[np.ndarray | Rejected]:
    """Of each picture uint8 (128, 128, 3) red-green-blue, or why it can't be used; a video's
    frames wait until they are scored."""
    if is_video(block.paths[0]):
        return []
    found: list[np.ndarray | Rejected] = []
    for path in block.paths:
        try:
            found += features_of_pixels(decode(read(path)), (card.feature,), card.parameters)
        except Rejected as reason:
            found.append(reason)
    return found


def pictures(network: Any, card: Card, block: Block,
             prepared: Sequence[np.ndarray | Rejected]) -> list[Row]:
    """A row for each picture of a block."""
    scores = iter(probabilities(network, [one for one in prepared
                                          if not isinstance(one, Rejected)]))
    return [Row(path, None, f"not read: {one}") if isinstance(one, Rejected)
            else said(card, path, next(scores))
            for path, one in zip(block.paths, prepared, strict=True)]


def video(network: Any, card: Card, path: bytes, count: int, rate: float | None) -> list[Row]:
    """A row for each frame looked at, and one for the clip, from the frames' probabilities.

    Args:
        count, rate: how many frames, as in ``preprocessing.video.sample``.
    """
    from hpc_deepfake.predict.clip import verdict
    from preprocessing.video import sample

    rows: list[Row] = []
    try:
        for batch in _batches(sample(path, count, rate)):
            features = [features_of_pixels(frame.pixels, (card.feature,), card.parameters)[0]
                        for frame in batch]
            rows += [said(card, path, score, "frame", frame.seconds) for frame, score
                     in zip(batch, probabilities(network, features), strict=True)]
        if not rows:
            raise Rejected("no frames")
    except Rejected as reason:
        return [*rows, Row(path, None, f"not read: {reason}", "video")]
    return [*rows, said(card, path, verdict([row.probability for row in rows]), "video")]


def _batches(frames: Iterator[Any]) -> Iterator[list[Any]]:
    # a frame may take 100 MB: few at a time
    while batch := list(islice(frames, BATCH // 4)):
        yield batch


def said(card: Card, path: bytes, probability: float, kind: str = "picture",
         seconds: float | None = None) -> Row:
    """The row of something that has a probability."""
    return Row(path, probability, LABELS[int(probability >= card.threshold)], kind, seconds)
