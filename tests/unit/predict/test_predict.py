"""predict: what it reads and writes, with a network whose answers are known beforehand."""

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
from conftest import alone
from PIL import Image

from hpc_deepfake import predict
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network import device, model
from hpc_deepfake.predict import explain, inputs, maps, output, scoring
from preprocessing.ela import Parameters, features_of_file, features_of_pixels
from preprocessing.picture import decode, read

CARD = model.Card("raw", Parameters())


class Network:
    """Says that a picture is tampered with the probability mean / 255: of all or of a corner."""

    def __init__(self, corner: bool = False) -> None:
        self.corner, self.asked = corner, 0

    def predict_on_batch(self, pictures: np.ndarray) -> np.ndarray:
        assert pictures.shape[1:] == (128, 128, 3) and pictures.dtype == np.uint8
        self.asked += len(pictures)
        seen = pictures[:, :32, :32] if self.corner else pictures
        p = seen.mean(axis=(1, 2, 3), dtype=np.float64) / 255
        return np.stack([1 - p, p], axis=1)


@pytest.fixture
def network(monkeypatch) -> Network:
    """The command's network is this one."""
    it = Network()
    monkeypatch.setattr(model, "read_card", lambda _: CARD)
    monkeypatch.setattr(model, "load", lambda _: it)
    monkeypatch.setattr(device, "start", lambda *_: None)
    return it


def run(*words: str | os.PathLike) -> int:
    return predict.main(alone(), ["--model", "run", *map(os.fspath, words)])


def want(path: str | os.PathLike) -> float:
    return float(features_of_file(os.fspath(path), ("raw",), Parameters())[0].mean() / 255)


def grey(path: Path, level: int, size: tuple[int, int] = (64, 96)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], (level,) * 3).save(path)
    return path


def clip(path: Path, levels: list[int], rate: float = 10) -> Path:
    """A video of plain frames."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate, (64, 48))
    assert writer.isOpened()
    for level in levels:
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    return path


@pytest.fixture
def tree(tmp_path) -> Path:
    """Pictures and a video in folders, and what is neither."""
    for name in ("b.png", "a.JPG", "sub/c.png", "sub/deep/d.tif", ".hidden.png"):
        grey(tmp_path / name, 100)
    (tmp_path / "sub" / "notes.txt").write_text("no picture")
    (tmp_path / "sub" / "e.mp4").touch()
    return tmp_path


def names(found: list[bytes], root: Path) -> list[str]:
    return [os.path.relpath(os.fsdecode(path), root) for path in found]


ALL = ["a.JPG", "b.png", "sub/c.png", "sub/e.mp4", "sub/deep/d.tif"]


def test_folders_files_and_patterns(tree):
    """In the order of the words; folders and what a pattern fits sorted; nothing left out twice
    named."""
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
    ("gone*.jpg", "no picture or folder fits the pattern 'gone*.jpg'")])
def test_a_word_that_names_nothing(tree, monkeypatch, word, message):
    monkeypatch.chdir(tree)
    with pytest.raises(InputError) as error:
        inputs.find(["a.JPG", word])
    assert str(error.value) == message


@pytest.mark.parametrize(("data", "expected"), [
    (b"a.jpg\nb c.jpg\r\n\n", [b"a.jpg", b"b c.jpg"]),
    (b"a.jpg\0new\nline.jpg\0\xff.jpg\0", [b"a.jpg", b"new\nline.jpg", b"\xff.jpg"]),
    (b"*.jpg", [b"*.jpg"]), (b"", [])])
def test_a_list_on_standard_input(data, expected):
    """Lines, or NUL-separated; names are names, whatever they hold."""
    assert inputs.listed(io.BytesIO(data)) == expected


def test_a_list_may_hold_folders_and_what_is_gone(tree):
    """The rest of a long list is done; reading says what is wrong."""
    data = f"{tree / 'sub'}\n{tree / 'gone.jpg'}\n".encode()
    assert names(inputs.find(["-"], io.BytesIO(data)), tree) == [
        "sub/c.png", "sub/e.mp4", "sub/deep/d.tif", "gone.jpg"]


def test_closed_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="that is closed"):
        inputs.find(["-"])


def test_a_folder_that_cannot_be_listed_is_in_the_list(tree, monkeypatch):
    """It gets a line of its own instead of being silently left out."""
    real = os.scandir

    def scandir(path):
        if os.fsdecode(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert names(inputs.find([str(tree)]), tree) == [*ALL[:-1], "sub/deep"]


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [1, 7, 100])
def test_blocks_are_the_list(ranks, count):
    """Every file once and in order, each block's place right, videos alone, something for each
    rank where there is enough."""
    paths = [b"%d.%s" % (one, b"mp4" if one % 10 == 3 else b"jpg") for one in range(count)]
    found = scoring.blocks(paths, ranks)
    assert [path for block in found for path in block.paths] == paths
    for block in found:
        assert paths[block.first - 1] == block.paths[0]
        assert 1 <= len(block.paths) <= scoring.BATCH
        assert len(block.paths) == 1 or not any(map(inputs.is_video, block.paths))
    assert len(found) >= min(ranks, count)


@pytest.mark.parametrize("form", output.FORMATS)
def test_every_format_has_the_networks_answers(network, tree, capsys, form):
    """In order, with the unreadable video among them: code 2, and all others are done."""
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
        assert score is None or score == pytest.approx(want(tree / name), abs=6e-4)
    assert verdicts[:3] == ["authentic", "tampered", "authentic"]
    assert verdicts[3] == "not read: empty file"
    first, last = err.splitlines()
    assert first.startswith("4 pictures, ") and first.endswith(" images/s on 1 rank")
    assert last == "1 of 5 could not be read"


def test_a_video_has_a_row_per_frame_and_one_for_the_clip(network, tmp_path, capsys):
    """Frames with their seconds, the clip's the mean; a plot where one is asked for."""
    path = clip(tmp_path / "clip.avi", [40] * 10 + [200] * 10)
    assert run("--frames", "4", "--format", "json", "--plot-dir", tmp_path / "plots", path) == 0
    out, err = capsys.readouterr()
    *frames, whole = map(json.loads, out.splitlines())
    assert [row["path"] for row in frames] == [f"{path}#{seconds}" for seconds in (
        "0.20", "0.70", "1.20", "1.70")]
    assert [row["verdict"] for row in frames] == ["authentic"] * 2 + ["tampered"] * 2
    assert [row["probability"] for row in frames] == pytest.approx(
        [40 / 255] * 2 + [200 / 255] * 2, abs=0.02)
    assert whole["path"] == str(path)
    assert whole["probability"] == pytest.approx(np.mean([row["probability"] for row in frames]))
    assert err.startswith("0 pictures and 1 video (4 frames), ")
    plot, = (tmp_path / "plots").iterdir()
    assert plot.name == "00001-clip.avi.png" and Image.open(plot).size[0] > 300


