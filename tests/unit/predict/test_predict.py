"""predict: what it reads and writes, with a network whose predictions are known in advance."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from mean_network import MeanNetwork
from PIL import Image

from hpc_deepfake import predict
from hpc_deepfake.core import log
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network import device, model
from hpc_deepfake.predict import inputs, maps, output, scoring
from preprocessing.ela import Parameters, features_of_file

CARD = model.Card("raw", Parameters(), trained_on={})


@pytest.fixture
def network(monkeypatch) -> MeanNetwork:
    """The command loads this network, and logs to standard error."""
    replacement = MeanNetwork()
    monkeypatch.setattr(model, "read_card", lambda _: CARD)
    monkeypatch.setattr(model, "load", lambda _: replacement)
    monkeypatch.setattr(device, "start", lambda *_, **__: None)
    monkeypatch.setattr(log.log, "propagate", log.log.propagate)  # as before after the test
    log.start()
    return replacement


def run(*words: str | os.PathLike) -> int:
    return predict.main(["--model", "run", *map(os.fspath, words)])


def expected(path: str | os.PathLike) -> float:
    return float(features_of_file(os.fspath(path), ("raw",), Parameters())[0].mean() / 255)


def grey(path: Path, level: int, size: tuple[int, int] = (64, 96)) -> Path:
    """A picture of a grey level, but for one line: one without any content gets no verdict."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", size[::-1], (level,) * 3)
    picture.paste((level + 9,) * 3, (0, 0, size[1], 1))
    picture.save(path)
    return path


