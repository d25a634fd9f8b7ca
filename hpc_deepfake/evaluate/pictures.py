"""Pictures and frames of a folder, prepared as a model's training data, for its evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import NamedTuple

import cv2
import numpy as np

from hpc_deepfake.evaluate.originals import MaskRows
from hpc_deepfake.evaluate.pixels import ELA, own_errors
from hpc_deepfake.network.card import Card
from hpc_deepfake.network.guard import Guard
from preprocessing import facts
from preprocessing import mask as masks_of
from preprocessing.catalogue import Catalogue, locate
from preprocessing.ela import Parameters, box_of, features_of_pixels
from preprocessing.faces import Box
from preprocessing.facts import Facts
from preprocessing.mask import SAME, UNKNOWN, File, Film, shrink
from preprocessing.names import Moment, parse_path
from preprocessing.perturb import Perturbation
from preprocessing.picture import Rejected, decode, read
from preprocessing.pixels import taken
from preprocessing.sample import is_drawn

_NOTHING = np.empty(0, np.uint8)


class Asked(NamedTuple):
    """What is needed beside features: masks and error levels, or error levels alone."""

    masks: bool
    errors: bool


class Prepared(NamedTuple):
    """A picture's feature, uint8 (S, S, channels), whether it is unlike the training pictures, what
    the model's training has to do with it, an index into ``pictures.RELATIONS``, and, empty where
    it wasn't asked, its mask, uint8 (S, S), and its error levels, uint8 (S, S, 3)."""

    row: np.ndarray
    unlike: bool
    seen: int
    mask: np.ndarray
    errors: np.ndarray


class _Loaded(NamedTuple):
    """A picture or frame: pixels, uint8 (height, width, 3) blue-green-red, facts of its file,
    whether ``hpc-deepfake sample`` drew it (None: unknown), ``facts.digest`` of the file, its mask,
    uint8 (height, width), or the value of all of it, and the part of it that is used, where that is
    known."""

    pixels: np.ndarray
    facts: Facts
    drawn: bool | None
    digest: bytes
    mask: np.ndarray | int
    box: Box | None = None


def prepared(card: Card, guard: Guard | None, catalogue: Catalogue, rows: np.ndarray, asked: Asked,
             perturbation: Perturbation | None = None,
             masks: MaskRows | None = None) -> Iterator[Prepared | Rejected]:
    """The feature of each picture or frame, and what the guard says of it; or why it can't be
    used.

    Args:
        card: of the model.
        guard: what the model knows of its training pictures; None: it isn't asked.
        catalogue: the pictures.
        rows: of the catalogue, int64 (n).
        asked: what is needed beside.
        perturbation: what is done to each picture before.
        masks: of all pictures of the catalogue; None: those of its files.
    """
    numbered = ((*parse_path(catalogue.paths[row]), row) for row in rows.tolist())
    for _, group in groupby(numbered, lambda numbers: numbers[0]):
        _, moments, own = zip(*group, strict=True)
        mask = masks_of.of(catalogue, own[0]) if asked.masks and masks is None else File(b"")
        loaded = _load(catalogue, own, moments, mask, card.parameters)
        for row, picture in zip(own, loaded, strict=True):
            try:
                if isinstance(picture, Rejected):
                    yield picture
                    continue
                if masks is not None:
                    picture = picture._replace(mask=masks[row])
                if perturbation is not None:
                    picture = _perturbed(picture, perturbation)
                yield _prepared(card, guard, picture, asked, masks is None)
            except Rejected as reason:
                yield reason


def by_file(catalogue: Catalogue, rows: np.ndarray) -> list[np.ndarray]:
    """Rows of the catalogue, int64 (n), divided so that those of a file are together."""
    files = [parse_path(catalogue.paths[row])[0] for row in rows.tolist()]
    return np.split(rows, [place for place in range(1, len(files))
                           if files[place] != files[place - 1]])