def test_frame_rate(network, tmp_path, capsys):
    """Two frames a second of a video of two seconds."""
    path = clip(tmp_path / "clip.avi", [40] * 20)
    assert run("--frame-rate", "2", "--format", "csv", path) == 0
    found = [line.split(",")[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert found == [f"{path}#{seconds}" for seconds in ("0.00", "0.50", "1.00", "1.50")] + [
        str(path)]


def test_a_cut_video_is_not_read_and_the_others_are(network, tmp_path, capsys):
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


@pytest.mark.parametrize("path", [
    b"/x/../../etc/passwd", b"..", b"/a/b/..", b"a/\xff\n\x1b[31m/..\\..\\x.jpg",
    b"/x/" + b"y" * 250, "/x/ü🖼.jpg".encode(), b"/x/.htaccess", b"C:\\con.png", b"x\0y.jpg"])
def test_names_of_maps_stay_in_their_folder(path):
    """Whatever the picture is called, its map's name is one plain, short part of a path."""
    name = maps.file_name(7, path)
    assert Path(name).name == name and len(name) < 130
    assert name.startswith("00007-") and name.endswith(".png")
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def test_maps_of_pictures_with_the_same_name_are_all_there(network, tmp_path, capsys):
    """One of each kind for every picture, of the same size beside each other; none of a file that
    can't be read."""
    for number, folder in enumerate(("one", "two")):
        grey(tmp_path / folder / "x.png", 50 + 150 * number)
    (tmp_path / "two" / "bad.png").touch()
    assert run("--ela-dir", tmp_path / "maps" / "ela", "--explain-dir", tmp_path / "maps" / "why",
               tmp_path / "one", tmp_path / "two") == 2
    for folder in ("ela", "why"):
        found = sorted((tmp_path / "maps" / folder).iterdir())
        assert [path.name for path in found] == ["00001-x.png.png", "00003-x.png.png"]
        assert all(Image.open(path).size[0] > 2 * maps.SIDE for path in found)
    # two pictures, each asked once, and once and 225 times for the explanation
    assert network.asked == 2 * (1 + 1 + 225)


def test_a_link_in_the_folder_is_replaced_and_not_followed(network, tmp_path, capsys):
    """A picture is never written outside the folder."""
    grey(tmp_path / "x.png", 50)
    out = tmp_path / "maps"
    out.mkdir()
    (tmp_path / "precious").write_text("mine")
    for name in ("00001-x.png.png", ".new-00001-x.png.png"):
        (out / name).symlink_to(tmp_path / "precious")
    assert run("--ela-dir", out, tmp_path / "x.png") == 0
    assert (tmp_path / "precious").read_text() == "mine"
    assert [path.name for path in out.iterdir()] == ["00001-x.png.png"]
    assert not (out / "00001-x.png.png").is_symlink()


def test_maps_cannot_be_written(network, tmp_path, capsys):
    """Found before anything is computed."""
    picture = grey(tmp_path / "x.png", 50)
    with pytest.raises(InputError, match="cannot make --ela-dir"):
        run("--ela-dir", picture / "inside", picture)
    assert not network.asked


def test_occlusion_finds_what_the_network_looks_at():
    """A network that sees one corner only, and takes light for tampered: a light corner speaks for
    it, a dark one against, and the rest has no say."""
    for level, sign in ((220, 1), (20, -1)):
        picture = np.full((128, 128, 3), 120, np.uint8)
        picture[:32, :32] = level
        found = explain.occlusion(Network(corner=True), picture)
        assert found.shape == (128, 128)
        assert (sign * found[:32, :32] > 0.01).all()
        assert np.abs(found[48:]).max() < 1e-12 and np.abs(found[:, 48:]).max() < 1e-12


def test_occlusion_by_hand():
    """The first 8 × 8 pixels are covered by one patch only, the one in the corner."""
    picture = np.full((128, 128, 3), 120, np.uint8)
    picture[:32, :32] = 220
    cover = round(float(picture.mean()))
    hidden = picture.copy()
    hidden[:16, :16] = cover

    def log_odds(p):
        return np.log(p / (1 - p))

    p, q = (one[:32, :32].mean() / 255 for one in (picture, hidden))
    found = explain.occlusion(Network(corner=True), picture)
    assert found[:8, :8] == pytest.approx(log_odds(p) - log_odds(q), abs=1e-9)


def test_certain_answers_have_finite_log_odds():
    assert np.isfinite(explain.occlusion(Network(), np.zeros((128, 128, 3), np.uint8))).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (900, 3), (200, 300)])
