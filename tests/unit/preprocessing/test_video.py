"""Video files: the correct frames, a reason for every broken file, never a crash."""

from __future__ import annotations

import os
import random
import re
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from preprocessing import video
from preprocessing.names import At, Nth, evenly, frame_path, parse_path
from preprocessing.picture import Rejected
from preprocessing.video import Frame, frames, moments, probe, sample

KINDS = [("avi", "MJPG"), ("avi", "XVID"), ("mp4", "mp4v"), ("m4v", "mp4v"), ("mov", "mp4v"),
         ("mkv", "MJPG"), ("webm", "VP80"), ("webm", "VP90"), ("mpg", "MPEG")]


def write(path: Path, count: int = 20, kind: str = "MJPG", size: tuple[int, int] = (96, 64),
          rate: float = 25.0) -> Path:
    """A video whose frame number n is grey of level 20 + 7n."""
    writer = cv2.VideoWriter(os.fspath(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*kind), rate,
                             size)
    if not writer.isOpened():
        pytest.skip(f"this OpenCV cannot write {kind}")
    for number in range(count):
        writer.write(np.full((size[1], size[0], 3), 20 + 7 * number, np.uint8))
    writer.release()
    return path


def shown(frame: Frame) -> int:
    """The number of a frame according to its grey level."""
    return round((float(frame.pixels.mean()) - 20) / 7)


def numbers(selected) -> list[int]:
    selected = list(selected)
    assert [shown(one) for one in selected] == [one.number for one in selected], "not those frames"
    return [one.number for one in selected]


def reason(path: Path | bytes) -> str:
    with pytest.raises(Rejected) as caught:
        list(sample(os.fsencode(path)))
    return str(caught.value)


@pytest.mark.parametrize(("ending", "kind"), KINDS)
def test_evenly_spaced_frames_of_every_container(tmp_path, ending, kind):
    """Numbers, times and pixels are those of the frames in the middle of four equal parts."""
    path = write(tmp_path / f"x.{ending}", kind=kind)
    selected = list(sample(os.fsencode(path), 4))
    assert numbers(selected) == [2, 7, 12, 17]
    assert [one.seconds for one in selected] == pytest.approx([one.number / 25 for one in selected])
    assert all(one.pixels.shape == (64, 96, 3) and one.pixels.dtype == np.uint8 for one in selected)


def test_frames_by_rate(tmp_path):
    path = os.fsencode(write(tmp_path / "x.avi"))
    assert numbers(sample(path, rate=5)) == [0, 5, 10, 15]
    assert numbers(sample(path, rate=25)) == list(range(20))
    assert numbers(sample(path, rate=1000)) == list(range(20)), "no frame twice"
    assert numbers(sample(path, rate=0.01)) == [0]


@pytest.mark.parametrize(("count", "expected"), [
    (1, [10]), (3, [3, 10, 16]), (20, list(range(20))), (50, list(range(20)))])
def test_a_video_with_fewer_frames_yields_all_of_them(tmp_path, count, expected):
    assert numbers(sample(os.fsencode(write(tmp_path / "x.avi")), count)) == expected


def test_rows_have_one_frame_for_each_moment(tmp_path):
    """Also when a video has fewer frames, and when only part of its rows are asked for."""
    path = os.fsencode(write(tmp_path / "x.avi", 3))
    assert numbers(frames(path, evenly(6))) == [0, 0, 1, 1, 2, 2]
    assert numbers(frames(path, evenly(6)[3:5])) == [1, 2]
    assert numbers(frames(path, [At(0), At(39), At(40), At(79)])) == [0, 1, 1, 2]


def test_moments_by_count_do_not_open_the_file_and_by_rate_read_the_header(tmp_path, monkeypatch):
    path = os.fsencode(write(tmp_path / "x.avi"))
    assert moments(b"/nowhere", 3) == [Nth(1, 3), Nth(2, 3), Nth(3, 3)]
    assert moments(b"/nowhere", rate=2) == [At(0)], "a row, to be rejected"
    monkeypatch.setattr(video._Reader, "grab", lambda reader: pytest.fail("decoded"))
    assert moments(path, rate=5) == [At(0), At(200), At(400), At(600)]
    assert moments(path, rate=25)[-1] == At(760)
    monkeypatch.setattr(video, "MAX_SAMPLED", 2)
    assert moments(path, rate=5) == [At(0), At(200)]