def clip(path: Path, levels: list[int], rate: float = 10) -> Path:
    """A video of grey frames, each but for a strip."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate, (64, 48))
    assert writer.isOpened()
    for level in levels:
        frame = np.full((48, 64, 3), level, np.uint8)
        frame[:8] += 9
        writer.write(frame)
    writer.release()
    return path


@pytest.fixture
def tree(tmp_path) -> Path:
    """Pictures and a video in folders, and files that are neither."""
    for name in ("b.png", "a.JPG", "sub/c.png", "sub/deep/d.tif", ".hidden.png"):
        grey(tmp_path / name, 100)
    (tmp_path / "sub" / "notes.txt").write_text("no picture")
    (tmp_path / "sub" / "e.mp4").touch()
    return tmp_path


def names(paths: list[bytes], root: Path) -> list[str]:
    return [os.path.relpath(os.fsdecode(path), root) for path in paths]


ALL = ["a.JPG", "b.png", "sub/c.png", "sub/e.mp4", "sub/deep/d.tif"]


def test_folders_files_and_patterns(tree):
    """In the order of the words; folders and matches of a pattern are sorted; files named twice are
    listed twice."""
    assert names(inputs.find([str(tree)]), tree) == ALL
    words = [str(tree / word) for word in ("sub/deep", "b.png", "*.*", "**/*.tif", "b.png")]
    assert names(inputs.find(words), tree) == [
        "sub/deep/d.tif", "b.png", "a.JPG", "b.png", "sub/deep/d.tif", "b.png"]
    assert names(inputs.find([str(tree / "sub" / "notes.txt")]), tree) == ["sub/notes.txt"]


def test_a_name_that_looks_like_a_pattern_is_a_name(tree):
    shutil.copy(tree / "b.png", tree / "scan[1].png")
    assert names(inputs.find([str(tree / "scan[1].png")]), tree) == ["scan[1].png"]


@pytest.mark.parametrize(("word", "message"), [
    ("gone.jpg", "there is no picture or folder 'gone.jpg'"),
    ("gone*.jpg", "no picture or folder matches the pattern 'gone*.jpg'")])
def test_a_word_that_matches_nothing(tree, monkeypatch, word, message):
    monkeypatch.chdir(tree)
    with pytest.raises(InputError) as error:
        inputs.find(["a.JPG", word])
    assert str(error.value) == message


@pytest.mark.parametrize(("data", "expected"), [
    (b"a.jpg\nb c.jpg\r\n\n", [b"a.jpg", b"b c.jpg"]),
    (b"a.jpg\0new\nline.jpg\0\xff.jpg\0", [b"a.jpg", b"new\nline.jpg", b"\xff.jpg"]),
    (b"*.jpg", [b"*.jpg"]), (b"", [])])
def test_a_list_on_standard_input(data, expected):
    """Lines, or NUL-separated; a listed name is never a pattern."""
    assert inputs.listed(io.BytesIO(data)) == expected


def test_a_list_may_contain_folders_and_missing_files(tree):
    """The rest of a long list is processed; reading the missing file gives the reason."""
    data = f"{tree / 'sub'}\n{tree / 'gone.jpg'}\n".encode()
    assert names(inputs.find(["-"], io.BytesIO(data)), tree) == [
        "sub/c.png", "sub/e.mp4", "sub/deep/d.tif", "gone.jpg"]


def test_closed_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="which is closed"):
        inputs.find(["-"])


def test_a_folder_that_cannot_be_listed_is_in_the_list(tree, monkeypatch):
    """It has a line of its own in the output instead of being skipped silently."""
    real = os.scandir

    def scandir(path):
        if os.fsdecode(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert names(inputs.find([str(tree)]), tree) == [*ALL[:-1], "sub/deep"]


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [1, 7, 100])
def test_blocks_divide_the_list(ranks, count):
    """Every file once and in order, each block with its position, each video in a block of its own,
    and a block for each rank if there are enough files."""
    paths = [b"%d.%s" % (number, b"mp4" if number % 10 == 3 else b"jpg")
             for number in range(count)]
    blocks = scoring.blocks(paths, ranks)
    assert [path for block in blocks for path in block.paths] == paths
    for block in blocks:
        assert paths[block.first - 1] == block.paths[0]
        assert 1 <= len(block.paths) <= scoring.BATCH
        assert len(block.paths) == 1 or not any(map(inputs.is_video, block.paths))
    assert len(blocks) >= min(ranks, count)
    assert {len(block.paths) for block in scoring.blocks(paths, ranks, 1)} == {1}


@pytest.mark.parametrize("form", output.FORMATS)
def test_every_format_has_the_networks_predictions(network, tree, capsys, form):
    """In order, with the unreadable video among them: code 2, and all others are predicted."""
    (tree / "b.png").unlink()
    grey(tree / "b.png", 200)
    assert run("--format", form, tree) == 2
    out, err = capsys.readouterr()
    if form == "json":
        rows = [json.loads(line) for line in out.splitlines()]
        scores = [row["probability"] for row in rows]
        verdicts = [row["verdict"] for row in rows]
        paths = [row["path"] for row in rows]
    elif form == "csv":
        rows = list(csv.DictReader(io.StringIO(out, newline="")))
        scores = [float(row["probability"]) if row["probability"] else None for row in rows]
        verdicts = [row["verdict"] for row in rows]
        paths = [row["path"] for row in rows]
    else:
        rows = [line.split("  ") for line in out.splitlines()[1:]]
        rows = [[part.strip() for part in row if part] for row in rows]
        scores = [None if row[0] == "–" else float(row[0].rstrip("%")) / 100 for row in rows]
        verdicts, paths = [row[1] for row in rows], [row[-1] for row in rows]
    assert paths == [str(tree / name) for name in ALL]
    assert [i for i, score in enumerate(scores) if score is None] == [3]
    for name, score in zip(ALL, scores, strict=True):
        assert score is None or score == pytest.approx(expected(tree / name), abs=6e-4)
    assert verdicts[:3] == ["authentic", "tampered", "authentic"]
    assert verdicts[3].startswith("not read: empty file")
    note, first, last = err.splitlines()
    assert note == "note: beside the pictures left out: 1 hidden, 1 .txt"
    assert first.startswith("4 pictures, ") and first.endswith(" images/s on 1 rank")
    assert last == "1 of 5 could not be read"


def test_a_video_has_a_row_per_frame_and_one_in_all(network, tmp_path, capsys):
    """Frames with their time; the video's probability is their mean; a plot if requested."""
    path = clip(tmp_path / "clip.avi", [40] * 10 + [200] * 10)
    assert run("--frames", "4", "--format", "json", "--plot-dir", tmp_path / "plots", path) == 0
    out, err = capsys.readouterr()
    *frames, video = map(json.loads, out.splitlines())
    assert [row["path"] for row in frames] == [f"{path}#{seconds}" for seconds in (
        "0.20", "0.70", "1.20", "1.70")]
    assert [row["verdict"] for row in frames] == ["authentic"] * 2 + ["tampered"] * 2
    assert [row["probability"] for row in frames] == pytest.approx(
        [40 / 255] * 2 + [200 / 255] * 2, abs=0.02)
    assert video["path"] == str(path)
    assert video["probability"] == pytest.approx(np.mean([row["probability"] for row in frames]))
    assert err.startswith("0 pictures and 1 video (4 frames), ")
    plot, = (tmp_path / "plots").iterdir()
    assert plot.name == "00001-clip.avi.png"
    with Image.open(plot) as image:
        assert image.size[0] > 300