def brightest(errors: np.ndarray) -> float:
    """A score without any learning, for comparison: the mean of the brightest square, an eighth of
    the side long, of error levels, uint8 (S, S, 3). A region that was pasted changes more."""
    side = max(1, len(errors) // 8)
    return float(cv2.blur(errors.mean(2), (side, side), borderType=cv2.BORDER_REFLECT_101).max())


def _perturbed(loaded: _Loaded, perturbation: Perturbation) -> _Loaded:
    """The changed file, without metadata; it can't be told any more whether it was drawn."""
    if not perturbation.steps:
        return loaded
    changed, mask = perturbation.of_pixels(loaded.pixels), loaded.mask
    return _Loaded(changed, perturbation.facts(changed.shape[1], changed.shape[0]), None, b"",
                   mask if isinstance(mask, int) else perturbation.of_mask(mask))


def _prepared(card: Card, guard: Guard | None, loaded: _Loaded, asked: Asked,
              whole: bool) -> Prepared:
    """As of ``prepared``; ``whole``: whether a mask is that of the whole picture."""
    box = box_of(loaded.pixels, card.parameters, loaded.box)
    if guard is None:
        feature = features_of_pixels(loaded.pixels, (card.feature,), card.parameters, box)[0]
        unlike, seen = False, 0
    else:
        feature, raw = guard.features(loaded.pixels, card, box)
        unlike = bool(guard.unlike(feature, raw, loaded.facts, loaded.drawn))
        seen = guard.relation(loaded.digest, feature, raw)
    errors = own_errors(feature, card.feature) if any(asked) else _NOTHING
    if errors is None:
        errors = features_of_pixels(loaded.pixels, (ELA,), card.parameters, box)[0]
    return Prepared(feature, unlike, seen,
                    _small(loaded.mask, card, box if whole else None) if asked.masks else _NOTHING,
                    errors)


def _small(mask: np.ndarray | int, card: Card, box: Box | None) -> np.ndarray:
    """A mask, or ``box`` of it, of the size of the features."""
    size = card.parameters.size
    if isinstance(mask, int):
        return np.full((size, size), mask, np.uint8)
    return shrink(mask if box is None else box.of(mask), size)


def _load(catalogue: Catalogue, rows: Sequence[int], moments: Sequence[Moment | None],
          mask: File | None, parameters: Parameters) -> Iterator[_Loaded | Rejected]:
    """A file's pixels for each moment, where None stands for a picture.

    Args:
        catalogue: the pictures.
        rows: of the file, as many as moments.
        moments: see above.
        mask: its mask; None: nothing was changed.
        parameters: of the features.
    """
    file = locate(catalogue.roots, parse_path(catalogue.paths[rows[0]])[0])
    if moments[0] is None:
        for _ in moments:
            yield from _decoded(file, mask)
        return
    from preprocessing.tracks import frames

    kind, digest = None, b""
    # a face is followed through all frames of a video
    followed = rows if parameters.crop is None else _of_same_video(catalogue.paths, rows)
    in_video = [moment for row in followed
                if (moment := parse_path(catalogue.paths[row])[1]) is not None]
    with Film(mask or File(b""), file) as film:
        for row, frame in zip(followed, frames(file, in_video, parameters), strict=True):
            if row not in rows:
                continue
            if isinstance(frame, Rejected):
                yield frame
                continue
            if kind is None:
                kind, digest = facts.kind_of_file(file), _digest_of_video(file)
            height, width = frame.pixels.shape[:2]
            yield _Loaded(frame.pixels, Facts(width, height, kind), False, digest,
                          _mask(mask, partial(film.at, frame.number, height, width)), frame.box)


def _of_same_video(paths: Sequence[bytes], rows: Sequence[int]) -> range:
    """All rows of the video that has these rows, which stand together in a list."""
    file, first, end = parse_path(paths[rows[0]])[0], rows[0], rows[-1] + 1
    while first > 0 and parse_path(paths[first - 1])[0] == file:
        first -= 1
    while end < len(paths) and parse_path(paths[end])[0] == file:
        end += 1
    return range(first, end)


def _digest_of_video(file: bytes) -> bytes:
    try:
        return facts.digest_of_file(file)
    except OSError:  # gone since its frames were read
        return b""


def _decoded(path: bytes, mask: File | None) -> Iterator[_Loaded | Rejected]:
    """One picture, which may be used until the next one is asked for."""
    try:
        data = read(path)
        known = facts.of(data)
        with taken(known.width, known.height):
            pixels = decode(data, path)
            yield _Loaded(pixels, known, is_drawn(data), facts.digest(data), _mask(
                mask, lambda: (mask or File(b"")).read(*pixels.shape[:2])))
    except Rejected as reason:
        yield reason


def _mask(file: File | None, read: Callable[[], np.ndarray]) -> np.ndarray | int:
    """The mask, unknown if it can't be used."""
    if file is None or not file.path:
        return SAME if file is None else UNKNOWN
    try:
        return read()
    except Rejected:
        return UNKNOWN
