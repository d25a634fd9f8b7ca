"""From files to probabilities, in batches; prepared as the model's training data were."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc_deepfake.core.text import plural
from hpc_deepfake.network import decision
from hpc_deepfake.network.card import Card
from hpc_deepfake.network.guard import UNLIKE, Guard
from hpc_deepfake.network.scoring import located
from hpc_deepfake.network.scoring import scores as scores_of
from hpc_deepfake.predict.inputs import is_video
from hpc_deepfake.predict.output import Row
from hpc_deepfake.predict.where import Where, gives_map
from preprocessing import facts, pixels
from preprocessing.ela import box_of, features_of_pixels
from preprocessing.faces import Box
from preprocessing.facts import Facts
from preprocessing.picture import Rejected, decode, read
from preprocessing.sample import is_drawn

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


def blocks(paths: Sequence[bytes], ranks: int, most: int = BATCH) -> list[Block]:
    """The list in blocks of at most this many files, small enough that every rank gets some."""
    size = max(1, min(most, len(paths) // (4 * ranks)) if ranks > 1 else most)
    divided: list[Block] = []
    for place, path in enumerate(paths, 1):
        last = divided[-1].paths if divided else []
        if not last or len(last) == size or is_video(path) or is_video(last[0]):
            divided.append(Block(place, []))
        divided[-1].paths.append(path)
    return divided


@dataclass(frozen=True)
class Prepared:
    """A picture as the network takes it, and what the model knows of it.

    Attributes:
        feature: uint8 (S, S, channels), red-green-blue; S as the card says.
        unlike: reasons why it is unlike the model's training pictures.
        notes: such as that it is one of them.
        size: height and width of the picture, pixels.
        box: top, left, bottom and right (exclusive) of the part of it that ``feature`` shows; None:
            all of it.
    """

    feature: np.ndarray
    unlike: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    size: tuple[int, int] = (0, 0)
    box: Box | None = None


def of_file(path: bytes, card: Card, guard: Guard | None = None) -> Prepared:
    """A picture file, prepared as the training data of the card's model were.

    Raises:
        Rejected: it can't be used, and why.
    """
    return of_data(read(path), card, guard, path)


def of_data(data: bytes, card: Card, guard: Guard | None = None,
            path: bytes | None = None) -> Prepared:
    """``of_file`` of a file's contents; ``path`` is named in remarks of the decoder."""
    known = facts.of(data)
    with pixels.taken(known.width, known.height):
        return of_pixels(decode(data, path), card, guard, known, facts.digest(data),
                         is_drawn(data))


def of_pixels(pixels: np.ndarray, card: Card, guard: Guard | None = None,
              known: Facts | None = None, digest: bytes | None = None,
              drawn: bool | None = None, box: Box | None = None) -> Prepared:
    """``of_file`` of decoded pixels.

    Args:
        pixels: uint8 (height, width, 3), blue-green-red.
        card: of the model.
        guard: what the model knows of its training pictures; None: nothing is compared.
        known: facts of the picture's file; None: there is none.
        digest: of the file, as of ``facts.digest``.
        drawn: whether the file says that ``hpc-deepfake sample`` drew it.
        box: the part that the model sees, where it is known, as of ``ela.box_of``.

    Raises:
        Rejected: it can't be used, and why.
    """
    size = (pixels.shape[0], pixels.shape[1])
    box = box_of(pixels, card.parameters, box)
    if guard is None:
        return Prepared(features_of_pixels(pixels, (card.feature,), card.parameters, box)[0],
                        size=size, box=box)
    feature, raw = guard.features(pixels, card, box)
    return Prepared(feature, guard.unlike(feature, raw, known, drawn),
                    guard.seen(digest, feature, feature if raw is None else raw), size, box)


def prepare(path: bytes, card: Card, guard: Guard | None = None) -> Prepared | Rejected | None:
    """A picture, or why it can't be used; None for a video, whose frames are read when they are
    scored."""
    if is_video(path):
        return None
    try:
        return of_file(path, card, guard)
    except Rejected as reason:
        return reason


def pictures(network: Any, card: Card, paths: Sequence[bytes],
             prepared: Sequence[Prepared | Rejected | None]) -> list[Row]:
    """A row for each picture, none of them a video; with its map, if the network gives one
    (``where.with_map``)."""
    scores = iter(_scores(network, card, [picture for picture in prepared
                                          if isinstance(picture, Prepared)]))
    return [judged(card, path, *next(scores), picture) if isinstance(picture, Prepared)
            else Row(path, None, f"not read: {picture}")
            for path, picture in zip(paths, prepared, strict=True)]


