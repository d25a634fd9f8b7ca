"""A face that is followed through the frames of a video."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import Mock

import drawn_faces
import numpy as np
import pytest

from preprocessing import tracks, video
from preprocessing.ela import Parameters
from preprocessing.faces import NOWHERE, Face
from preprocessing.names import At, evenly
from preprocessing.picture import Rejected
from preprocessing.tracks import main
from preprocessing.video import Frame

CROP = Parameters(crop="faces", margin=1.3)


def face(left: float, side: float = 40, score: float = 0.9) -> Face:
    return Face(left, 20, side, side, score)


def test_the_face_between_two_frames_is_in_between() -> None:
    start, end = face(0), face(12, 46)
    assert main([[start], [], [], [end]]) == [start, face(4, 42), face(8, 44), end]
    assert main([[start], [], [], [], [end]])[1:4] == [None] * 3  # too long
    apart = face(50)
    assert main([[start], [], [apart]]) == [start, None, apart]  # too far to know what is between
    assert main([[], [start], [end], []]) == [None, start, end, None]  # nothing beyond the ends


def test_of_several_people_the_largest_is_followed() -> None:
    left, right = [face(number) for number in range(4)], [face(100 + number, 60)
                                                          for number in range(4)]
    both = [[right[0], left[0]], [left[1], right[1]], [left[2]], [right[3], left[3]]]
    between = main(both)
    assert between[:2] + between[3:] == [right[0], right[1], right[3]]
    assert between[2] is not None and between[2].left == pytest.approx(102)  # not the other one
    often = [[left[0]], [left[1]], [left[2], right[2]], [left[3]]]  # larger, but in one frame only
    assert main(often) == left


def test_a_face_far_away_or_of_another_size_is_another_one() -> None:
    here = [face(0), face(2)]
    assert main([[here[0]], [face(200)], [here[1]]]) == [here[0], face(1), here[1]]
    assert main([[here[0]], [face(0, 15)], [here[1]]]) == [here[0], face(1), here[1]]


def test_weak_detections_count_beside_a_strong_one_only() -> None:
    weak, strong = face(0, score=0.6), face(4)
    assert main([[weak], [strong]]) == [weak, strong]
    assert main([[weak], [weak]]) == [None, None] and main([]) == []


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A head that moves, and is away in frame 12 and from frame 30; a smaller one beside it."""
    path = tmp_path_factory.mktemp("tracks") / "clip.avi"
    drawn_faces.film(path, (drawn_faces.picture(
        (150, 80, 28), *[(50 + number, 20, 50)] * (number != 12 and number < 30))
        for number in range(40)))
    return str(path)


def test_frames_of_a_video_have_the_box_of_the_face(clip: str) -> None:
    frames = list(tracks.frames(clip, evenly(8), CROP))  # in frames 2, 7, 12 …
    assert all(isinstance(frame, Frame) for frame in frames)
    found = [frame.box for frame in frames if isinstance(frame, Frame)]
    assert found[6:] == [NOWHERE, NOWHERE]  # the smaller one isn't taken instead
    for number, box in zip(range(2, 32, 5), found, strict=False):
        assert box is not None and (box.left + box.right) / 2 == pytest.approx(75 + number, abs=4)
    plain = list(tracks.frames(clip, evenly(8), Parameters()))
    assert [frame.box for frame in plain if isinstance(frame, Frame)] == [None] * 8


def test_a_video_that_takes_much_memory_is_read_twice(clip: str,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    def boxes() -> list[tuple[int, object]]:
        return [(frame.number, frame.box) for frame in tracks.sample(clip, 8, None, CROP)]

    opened = Mock(wraps=video.sample)
    monkeypatch.setattr(video, "sample", opened)
    once = boxes()
    assert opened.call_count == 1 and len(once) == 8
    monkeypatch.setattr(tracks, "_HELD", 0)
    assert boxes() == once and opened.call_count == 3


def test_frames_before_the_end_of_a_damaged_video_are_kept(
        clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*_: object) -> Iterator[Frame]:
        yield Frame(0, 0.0, drawn_faces.picture((10, 10, 60)))
        raise Rejected("damaged")

    monkeypatch.setattr(video, "sample", damaged)
    frames = tracks.sample(clip, 8, None, CROP)
    assert next(frames).box not in (None, NOWHERE)
    with pytest.raises(Rejected, match="damaged"):
        next(frames)


def test_a_moment_without_a_frame_stays_rejected(clip: str) -> None:
    first, late = tracks.frames(clip, [At(0), At(60_000)], CROP)
    assert isinstance(first, Frame) and first.box is not None
    assert isinstance(late, Rejected) and np.prod(first.pixels.shape) > 0