def test_maps_of_any_shape(size):
    """Odd shapes can be drawn, with long and strange names."""
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    for path in (b"x.jpg", "ü🖼\n.jpg".encode() * 40):
        row = output.Row(path, 0.25, "authentic")
        for image in (maps.error_levels(pixels, row, CARD),
                      maps.explanation(pixels, row, CARD, Network())):
            assert image.size[0] > 500 and image.size[1] < 600


def test_the_map_shows_the_picture_and_its_error_levels(pictures):
    """The left panel is the picture; the right one is bright where the error level is."""
    path = sorted((pictures / "Tp").iterdir())[0]
    pixels = decode(read(os.fspath(path)))
    image = np.asarray(maps.error_levels(pixels, output.Row(b"x", 0.9, "tampered"), CARD))
    small = maps._scaled(pixels)
    height, width = small.shape[:2]
    left = image[maps._HEAD:maps._HEAD + height, maps._MARGIN:maps._MARGIN + width]
    assert np.array_equal(left, small[..., ::-1])
    start = 2 * maps._MARGIN + max(width, 260)
    right = image[maps._HEAD:maps._HEAD + height, start:start + width].astype(float)
    levels = features_of_pixels(pixels, ("ela",), Parameters())[0].astype(float)
    shrunk = cv2.resize(right, (128, 128), interpolation=cv2.INTER_AREA)
    assert np.corrcoef(shrunk.ravel(), levels.ravel())[0, 1] > 0.9


@pytest.mark.parametrize(("words", "message"), [
    ([], "no pictures in"), (["--frames", "3"], "no pictures in")])
def test_a_folder_without_pictures(network, tmp_path, words, message):
    with pytest.raises(InputError, match=message):
        run(*words, tmp_path)


def test_no_model():
    with pytest.raises(InputError, match="--model RUN"):
        predict.main(alone(), ["x.jpg"])


def test_a_model_that_gives_no_numbers(network, tmp_path, monkeypatch):
    """A diverged one says nothing, not even "authentic"."""
    monkeypatch.setattr(network, "predict_on_batch", lambda x: np.full((len(x), 2), np.nan))
    with pytest.raises(InputError, match="gives no numbers"):
        run(grey(tmp_path / "x.png", 50))


def test_frames_and_rate_exclude_each_other(network, tmp_path):
    with pytest.raises(InputError, match="either --frames or --frame-rate"):
        run("--frames", "3", "--frame-rate", "2", grey(tmp_path / "x.png", 50))