def video(network: Any, card: Card, path: bytes, count: int, rate: float | None,
          guard: Guard | None = None,
          shown: Callable[[int, Row, np.ndarray], None] | None = None) -> list[Row]:
    """A row for each sampled frame, and one for the whole video, from the frames' probabilities.

    The video is unlike the training pictures if more than half of its frames are. Frames that can't
    be used, such as those without the face that is followed through the video, don't count.

    Args:
        network: maps a batch of features to probabilities (n, 2), or to these and maps.
        card: the network's.
        path: of the video.
        count: number of frames, as in ``preprocessing.video.sample``.
        rate: frames per second instead, as in ``preprocessing.video.sample``.
        guard: what the model knows of its training pictures; None: nothing is compared.
        shown: is called for each frame, while it is in memory, with its number, from 1, its row,
            and its pixels, uint8 (height, width, 3), blue-green-red.
    """
    from hpc_deepfake.predict.clip import verdict
    from preprocessing.tracks import sample

    rows: list[Row] = []
    scores: list[float] = []
    try:
        kind, digest = facts.FORMATS[0], b""
        for batch in _batches(sample(path, count, rate, card.parameters)):
            if not rows and guard is not None:
                kind, digest = _file(path)
            frames = [_frame(frame, card, guard, kind, digest) for frame in batch]
            found = iter(_scores(network, card, [prepared for prepared in frames
                                                 if not isinstance(prepared, Rejected)]))
            for frame, prepared in zip(batch, frames, strict=True):
                if isinstance(prepared, Rejected):
                    rows.append(Row(path, None, f"not read: {prepared}", "frame", frame.seconds))
                    continue
                score, levels = next(found)
                scores.append(score)
                rows.append(judged(card, path, score, levels, prepared, "frame", frame.seconds))
                if shown is not None:
                    shown(len(rows), rows[-1], frame.pixels)
        if not scores:
            raise Rejected(rows[0].verdict.removeprefix("not read: ") if rows else "no frames")
    except Rejected as reason:
        return [*rows, Row(path, None, f"not read: {reason}", "video")]
    unlike = [row.unlike for row in rows if row.unlike]
    most = 2 * len(unlike) > len(scores)
    whole = Prepared(
        np.empty(0), (f"{len(unlike)} of {plural(len(scores), 'frame')} unlike the training "
                      f"pictures, the first: {'; '.join(unlike[0])}",) if most else (),
        tuple(dict.fromkeys(note for row in rows for note in row.notes)))
    areas = [row.changed_area for row in rows if row.changed_area is not None]
    return [*rows, replace(judged(card, path, verdict(scores), None, whole, "video"),
                           changed_area=sum(areas) / len(areas) if areas else None)]


def _frame(frame: Frame, card: Card, guard: Guard | None, kind: str,
           digest: bytes) -> Prepared | Rejected:
    """A frame of a video of this format and digest, or why it can't be used."""
    try:
        return of_pixels(frame.pixels, card, guard,
                         Facts(frame.pixels.shape[1], frame.pixels.shape[0], kind), digest, False,
                         frame.box)
    except Rejected as reason:
        return reason


def _file(path: bytes) -> tuple[str, bytes]:
    """Format and digest of a video file."""
    try:
        return facts.kind_of_file(path), facts.digest_of_file(path)
    except OSError as error:
        raise Rejected(f"cannot be read: {error.strerror}") from None


def _batches(frames: Iterator[Frame]) -> Iterator[list[Frame]]:
    # a frame may take 100 MB: few at a time
    while batch := list(islice(frames, BATCH // 4)):
        yield batch


def _scores(network: Any, card: Card, prepared: Sequence[Prepared]
            ) -> list[tuple[float, np.ndarray | None]]:
    """Calibrated probabilities of pictures, each with its map, uint8 (S, S), if there are any."""
    if not prepared:
        return []
    features = [picture.feature for picture in prepared]
    if gives_map(network):
        found, maps = located(network, features)
        levels: list[np.ndarray | None] = list(maps)
    else:
        found, levels = scores_of(network, features), [None] * len(features)
    return list(zip(decision.calibrated(card, found).tolist(), levels, strict=True))


def judged(card: Card, path: bytes, probability: float, levels: np.ndarray | None,
           prepared: Prepared, kind: str = "picture", seconds: float | None = None) -> Row:
    """The row of a picture, frame or video that has a probability, which is calibrated, and perhaps
    a map, uint8 (S, S)."""
    where = None if levels is None or card.mask_threshold is None else \
        Where(levels, card.mask_threshold, prepared.size, prepared.box)
    return Row(path, probability,
               UNLIKE if prepared.unlike else decision.verdict(card, probability), kind, seconds,
               prepared.unlike, prepared.notes, None if where is None else where.area, where)
