"""Videos under mpirun: the same bytes with any number of ranks, a video's frames in one part."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import run_program

from preprocessing import facts, video
from preprocessing.ela import Parameters, features_of_file, features_of_pixels
from preprocessing.names import At, evenly
from preprocessing.store import DONE, REJECTED, checksum, open_header

pytestmark = pytest.mark.mpi
COUNTS = {"a.avi": 24, "b.mp4": 11, "c.mkv": 3, "d.webm": 30}  # frames of each video
KINDS = {".avi": "MJPG", ".mp4": "mp4v", ".mkv": "MJPG", ".webm": "VP80"}


def preprocess(*options: str | os.PathLike, ranks: int, cwd: Path,
               code: int = 0) -> subprocess.CompletedProcess[str]:
    done = run_program("preprocessing", *options, ranks=ranks, cwd=cwd, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def film(path: Path, picture: Path, count: int) -> None:
    """A camera that moves over a picture, 25 frames a second."""
    pixels = cv2.imread(os.fspath(picture))
    save(path, [pixels[number:number + 160, number:number + 192] for number in range(count)])


def save(path: Path, frames: list[np.ndarray]) -> None:
    writer = cv2.VideoWriter(os.fspath(path), cv2.CAP_FFMPEG,
                             cv2.VideoWriter_fourcc(*KINDS[path.suffix]), 25, (192, 160))
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame))
    writer.release()


def changed(number: int) -> np.ndarray:
    """What was changed in a frame: a square that moves, and is gone in frame 12."""
    frame = np.zeros((160, 192, 3), np.uint8)
    if number != 12:
        frame[40:80, 6 * number:6 * number + 48] = 255
    return frame


@pytest.fixture(scope="module")
def data(pictures, tmp_path_factory) -> Path:
    """Four videos and two pictures in ``real``, four, two and three broken ones in ``fake``; the
    masks of two of these, one of them too short."""
    top = tmp_path_factory.mktemp("videos")
    for folder, source in (("real", "Au"), ("fake", "Tp")):
        (top / folder).mkdir()
        files = sorted((pictures / source).iterdir())
        for (name, count), picture in zip(COUNTS.items(), files):
            film(top / folder / f"{folder}_{name}", picture, count)
        for number in range(2):
            shutil.copy(files[number], top / folder / f"{folder}{number}.jpg")
    whole = (top / "real" / "real_b.mp4").read_bytes()
    (top / "fake" / "cut.mp4").write_bytes(whole[:len(whole) // 2])
    (top / "fake" / "text.mp4").write_text("no video")
    film(top / "fake" / "none.avi", files[0], 0)
    (top / "masks" / "videos").mkdir(parents=True)
    save(top / "masks" / "videos" / "fake_a.avi", [changed(number) for number in range(24)])
    save(top / "masks" / "videos" / "fake_d.avi", [changed(number) for number in range(10)])
    return top


@pytest.fixture(scope="module")
def reference(data, tmp_path_factory) -> Path:
    """The data file of ``data``, from one process without mpirun: 3 frames of each video."""
    out = tmp_path_factory.mktemp("reference") / "x.h5"
    done = preprocess("--data", data, "--out", out, "--frames-per-video", "3", "--max-rejects",
                      "9", ranks=0, cwd=out.parent)
    assert "real: 12 frames of 4 videos" in done.stderr
    assert "fake: 21 frames of 7 videos" in done.stderr
    return out


@pytest.mark.parametrize(("ranks", "writer"), [(1, "mpi-io"), (2, "hdf5"), (3, "mpi-io")])
def test_any_number_of_ranks_gives_the_same_bytes(data, reference, tmp_path, ranks, writer):
    preprocess("--data", data, "--out", "x.h5", "--frames-per-video", "3", "--max-rejects", "9",
               "--writer", writer, ranks=ranks, cwd=tmp_path)
    assert (tmp_path / "x.h5").read_bytes() == reference.read_bytes()
    for name in ("rejects.csv", "masks.csv"):
        assert (tmp_path / f"x.h5.{name}").read_bytes() == \
            Path(f"{reference}.{name}").read_bytes()


def test_rows_are_the_features_of_their_frames(data, reference):
    """Each row is the frame that its path names, in the order of the list."""
    header = open_header(reference)
    paths = [path.decode() for path in header.array("path")]
    assert paths[2:5] == [f"real/real_a.avi#frame={n}of3" for n in (1, 2, 3)]
    expected = []
    for path in dict.fromkeys(path.partition("#")[0] for path in paths):
        if path.endswith(".jpg"):
            expected.append(features_of_file(data / path, header.features, Parameters()))
        else:
            expected += [frame if isinstance(frame, video.Rejected) else
                         features_of_pixels(frame.pixels, header.features, Parameters())
                         for frame in video.frames(os.fsencode(data / path), evenly(3))]
    assert len(expected) == header.rows == 37
    for row, features in enumerate(expected):
        stored = [header.array(name)[row] for name in header.features]
        if isinstance(features, video.Rejected):
            assert header.array("status")[row] == REJECTED and not any(map(np.any, stored))
            assert facts.stored(header, np.array([row])) == [facts.Facts()]
            continue
        assert header.array("status")[row] == DONE
        assert all(np.array_equal(*pair) for pair in zip(stored, features)), paths[row]
        mask = header.array("mask")[row]
        assert header.array("crc32")[row] == checksum([*stored, mask])
        if paths[row].startswith("fake/fake_a.avi"):  # its frames 4, 12 and 20
            frame = (4, 12, 20)[int(paths[row].partition("=")[2][0]) - 1]
            found = np.argwhere(mask == 1)
            if frame == 12:
                assert not mask.any()
            else:
                assert np.abs(found.min(0) - (32, 4 * frame)).max() <= 1
                assert np.abs(found.max(0) - (63, 4 * frame + 31)).max() <= 1
        else:
            assert (mask == (255 if paths[row].startswith("fake/") else 0)).all()
        assert header.array("label")[row] == paths[row].startswith("fake/")
        assert stored[header.features.index("ela")].any()
        file = data / paths[row].partition("#")[0]
        assert header.array("digest")[row].tobytes() == facts.digest(file.read_bytes())
        known, = facts.stored(header, np.array([row]))
        assert known.format == facts.kind_of(file.read_bytes()) != facts.FORMATS[0]
        assert known.width and known.height
    raw = header.array("raw")
    assert not np.array_equal(raw[2], raw[3]), "the camera moves"


def test_broken_videos_are_listed_with_their_reasons(reference):
    with open(f"{reference}.rejects.csv", encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    reasons = dict(rows)
    assert len(reasons) == 9
    for number in (1, 2, 3):
        assert "cut off: its index" in reasons[f"fake/cut.mp4#frame={number}of3"]
        assert "text, neither a picture nor a video" in reasons[f"fake/text.mp4#frame={number}of3"]
        assert "no frames that can be decoded" in reasons[f"fake/none.avi#frame={number}of3"]
    with open(f"{reference}.masks.csv", encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    assert [path for path, *_ in rows] == [f"fake/fake_d.webm#frame={n}of3" for n in (1, 2, 3)]
    assert all("the mask has 10 frames, and the video 30" in reason for *_, reason in rows)


def test_all_frames_of_a_video_are_in_one_part(data, tmp_path):
    """With any seed; but not when split picture by picture."""
    def parts_of_videos(*options: str) -> dict[bytes, set[int]]:
        out = tmp_path / f"{'_'.join(options)}.h5"
        preprocess("--data", data, "--out", out, "--max-rejects", "100%", "--split", "60/20/20",
                   "--features", "raw", *options, ranks=2, cwd=tmp_path)
        header = open_header(out)
        parts: dict[bytes, set[int]] = {}
        groups: dict[bytes, set[int]] = {}
        for path, part, group in zip(header.array("path"), header.array("split").tolist(),
                                     header.array("group").tolist()):
            parts.setdefault(path.partition(b"#")[0], set()).add(part)
            groups.setdefault(path.partition(b"#")[0], set()).add(group)
        assert all(len(numbers) == 1 for numbers in groups.values())
        return parts

    for seed in ("0", "1"):
        assert all(len(parts) == 1 for parts in parts_of_videos("--seed", seed).values())
    assert any(len(parts) > 1 for parts in parts_of_videos("--split-by", "image").values())


def test_frames_by_rate(data, tmp_path):
    """The number of rows follows the length of a video; another rate is another list."""
    for ranks in (0, 3):
        preprocess("--data", data, "--out", f"{ranks}.h5", "--frame-rate", "5", "--max-rejects",
                   "3", ranks=ranks, cwd=tmp_path)
    assert (tmp_path / "0.h5").read_bytes() == (tmp_path / "3.h5").read_bytes()
    header = open_header(tmp_path / "3.h5")
    paths = header.array("path").tolist()
    for name, count in COUNTS.items():
        rows = [path for path in paths if path.startswith(f"real/real_{name}#".encode())]
        assert [path.partition(b"#")[2].decode() for path in rows] == \
            [str(At(moment)) for moment in range(0, 40 * count, 200)], name
        for path in rows:
            assert header.array("status")[paths.index(path)] == DONE
    again = preprocess("--data", data, "--out", "3.h5", "--frame-rate", "4", ranks=2, cwd=tmp_path,
                       code=2)
    assert re.search(r"3\.h5 differs in: .*list of pictures", again.stderr)
    both = preprocess("--data", data, "--out", "y.h5", "--frame-rate", "4", "--frames-per-video",
                      "2", ranks=2, cwd=tmp_path, code=2)
    assert "give either --frames-per-video or --frame-rate" in both.stderr


def test_only_the_damaged_rows_of_a_video_are_repaired(data, reference, tmp_path):
    """Rows in the middle of two videos; the file ends with the same bytes."""
    file = tmp_path / "x.h5"
    shutil.copy(reference, file)
    header = open_header(file)
    header.array("ela", "r+")[3, 64, 64, 1] ^= 0x10
    header.array("crc32", "r+")[6:8] ^= 1
    done = preprocess("--data", data, "--out", "x.h5", "--frames-per-video", "3", "--max-rejects",
                      "9", ranks=2, cwd=tmp_path)
    assert re.search(r"repaired +3 ", done.stdout)
    assert re.search(r"images +3 ", done.stdout)
    assert file.read_bytes() == reference.read_bytes()


def test_a_video_longer_than_a_block_and_more_ranks_than_videos(data, tmp_path):
    """150 rows of one video go to one rank, in blocks of 64; two of three ranks have few rows."""
    top = tmp_path / "data"
    for folder in ("real", "fake"):
        (top / folder).mkdir(parents=True)
        shutil.copy(data / folder / f"{folder}_a.avi", top / folder)
    for ranks in (0, 3):
        preprocess("--data", top, "--out", f"{ranks}.h5", "--frames-per-video", "150", ranks=ranks,
                   cwd=tmp_path)
    assert (tmp_path / "0.h5").read_bytes() == (tmp_path / "3.h5").read_bytes()
    header = open_header(tmp_path / "0.h5")
    assert header.rows == 300 and (header.array("status") == DONE).all()
