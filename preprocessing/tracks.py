"""The same face in all sampled frames of a video."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from math import hypot
from typing import TYPE_CHECKING

from preprocessing import faces, video
from preprocessing.faces import NOWHERE, Face
from preprocessing.picture import Rejected
from preprocessing.video import Frame

if TYPE_CHECKING:
    from preprocessing.ela import Parameters
    from preprocessing.names import Moment

_FAR = 1.5  # how far a face may move between two sampled frames, in its own sides
_GROWTH = 2.0  # and how much it may grow or shrink
_MISSED = 2  # frames in a row, at most, whose box is taken from the frames around them …
_OVERLAP = 0.3  # … if the boxes there overlap this much: intersection over union
_HELD = 256 << 20  # bytes of frames kept until the track is known; of more, a second pass


def frames(path: bytes | str, moments: Sequence[Moment],
           parameters: Parameters) -> Iterator[Frame | Rejected]:
    """``video.frames``, each with the box that its features show.

    Args:
        path: the video.
        moments: as of ``video.frames``. The track depends on all of them: give all of the video's.
        parameters: whether faces are cut out, and their margin.
    """
    return _boxed(lambda: video.frames(path, moments), parameters.margin)


def sample(path: bytes | str, count: int, rate: float | None,
           parameters: Parameters) -> Iterator[Frame]:
    """``video.sample``, each frame with the box that its features show.

    Raises:
        Rejected: as of ``video.sample``.
    """
    for frame in _boxed(lambda: video.sample(path, count, rate), parameters.margin):
        assert not isinstance(frame, Rejected)  # that is raised
        yield frame


def _boxed(read: Callable[[], Iterable[Frame | Rejected]],
           margin: float | None) -> Iterator[Frame | Rejected]:
    """Frames with their boxes, ``NOWHERE`` in those without the face; without a margin as they are.

    The face is that of ``main`` over all frames, which are read again if they take much memory.
    """
    if margin is None:
        yield from read()
        return
    held: list[Frame | Rejected] | None = []
    found: list[list[Face]] = []
    size, end = 0, None
    try:
        for frame in read():
            found.append([] if isinstance(frame, Rejected)
                         else faces.find(frame.pixels, faces.WEAK))
            size += 0 if isinstance(frame, Rejected) else frame.pixels.nbytes
            if held is not None:
                held.append(frame)
            if size > _HELD:
                held = None
    except Rejected as reason:
        end = reason
    for frame, face in zip(read() if held is None else held, main(found), strict=False):
        yield frame if isinstance(frame, Rejected) else frame._replace(
            box=NOWHERE if face is None else face.square(margin, *frame.pixels.shape[:2]))
    if end is not None:
        raise end


def main(found: Sequence[Sequence[Face]]) -> list[Face | None]:
    """The face that is followed through a video: of several, the one with the largest area over all
    frames.

    A track must have one face of the score that counts in pictures; others of it may have less. A
    frame without it between two that have it gets the box in between; no box is invented before the
    first and after the last. Boxes are not smoothed: frames are usually seconds apart.

    Args:
        found: the faces of each frame in order of time, with scores from ``faces.WEAK``.

    Returns:
        The face in each frame; None where there is none.
    """
    tracks = [track for track in _tracks(found)
              if max(face.score for face in track.values()) >= faces.SCORE]
    if not tracks:
        return [None] * len(found)
    track = max(tracks, key=lambda track: sum(face.width * face.height for face in track.values()))
    followed = [track.get(number) for number in range(len(found))]
    known = sorted(track)
    for before, after in pairwise(known):
        first, last = track[before], track[after]
        if after - before - 1 <= _MISSED and first.overlap(last) >= _OVERLAP:
            for number in range(before + 1, after):
                share = (number - before) / (after - before)
                followed[number] = Face(*(start + share * (end - start)
                                          for start, end in zip(first, last, strict=True)))
    return followed


def _tracks(found: Sequence[Sequence[Face]]) -> list[dict[int, Face]]:
    """Faces that belong together, by the number of their frame: each face continues the nearest
    track, the nearest pair first."""
    tracks: list[dict[int, Face]] = []
    for number, seen in enumerate(found):
        last = [track[max(track)] for track in tracks]
        pairs = sorted((distance, at, place) for at, face in enumerate(last)
                       for place, other in enumerate(seen)
                       if (distance := _distance(face, other)) <= _FAR)
        continued, placed = set(), set()
        for _, at, place in pairs:
            if at not in continued and place not in placed:
                continued.add(at)
                placed.add(place)
                tracks[at][number] = seen[place]
        tracks += [{number: face} for place, face in enumerate(seen) if place not in placed]
    return tracks


def _distance(face: Face, other: Face) -> float:
    """Of the centres, in sides of the faces; infinite if their sizes are too different."""
    small, large = sorted((face.side, other.side))
    across = face.left + face.width / 2 - other.left - other.width / 2
    down = face.top + face.height / 2 - other.top - other.height / 2
    return float("inf") if large > _GROWTH * small else 2 * hypot(across, down) / (small + large)
