"""A trained model in Python: what ``hpc_deepfake.load`` returns."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, Union

import numpy as np
from PIL import Image

from hpc_deepfake.core.log import log
from hpc_deepfake.data.rows import prefetch
from hpc_deepfake.network import decision, device, model
from hpc_deepfake.network.guard import Guard
from hpc_deepfake.predict import inputs, scoring
from hpc_deepfake.predict.inputs import RATES
from hpc_deepfake.predict.where import Where, with_map
from preprocessing import facts
from preprocessing.leftout import LeftOut
from preprocessing.names import FRAMES
from preprocessing.picture import Rejected, of_image

if TYPE_CHECKING:
    from hpc_deepfake.network.card import Card
    from hpc_deepfake.predict.output import Row
    from hpc_deepfake.predict.scoring import Prepared

Picture: TypeAlias = Union[str, os.PathLike[str], bytes, np.ndarray, Image.Image]  # noqa: UP007


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for a picture, a frame of a video or a whole video, as a row of
    ``hpc-deepfake predict``.

    Attributes:
        path: of the file; None for a picture from memory.
        probability: of tampered; None if the file couldn't be read.
        verdict: ``authentic``, ``tampered``, ``undecided``, ``unlike training``, or
            ``not read: …``.
        kind: ``picture``, ``frame`` or ``video``.
        seconds: a frame's time in its video.
        unlike: reasons why it is unlike the model's training pictures: its probability means
            nothing then.
        notes: what else the model knows of it, such as that it was trained on it.
        changed_area: share of it that the model calls changed, of a video the mean of its frames';
            None: the model doesn't say where.
        where: the model's map of a picture or frame; None: the model has none.
    """

    path: str | None
    probability: float | None
    verdict: str
    kind: str
    seconds: float | None
    unlike: tuple[str, ...]
    notes: tuple[str, ...]
    changed_area: float | None = None
    where: Where | None = field(default=None, compare=False, repr=False)

    @property
    def map(self) -> np.ndarray | None:
        """Where it was changed, to the model: the probability of each pixel times 255, uint8
        (S, S), of the picture resized to the S × S that the network reads; None: the model has no
        map. ``where.at_own_size()`` has the picture's own size."""
        return None if self.where is None else self.where.levels


class Model:
    """A trained model, as of ``hpc_deepfake.load``.

    Attributes:
        path: of its ``.keras`` file.
        card: what it knows of itself: its feature, threshold, training pictures and figures.
        caveats: what must be said beside its verdicts.
    """

    def __init__(self, run: str | os.PathLike[str], device_choice: str = "auto",
                 threshold: float | tuple[float, float] | None = None) -> None:
        """As ``hpc_deepfake.load``."""
        if device_choice not in device.CHOICES:
            raise ValueError(f"device is one of {', '.join(device.CHOICES)}, not {device_choice}")
        if not isinstance(run, str | os.PathLike):
            raise TypeError("run is the path of a run directory or of a .keras file, not "
                            f"{run!r}")
        thresholds = _thresholds(threshold)
        self.path = model.find(Path(run))
        card = model.card_for_pictures(self.path)
        self.card: Card = decision.in_use(card, thresholds)
        with suppress(RuntimeError):  # TensorFlow is at work already, with its own settings
            device.start(device_choice)
        self._network = with_map(model.load(self.path), self.card)
        self._guard = Guard.of(card, self.path)
        self._one = Lock()  # an image of Pillow is read by one thread at a time

    @property
    def caveats(self) -> tuple[str, ...]:
        return (*decision.caveats(self.card), *self._guard.caveats)

    def __repr__(self) -> str:
        return "\n".join([f"{self.path}: {self.card.feature}", *self.caveats])

    def predict(self, pictures: Picture | Iterable[Picture], *, frames: int = FRAMES,
                frame_rate: float | None = None) -> Iterator[Prediction]:
        """Predictions for pictures and videos, with the results of ``hpc-deepfake predict``.

        They are computed as they are asked for, 32 pictures at a time, while the next ones are
        read: a folder of any size takes no more memory, and ``itertools.islice`` takes the first.
        A file that can't be read gets a prediction without probability, and the reason.

        Args:
            pictures: one picture, or any number of them: a path of a picture, of a video or of a
                folder, whose pictures and videos are all taken, sorted; the contents of a picture
                file, bytes; an array, uint8 (height, width, 3) red-green-blue or (height, width)
                grey; or an image of Pillow. Of an array only the pixels are known, of an image that
                Pillow has opened also the file's format, size and JPEG quality: not whether it is
                a training picture's file.
            frames: number of frames to predict of each video, evenly spread.
            frame_rate: frames per second to predict instead.

        Yields:
            A prediction for each picture, in the order given. For each video one for each frame,
            then one for all of it.

        Raises:
            TypeError: of what is given, something is no picture.
            ValueError: ``frames`` or ``frame_rate`` is impossible; raised at once.
        """
        if not isinstance(frames, int) or frames < 1:
            raise ValueError(f"frames={frames!r}: give a whole number from 1")
        if frame_rate is not None and not (isinstance(frame_rate, int | float)
                                           and RATES[0] <= frame_rate <= RATES[1]):
            raise ValueError(f"frame_rate={frame_rate!r}: give frames per second, from {RATES[0]} "
                             f"to {RATES[1]}")
        return self._predict(pictures, frames, frame_rate)

    def _predict(self, pictures: Picture | Iterable[Picture], frames: int,
                 frame_rate: float | None) -> Iterator[Prediction]:
        threads = device.cores()
        for block in _blocks(prefetch(self._prepared, _flat(pictures),
                                      ahead=max(scoring.BATCH, threads), threads=threads)):
            paths, prepared = zip(*block, strict=True)
            if prepared[0] is None:
                rows = scoring.video(self._network, self.card, paths[0], frames, frame_rate,
                                     self._guard)
            else:
                rows = scoring.pictures(self._network, self.card, paths, prepared)
            yield from map(_prediction, rows)

    def _prepared(self, item: _Item) -> _Prepared:
        """The path of a picture, and the picture as the network takes it; None for a video, whose
        frames are read when they are scored."""
        path = item if isinstance(item, bytes) else b""
        if inputs.is_video(path):
            return path, None
        try:
            return path, self._of(item)
        except Rejected as reason:
            return path, reason

    def _of(self, item: _Item) -> Prepared:
        if isinstance(item, bytes):
            return scoring.of_file(item, self.card, self._guard)
        if isinstance(item.content, bytes):
            return scoring.of_data(item.content, self.card, self._guard)
        with self._one:
            pixels, known = of_image(item.content), facts.of_image(item.content)
        return scoring.of_pixels(pixels, self.card, self._guard, known)


