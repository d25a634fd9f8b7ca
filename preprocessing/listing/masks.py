"""Ground-truth masks among pictures: by name and place, confirmed by their content."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import groupby, takewhile
from typing import NamedTuple

import numpy as np

from preprocessing.listing import alike
from preprocessing.listing.item import folder, stem
from preprocessing.names import VIDEOS, At, parse, running_number

_SAMPLE = 24  # files of a kind whose content is looked at; fewer are looked at one by one
_ALL = 1 - 0.5 / _SAMPLE  # share above which all files of a sample are
_PURE = 0.9  # share of a mask's pixels that are near the ends of the range
_NEAR = 24  # levels
_MANY = 100  # pictures of one name; of more, only those in a folder named as the mask's count
_WORDS = rb"(?:ground[-_ ]?truths?|gts?|masks?|msk|edge_?masks?|probe_?mask|donor_?mask)"
_NAME = re.compile(rb"(.*[^-_ .])[-_ .]+" + _WORDS + rb"(?:[-_ ]?\d{1,2})?", re.DOTALL)
_PREFIX = re.compile(rb"(?:mask|gt)[-_ ]+(.+)", re.DOTALL)
_PLACE = re.compile(
    rb"(?:.*[-_ .])?(?:" + _WORDS + rb"|annotations?|segmentations?|annots?)(?:[-_ .].*)?",
    re.DOTALL)
_HINT = re.compile(rb"mask|msk|gt|truth|annot|segm", re.IGNORECASE)
# what follows the name of a picture in that of its mask, such as DSC4Mask, where the content must
# confirm it
_REST = (rb"(?:[-_ .]*(?:" + _WORDS + rb"|truth|regions?|binary|bw|labels?|segm?|segment(?:ation)?"
         rb"|annot(?:ation)?|map|diff))+[-_ ]?\d{0,2}")
_BEGUN = re.compile(rb"(.+?)" + _REST, re.DOTALL)
_ENDED = re.compile(rb"(?:mask|msk|gt)(.+)", re.DOTALL)
_REST_HINT = re.compile(rb"m[as]s?k|gt|truth|region|bin|bw|label|seg|annot|map|diff", re.IGNORECASE)
_COPY = 0.9  # correlation of the thumbnails of a picture and of a copy in another format
_LOSSLESS = (b".png", b".bmp", b".gif", b".tif", b".tiff")
# of several masks of a picture, that of the changed region comes first
_LATER = re.compile(rb"donor|copy|paste|edge|inpaint_mask|segm")


class Candidate(NamedTuple):
    """A file that may be a mask.

    Attributes:
        path: of the file.
        picture: stem of the picture that it may belong to, in lower case.
        why: what makes it a candidate: ``name``, ``place``, or ``pair`` (a picture of the same name
            with another extension lies beside it, or one whose name begins or ends its own).
        beside: path of that picture of a ``pair``.
    """

    path: bytes
    picture: bytes
    why: str
    beside: bytes = b""


@cache
def is_place(name: bytes) -> bool:
    """Whether a folder is named like one of masks, or a path has such a folder."""
    return _HINT.search(name) is not None and any(
        _PLACE.fullmatch(part) for part in name.lower().split(b"/"))


def in_place(path: bytes) -> Candidate:
    """A file in a folder of masks."""
    name = stem(path.lower())
    match = _NAME.fullmatch(name) or _PREFIX.fullmatch(name)
    return Candidate(path, match[1] if match else name, "place")


def candidates(paths: Sequence[bytes]) -> dict[bytes, Candidate]:
    """Files that are named or placed like masks, by path.

    Args:
        paths: sorted, so that files of a folder with the same stem are neighbours.
    """
    found: dict[bytes, Candidate] = {}
    for path in paths:
        if _HINT.search(path):
            name = stem(path.lower())
            if match := _NAME.fullmatch(name) or _PREFIX.fullmatch(name):
                found[path] = Candidate(path, match[1], "name")
            elif is_place(folder(path)):
                found[path] = in_place(path)
    for _, group in groupby(paths, lambda path: path.rpartition(b".")[0]):
        same = sorted(group, key=lambda path: path.lower().endswith(_LOSSLESS))
        for path in same if len(same) > 1 else ():
            if path not in found and path.lower().endswith(_LOSSLESS):
                found[path] = Candidate(path, stem(path.lower()), "pair",
                                        same[0] if path != same[0] else same[1])
    named = [path for path in paths if path not in found
             and _REST_HINT.search(path.rpartition(b"/")[2])]
    if named:
        pictures = {(folder(path), stem(path.lower())): path for path in paths}
        for path in named:
            name = stem(path.lower())
            for match in (_BEGUN.fullmatch(name), _ENDED.fullmatch(name)):
                beside = match and pictures.get((folder(path), match[1]))
                if match and beside:
                    found[path] = Candidate(path, match[1], "pair", beside)
                    break
    return found


def confirmed(found: Iterable[Candidate], paths: Iterable[bytes],
              read: Callable[[bytes], bool | None], copy: Callable[[bytes, bytes], bool],
              by_top: bool = True, above: float = 0.5
              ) -> tuple[list[Candidate], list[Candidate]]:
    """Which candidates are masks.

    A few files of each kind are looked at, and of small kinds all; where none can be read, name and
    place decide. A file without them (``pair``) must look like a mask, and not like the picture
    beside it: scanned documents are black and white too.

    Args:
        found: candidates of a data set.
        paths: of all its files.
        read: whether the file at a path has two values; None if it can't be read.
        copy: whether two files show the same black and white picture.
        by_top: whether the top folders are classes, in which names may mean different things.
        above: share of the files of a kind that are looked at, above which all are masks.

    Returns:
        The masks, and the candidates that are pictures after all.
    """
    found = list(found)
    masked = {candidate.path for candidate in found}
    stems = {stem(path.lower()) for path in paths if path not in masked}
    kinds: dict[tuple[bytes, str, bytes, bool], list[Candidate]] = defaultdict(list)
    for candidate in found:
        top = candidate.path.partition(b"/")[0] if by_top else b""
        place = next(filter(is_place, candidate.path.split(b"/")[:-1]), b"")
        kinds[top, candidate.why, place, candidate.picture in stems].append(candidate)

    def is_mask(candidate: Candidate) -> bool | None:
        answer = read(candidate.path)
        return answer and not (candidate.why == "pair" and copy(candidate.path, candidate.beside))

    masks: list[Candidate] = []
    pictures: list[Candidate] = []
    for (_, why, *_), kind in kinds.items():
        default = why != "pair"
        if len(kind) <= _SAMPLE:
            for candidate in kind:
                answer = is_mask(candidate)
                (masks if (default if answer is None else answer) else pictures).append(candidate)
            continue
        answers = [is_mask(kind[at]) for at in np.linspace(0, len(kind) - 1, _SAMPLE, dtype=int)]
        known = [answer for answer in answers if answer is not None]
        are_masks = sum(known) > above * len(known) if known else default
        (masks if are_masks else pictures).extend(kind)
    return masks, pictures


def likely(files: Mapping[bytes, bytes]) -> list[bytes]:
    """Files that are masks by name or place and by content, where nothing is known of classes; of
    many of a kind, only if all that are looked at are.

    Args:
        files: file names by paths whose names and folders may say so.
    """
    confirmed_masks, _ = confirmed(
        candidates(sorted(files)).values(), files, lambda path: bool(two_valued(files[path])),
        lambda path, other: is_copy(files[path], files[other]), by_top=False, above=_ALL)
    return sorted(files[candidate.path] for candidate in confirmed_masks)


def two_valued(path: bytes) -> bool | None:
    """Whether nearly all pixels of a picture, or of a video's first frame, are at the ends of their
    range (saved as JPEG, a mask has others along its edges), or red and green, as in Columbia's
    edge masks; None if it can't be read."""
    from preprocessing import mask, picture, video

    try:
        if path.lower().endswith(VIDEOS):
            frame = next(iter(video.frames(path, [At(0)])))
            if isinstance(frame, picture.Rejected):
                return None
            pixels = frame.pixels
        else:
            pixels = picture.decode(picture.read(path))
    except picture.Rejected:
        return None
    across, down = (max(1, size // 256) for size in pixels.shape[:2])
    small = pixels[::across, ::down].reshape(-1, 3).astype(np.int16)
    pure = ((small <= _NEAR) | (small >= small.max(0) - _NEAR)).all(1)
    return bool((pure | (mask.edges(small) != 0)).mean() >= _PURE)


def is_copy(path: bytes, other: bytes) -> bool:
    """Whether two files show the same picture, of two values, such as a scanned document."""
    if not two_valued(other):
        return False
    first, second = alike.thumbnail(path), alike.thumbnail(other)
    if first is None or second is None:
        return False
    if not first.std() or not second.std():  # of one colour
        return bool(np.abs(first - second).mean() < _NEAR)
    return bool(np.corrcoef(first.ravel(), second.ravel())[0, 1] >= _COPY)


def matched(masks: Sequence[Candidate], pictures: Sequence[bytes],
            others: Iterable[bytes] = ()) -> dict[bytes, bytes]:
    """The mask of each picture that has one: same name, in the nearest folder.

    Near are folders that begin or end alike: ``masks/scene1/1.png`` is of ``fake/scene1/1.jpg``. A
    mask that is as near to pictures of several folders is none's.

    Args:
        masks: confirmed.
        pictures: paths of the pictures that may have a mask.
        others: paths of pictures whose masks aren't wanted.
    """
    by_stem: dict[tuple[bytes, ...], list[tuple[bytes, bool]]] = defaultdict(list)
    for paths, wanted in ((pictures, True), (others, False)):
        for path in paths:
            name = stem(path.lower())
            by_stem[name,].append((path, wanted))
            by_stem[name, folder(path.lower()).rpartition(b"/")[2]].append((path, wanted))
    chosen: dict[bytes, tuple[tuple[bool, int], bytes]] = {}
    for candidate in masks:
        own = _places(folder(candidate.path.lower()))
        same = by_stem.get((candidate.picture,), [])
        if len(same) > _MANY:  # frames of many videos
            same = by_stem.get((candidate.picture, *own[-1:])) or same
        is_video = candidate.path.lower().endswith(VIDEOS)
        near = [(_near(folder(path.lower()), candidate.path.lower(), own), wanted, path)
                for path, wanted in same if path.lower().endswith(VIDEOS) == is_video]
        most = max(((distance, wanted) for distance, wanted, _ in near), default=(0, False))
        nearest = [path for *found, path in near if tuple(found) == most]
        if not most[1] or len({folder(path).rpartition(b"/")[2] for path in nearest}) > 1:
            continue
        for path in nearest:
            rank = bool(_LATER.search(candidate.path.lower())), -most[0]
            if path not in chosen or rank < chosen[path][0]:
                chosen[path] = rank, candidate.path
    of = {path: mask for path, (_, mask) in chosen.items()}
    return {**of, **_by_number(masks, pictures, of)}


def _by_number(masks: Sequence[Candidate], pictures: Sequence[bytes],
               of: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """The masks of CASIA's pictures whose names differ from theirs: the public ground truth
    (N. T. Pham) corrects the sources in names, but neither the running number at their end nor the
    letters of how they were made. Where these are used twice, as in CASIA 1, the names must also
    have a source picture in common."""
    used, candidates = set(of.values()), defaultdict(list)
    for candidate in masks:
        if number := _number(candidate.picture):
            candidates[number].append(candidate)
    if not candidates:
        return {}
    numbers = Counter(_number(stem(path)) for path in pictures)
    found = {}
    for path in pictures:
        number = _number(stem(path))
        near = [candidate.path for candidate in candidates.get(number, ())
                if candidate.path not in used
                and ((numbers[number] == 1 and len(candidates[number]) == 1)
                     or _sources(candidate.picture) & _sources(stem(path)))]
        if len(near) == 1 and path not in of:
            found[path] = near[0]
    return found


def _number(name: bytes) -> str:
    """``running_number`` of a name."""
    return running_number(os.fsdecode(name))


def _sources(name: bytes) -> set[str]:
    parsed = parse(os.fsdecode(name))
    return set(parsed.sources) if parsed else set()


@cache
def _places(path: bytes) -> tuple[bytes, ...]:
    """The folders in the path of a mask, without words for masks: ``scene1`` of ``masks/scene1``
    and ``scene1_masks/gt``."""
    stripped = ((match[1] if match else b"" if _PLACE.fullmatch(part) else part)
                for part in path.split(b"/")
                for match in (_NAME.fullmatch(part) or _PREFIX.fullmatch(part),))
    return tuple(filter(None, stripped))


def _near(picture: bytes, mask: bytes, own: Sequence[bytes]) -> int:
    """Number of folders that a picture's and a mask's path have in common at their beginning, and
    at their end without words for masks."""
    first = picture.split(b"/") if picture else []

    def common(pairs: Iterable[tuple[bytes, bytes]]) -> int:
        return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))

    return common(zip(first, mask.split(b"/")[:-1], strict=False)) \
        + common(zip(reversed(first), reversed(own), strict=False))
