"""From files to probabilities, in batches; prepared as the model's training data were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc_deepfake.network import decision
from hpc_deepfake.network.model import Card
from hpc_deepfake.network.scoring import probabilities
from hpc_deepfake.predict.inputs import is_video
from hpc_deepfake.predict.output import Row
from preprocessing.ela import features_of_pixels
from preprocessing.picture import Rejected, decode, read

if TYPE_CHECKING:
    from preprocessing.video import Frame

BATCH = 32


@dataclass(frozen=True)
class Block:
    """Consecutive files of the list, processed by one rank: up to ``BATCH`` pictures or one video.

    Attributes:
        first: position of its first file in the list, from 1.
        paths: of the files.
    """

    first: int
    paths: list[bytes]


def blocks(paths: Sequence[bytes], ranks: int) -> list[Block]:
    """The list in blocks, small enough that every rank gets some."""
    size = max(1, min(BATCH, len(paths) // (4 * ranks)) if ranks > 1 else BATCH)
    divided: list[Block] = []
    for place, path in enumerate(paths, 1):
        last = divided[-1].paths if divided else []
        if not last or len(last) == size or is_video(path) or is_video(last[0]):
            divided.append(Block(place, []))
        divided[-1].paths.append(path)
    return divided


def prepare(block: Block, card: Card) -> list[np.ndarray | Rejected]:
    """Each picture's feature, uint8 (128, 128, 3) red-green-blue, or why it can't be used.

    Empty for a video, whose frames are read when they are scored.
    """
    if is_video(block.paths[0]):
        return []
    features: list[np.ndarray | Rejected] = []
    for path in block.paths:
        try:
            features += features_of_pixels(
                decode(read(path), path), (card.feature,), card.parameters)
        except Rejected as reason:
            features.append(reason)
    return features


def pictures(network: Any, card: Card, block: Block,
             prepared: Sequence[np.ndarray | Rejected]) -> list[Row]:
    """A row for each picture of a block."""
    scores = iter(_scores(network, card, [feature for feature in prepared
                                          if not isinstance(feature, Rejected)]))
    return [Row(path, None, f"not read: {feature}") if isinstance(feature, Rejected)
            else judged(card, path, next(scores))
            for path, feature in zip(block.paths, prepared, strict=True)]


def video(network: Any, card: Card, path: bytes, count: int, rate: float | None) -> list[Row]:
    """A row for each sampled frame, and one for the whole video, from the frames' probabilities.

    Args:
        network: maps a batch of features to probabilities (n, 2).
        card: the network's.
        path: of the video.
        count: number of frames, as in ``preprocessing.video.sample``.
        rate: frames per second instead, as in ``preprocessing.video.sample``.
    """
    from hpc_deepfake.predict.clip import verdict
    from preprocessing.video import sample

    rows: list[Row] = []
    scores: list[float] = []
    try:
        for batch in _batches(sample(path, count, rate)):
            features = [features_of_pixels(frame.pixels, (card.feature,), card.parameters)[0]
                        for frame in batch]
            scores += _scores(network, card, features)
            rows += [judged(card, path, score, "frame", frame.seconds) for frame, score
                     in zip(batch, scores[-len(batch):], strict=True)]
        if not rows:
            raise Rejected("no frames")
    except Rejected as reason:
        return [*rows, Row(path, None, f"not read: {reason}", "video")]
    return [*rows, judged(card, path, verdict(scores), "video")]


def _batches(frames: Iterator[Frame]) -> Iterator[list[Frame]]:
    # a frame may take 100 MB: few at a time
    while batch := list(islice(frames, BATCH // 4)):
        yield batch


def _scores(network: Any, card: Card, features: Sequence[np.ndarray]) -> list[float]:
    """Calibrated probabilities of features."""
    return decision.calibrated(card, np.array(probabilities(network, features))).tolist()


def judged(card: Card, path: bytes, probability: float, kind: str = "picture",
           seconds: float | None = None) -> Row:
    """The row of a picture, frame or video that has a probability, which is calibrated."""
    return Row(path, probability, decision.verdict(card, probability), kind, seconds)