class _Memory(NamedTuple):
    """A picture that has no path: a file's contents, or an image."""

    content: bytes | Image.Image


_Item: TypeAlias = bytes | _Memory  # a path, or a picture from memory
_Prepared: TypeAlias = "tuple[bytes, Prepared | Rejected | None]"  # as of ``Model._prepared``


def _flat(pictures: object) -> Iterator[_Item]:
    """All pictures and videos in what ``predict`` was given."""
    if isinstance(pictures, str | os.PathLike):
        left = LeftOut()
        yield from inputs.files(os.fsencode(pictures), left)
        for note in left.notes():
            (log.warning if left.named else log.info)("%s", note)
    elif isinstance(pictures, bytes | Image.Image):
        yield _Memory(pictures)
    elif isinstance(pictures, np.ndarray) and pictures.ndim < 4:
        if pictures.dtype != np.uint8 or pictures.shape[2:] not in ((), (3,)) or pictures.ndim < 2:
            raise TypeError(f"an array of {pictures.dtype} {pictures.shape} is no picture: give "
                            "uint8 (height, width, 3), red-green-blue, or (height, width), grey")
        if not pictures.size:
            raise TypeError(f"an array {pictures.shape} has no pixels")
        yield _Memory(Image.fromarray(pictures.copy()))  # which the caller may use for the next
    elif isinstance(pictures, Iterable):
        for picture in pictures:
            yield from _flat(picture)
    else:
        raise TypeError(f"{type(pictures).__name__} is no picture: give a path, the contents of a "
                        "file, an array or an image of Pillow, or several of them")


def _blocks(items: Iterator[_Prepared]) -> Iterator[list[_Prepared]]:
    """Up to ``scoring.BATCH`` pictures, or one video, at a time."""
    block: list[_Prepared] = []
    for item in items:
        if block and item[1] is None:
            yield block
            block = []
        block.append(item)
        if item[1] is None or len(block) == scoring.BATCH:
            yield block
            block = []
    if block:
        yield block


def _prediction(row: Row) -> Prediction:
    return Prediction(os.fsdecode(row.path) if row.path else None, row.probability, row.verdict,
                      row.kind, row.seconds, row.unlike, row.notes, row.changed_area, row.where)


def _thresholds(threshold: float | tuple[float, float] | None) -> decision.Thresholds | None:
    """As of ``decision.in_use``.

    Raises:
        ValueError: they aren't in order, or outside of 0 to 1.
    """
    if threshold is None:
        return None
    lower, upper = threshold if isinstance(threshold, tuple) and len(threshold) == 2 \
        else (None, threshold)
    ends = (upper if lower is None else lower, upper)
    if not (all(isinstance(end, int | float) for end in ends) and 0 <= ends[0] <= ends[1] <= 1):
        raise ValueError(f"threshold {threshold!r}: give a probability from 0 to 1, or two of "
                         "them, the lower one first, for undecided in between")
    return lower, upper