def test_every_moment_by_rate_has_its_frame(tmp_path):
    """Rates that don't divide evenly: rounding puts no moment after the last frame."""
    for rate in (29.97, 12.5, 23.976):
        path = os.fsencode(write(tmp_path / "x.mp4", kind="mp4v", rate=rate))
        for expected in (3, 7, rate):
            selected = list(frames(path, moments(path, rate=expected)))
            assert all(isinstance(one, Frame) for one in selected), (rate, expected, selected)
        assert numbers(selected) == list(range(20)), rate


def avi(path: Path, claimed: int) -> Path:
    """An AVI file of 20 frames whose headers, ``avih`` and ``strh``, state another number."""
    data = bytearray(write(path).read_bytes())
    for name, at in ((b"avih", 24), (b"strh", 40)):
        place = data.index(name) + at
        assert data[place:place + 4] == struct.pack("<I", 20)
        data[place:place + 4] = struct.pack("<I", claimed)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("claimed", [0, 5, 19, 21, 1000, 2**31 - 1, 2**32 - 1])
def test_a_container_with_a_wrong_number_of_frames(tmp_path, claimed):
    path = os.fsencode(avi(tmp_path / "x.avi", claimed))
    assert probe(path).frames == claimed
    assert numbers(sample(path, 4)) == [2, 7, 12, 17]
    assert len(moments(path, rate=5)) <= 200
    selected = list(frames(path, [At(0), At(700), At(900)]))
    assert numbers(selected[:2]) == [0, 18]
    assert str(selected[2]) == "the last frame is at 0.760 s"


def matroska(path: Path, times: list[int]) -> Path:
    """A Matroska file whose frames have these times, in milliseconds (SimpleBlock's timecode)."""
    data = bytearray(write(path, len(times)).read_bytes())
    places = [one.start(1) for one in re.finditer(rb"\x81(..)\x80\xff\xd8", data, re.DOTALL)]
    assert len(places) == len(times)
    for place, time in zip(places, times):
        data[place:place + 2] = struct.pack(">h", time)
    path.write_bytes(data)
    return path


def test_a_frame_rate_that_changes(tmp_path):
    """Ten frames at 25 per second, a gap of a second, two frames at 5 per second."""
    times = [*range(0, 400, 40), 1400, 1600]
    path = os.fsencode(matroska(tmp_path / "x.mkv", times))
    assert numbers(sample(path, rate=5)) == [0, 5, 10, 11]
    assert numbers(frames(path, [At(360), At(361), At(1400), At(1401)])) == [9, 10, 10, 11]
    assert [one.seconds for one in sample(path, 12)] == pytest.approx([t / 1000 for t in times])


def test_times_that_do_not_increase_follow_the_rate_of_the_container(tmp_path):
    path = os.fsencode(matroska(tmp_path / "x.mkv", [0] * 10))
    assert [one.seconds for one in sample(path)] == pytest.approx([i / 25 for i in range(10)])


def test_large_frames_are_not_all_kept_in_memory(tmp_path, monkeypatch):
    """Above the limit the frames are counted first, then yielded one by one; the same frames."""
    path = os.fsencode(write(tmp_path / "x.avi"))
    expected = list(sample(path, 10))
    monkeypatch.setattr(video, "_HELD", 9 * 96 * 64 * 3)
    kept = []
    monkeypatch.setattr(video._Reader, "frame",
                        lambda reader, real=video._Reader.frame: kept.append(1) or real(reader))
    selected = sample(path, 10)
    next(selected)
    assert len(kept) == 1
    assert [next(selected).number for _ in range(9)] == [one.number for one in expected[1:]]