def test_frame_rate(network, tmp_path, capsys):
    """Two frames a second of a video of two seconds."""
    path = clip(tmp_path / "clip.avi", [40] * 20)
    assert run("--frame-rate", "2", "--format", "csv", path) == 0
    listed = [line.split(",")[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert listed == [f"{path}#{seconds}" for seconds in ("0.00", "0.50", "1.00", "1.50")] + [
        str(path)]


def test_a_truncated_video_is_reported_and_the_rest_is_predicted(network, tmp_path, capsys):
    whole = clip(tmp_path / "b.avi", [40] * 5)
    (tmp_path / "a.avi").write_bytes(whole.read_bytes()[:100])
    grey(tmp_path / "c.png", 30)
    assert run("--format", "json", tmp_path) == 2
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert rows[0]["verdict"].startswith("not read: ") and rows[0]["probability"] is None
    assert [os.path.basename(row["path"]).partition("#")[0] for row in rows] == [
        "a.avi", *["b.avi"] * 6, "c.png"]
    assert err.startswith("1 picture and 1 video (5 frames), ")
    assert err.splitlines()[1] == "1 of 3 could not be read"


def test_pictures_of_the_same_name_have_maps_of_their_own(network, tmp_path, capsys):
    """One of each kind for every picture, two panels wide; none for an unreadable file."""
    for number, folder in enumerate(("one", "two")):
        grey(tmp_path / folder / "x.png", 50 + 150 * number)
    (tmp_path / "two" / "bad.png").touch()
    assert run("--ela-dir", tmp_path / "maps" / "ela", "--explain-dir", tmp_path / "maps" / "why",
               tmp_path / "one", tmp_path / "two") == 2
    for folder in ("ela", "why"):
        written = sorted((tmp_path / "maps" / folder).iterdir())
        assert [path.name for path in written] == ["00001-x.png.png", "00003-x.png.png"]
        for path in written:
            with Image.open(path) as image:
                assert image.size[0] > 2 * (maps.SIDE if folder == "why" else maps.LEAST)
    # two pictures, each predicted once, and 1 + 225 times for the explanation
    assert network.predictions == 2 * (1 + 1 + 225)


def test_a_link_in_the_folder_is_replaced_not_followed(network, tmp_path, capsys):
    """A picture is never written outside the folder."""
    grey(tmp_path / "x.png", 50)
    out = tmp_path / "maps"
    out.mkdir()
    (tmp_path / "precious").write_text("untouched")
    (out / "00001-x.png.png").symlink_to(tmp_path / "precious")
    assert run("--ela-dir", out, tmp_path / "x.png") == 0
    assert (tmp_path / "precious").read_text() == "untouched"
    assert [path.name for path in out.iterdir()] == ["00001-x.png.png"]
    assert not (out / "00001-x.png.png").is_symlink()


def test_maps_that_cannot_be_written(network, tmp_path):
    """An error before anything is computed."""
    picture = grey(tmp_path / "x.png", 50)
    with pytest.raises(InputError, match="cannot create --ela-dir"):
        run("--ela-dir", picture / "inside", picture)
    assert not network.predictions


@pytest.mark.parametrize(("words", "message"), [
    ([], "no pictures in"), (["--frames", "3"], "no pictures in")])
def test_a_folder_without_pictures(network, tmp_path, words, message):
    with pytest.raises(InputError, match=message):
        run(*words, tmp_path)


def test_no_model():
    with pytest.raises(InputError, match="--model RUN"):
        predict.main(["x.jpg"])


def test_a_model_without_finite_probabilities(network, tmp_path, monkeypatch):
    """No verdict of a diverged one, not even "authentic"."""
    monkeypatch.setattr(network, "predict_on_batch", lambda x: np.full((len(x), 2), np.nan))
    with pytest.raises(InputError, match="are not finite numbers"):
        run(grey(tmp_path / "x.png", 50))


def test_frames_and_rate_exclude_each_other(network, tmp_path):
    with pytest.raises(InputError, match="either --frames or --frame-rate"):
        run("--frames", "3", "--frame-rate", "2", grey(tmp_path / "x.png", 50))