def test_broken_files_are_rejected_with_the_reason(tmp_path):
    whole = write(tmp_path / "whole.mp4", kind="mp4v").read_bytes()
    cases = {"text": (b"this is no video\n" * 9, "text, neither a picture nor a video"),
             "noise": (b"\1\2\3" * 9, "not a video of a known kind"),
             "empty": (b"", "empty file"),
             "cut": (whole[:len(whole) // 2], "cut off: its index (moov)"),
             "header": (whole[:40], "cut off: its index (moov)"),
             "picture": (cv2.imencode(".jpg", np.zeros((9, 9, 3), np.uint8))[1].tobytes(),
                         "a picture (JPEG), not a video: give its name an ending")}
    for name, (data, expected) in cases.items():
        (tmp_path / f"{name}.mp4").write_bytes(data)
        assert expected in reason(tmp_path / f"{name}.mp4"), name
        only, = frames(os.fsencode(tmp_path / f"{name}.mp4"), evenly(1))
        assert isinstance(only, Rejected)
    assert reason(write(tmp_path / "none.avi", 0)).startswith("no frames that can be decoded")
    os.mkfifo(tmp_path / "pipe.mp4")
    assert reason(tmp_path / "pipe.mp4").startswith("not a regular file, but a named pipe: save")
    assert reason(tmp_path) == "not a regular file, but a folder: name the files in it"
    assert reason(tmp_path / "missing.mp4") == "cannot be opened: No such file or directory"
    assert "null" in reason(b"a\0b.mp4")


def test_a_truncated_video_is_a_shorter_one(tmp_path):
    path = write(tmp_path / "x.mkv")
    path.write_bytes(path.read_bytes()[:-4000])
    selected = numbers(sample(os.fsencode(path), 4))
    assert selected == sorted(set(selected)) and len(selected) == 4 and selected[-1] < 15


def test_a_video_continues_after_a_damaged_part(tmp_path):
    """Two of twenty frames overwritten: the other eighteen are selected, by number and by time."""
    path = write(tmp_path / "x.avi")
    data = bytearray(path.read_bytes())
    at = data.index(b"movi")
    for number in range(7):
        at = data.index(b"00dc", at) + 8
        if number in (0, 6):
            size = struct.unpack("<I", data[at - 4:at])[0]
            data[at:at + size] = bytes(size)
    path.write_bytes(data)
    whole = [*range(1, 6), *range(7, 20)]
    assert [shown(one) for one in sample(os.fsencode(path), 18)] == whole
    assert [shown(one) for one in sample(os.fsencode(path), rate=1000)] == whole


def test_too_large_frames_and_too_long_videos(tmp_path, monkeypatch):
    path = write(tmp_path / "x.avi")
    monkeypatch.setattr(video, "MAX_PIXELS", 96 * 64 - 1)
    assert "96×64 pixels are too many" in reason(path)
    monkeypatch.undo()
    monkeypatch.setattr(video, "MAX_DECODED", 10 * video._LEAST)
    assert reason(path) == "too long: not over after 11 frames of 96×64"
    selected = list(frames(os.fsencode(path), [At(0), At(400), At(500)]))
    assert numbers(selected[:2]) == [0, 10] and "too long" in str(selected[2])
    monkeypatch.undo()
    monkeypatch.setattr(video, "MAX_SAMPLED", 5)
    with pytest.raises(Rejected, match="more than 5 frames"):
        list(sample(os.fsencode(path), rate=25))


def test_a_huge_frame_is_rejected_before_it_is_converted(tmp_path):
    """11,200 × 11,200 pixels in a file of under 2 MB."""
    side = 11_200
    data = bytearray(write(tmp_path / "x.avi", 1, size=(2048, 2048)).read_bytes())
    large = cv2.imencode(".jpg", np.zeros((side, side), np.uint8),
                         (cv2.IMWRITE_JPEG_QUALITY, 1))[1].tobytes()
    at = data.index(b"00dc", data.index(b"movi"))
    data[at + 4:] = struct.pack("<I", len(large)) + large
    (tmp_path / "x.avi").write_bytes(data)
    assert "11200×11200 pixels are too many" in reason(tmp_path / "x.avi")


@pytest.mark.parametrize("name", [
    "x%03d.avi", "%d.avi", "*.avi", "rtsp:x.avi", "http:x.avi", "-.avi", "|id.avi", "$(id).avi",
    "concat:x.avi", "a\nb.avi", "0.avi", b"\xff\xe9.avi"])
def test_file_names_have_no_meaning(tmp_path, name, monkeypatch):
    """No name is a pattern, a protocol or a command; other files that match it are not read."""
    monkeypatch.chdir(tmp_path)
    for other in ("x001.avi", "1.avi", "x.avi", "id.avi"):
        write(Path(other), 2)
    write(Path("source.video.avi"), 7)
    os.rename("source.video.avi", name)
    assert numbers(sample(name, 99)) == list(range(7))
    os.unlink(name)
    with pytest.raises(Rejected, match="No such file"):
        list(sample(name))


def test_ffmpeg_opens_nothing_but_known_containers(tmp_path, monkeypatch):
    """Playlists could lead it to other files; also without the check of the first bytes."""
    write(tmp_path / "x.avi")
    lists = {"hls": b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nx.avi\n#EXT-X-ENDLIST\n",
             "concat": b"ffconcat version 1.0\nfile x.avi\n",
             "png": cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1].tobytes()}
    for name, data in lists.items():
        (tmp_path / f"{name}.mp4").write_bytes(data)
        assert ("a picture (PNG), not a video" if name == "png" else "text, neither") in reason(
            tmp_path / f"{name}.mp4")
    monkeypatch.setattr(video, "_is_video", lambda start: True)
    for name in lists:
        assert "FFmpeg can't open it" in reason(tmp_path / f"{name}.mp4")
    # what the list of formats is for: without it the picture would have been opened
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "protocol_whitelist;file")
    assert len(list(sample(os.fsencode(tmp_path / "png.mp4")))) == 1


@pytest.mark.parametrize(("ending", "kind"), KINDS)
def test_damaged_files_never_crash(tmp_path, ending, kind, capfd):
    """Bytes changed and ends cut off at random: frames or a reason, and no messages."""
    whole = write(tmp_path / f"whole.{ending}", kind=kind).read_bytes()
    capfd.readouterr()  # what the writer says
    path = tmp_path / f"x.{ending}"
    usable = 0
    for seed in range(60):
        chance = random.Random(seed)
        data = bytearray(whole if seed % 3 else whole[:chance.randrange(len(whole))] or b"x")
        for _ in range(chance.choice((1, 3, 20, 200))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data)
        selected = list(frames(os.fsencode(path), evenly(3)))
        assert len(selected) == 3
        usable += isinstance(selected[0], Frame)
        assert 1 <= len(moments(os.fsencode(path), rate=5)) <= video.MAX_SAMPLED
        assert len(list(frames(os.fsencode(path), [At(0), At(500)]))) == 2
    assert 0 < usable < 60, "the damage is too small or too large to try anything"
    out = capfd.readouterr()
    assert (out.out, out.err) == ("", "")


def test_frames_are_not_rotated(tmp_path):
    """The rotation by 90° of a phone (matrix of the track header, ISO 14496-12) is ignored."""
    path = write(tmp_path / "x.mp4", kind="mp4v")
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    assert struct.unpack(">3i", data[at:at + 12]) == (1 << 16, 0, 0)
    data[at:at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    turned = cv2.VideoCapture(os.fspath(path), cv2.CAP_FFMPEG)
    assert turned.read()[1].shape == (96, 64, 3), "what would happen otherwise"
    assert (probe(os.fsencode(path)).width, next(sample(os.fsencode(path))).pixels.shape) == \
        (96, (64, 96, 3))


def test_no_file_stays_open(tmp_path):
    write(tmp_path / "x.avi")
    (tmp_path / "bad.avi").write_bytes(b"RIFFxxxxAVI ")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        next(sample(os.fsencode(tmp_path / "x.avi"), rate=25))  # left in the middle
        for name in ("bad.avi", "missing.avi"):
            reason(tmp_path / name)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(("path", "expected"), [
    (b"a/clip.mp4#frame=3of10", (b"a/clip.mp4", Nth(3, 10))),
    (b"a/clip.MP4#frame=12.050s", (b"a/clip.MP4", At(12050))),
    (b"a#frame=1of2/x.avi#frame=1of2", (b"a#frame=1of2/x.avi", Nth(1, 2))),
    (b"a\nb\xff.avi#frame=1of2", (b"a\nb\xff.avi", Nth(1, 2))),
    (b"a/x.jpg", (b"a/x.jpg", None)),
    (b"x.mp4#frame=1of2/y.jpg", (b"x.mp4#frame=1of2/y.jpg", None)),
    (b"x.jpg#frame=1of2", (b"x.jpg#frame=1of2", None)),
    (b"x.mp4#frame=1", (b"x.mp4#frame=1", None)),
])
def test_paths_of_frames(path, expected):
    assert parse_path(path) == expected
    file, moment = expected
    assert moment is None or frame_path(file, moment) == path
