"""Where a picture was changed: masks and overlays of ``predict``, and maps in Python, with a
network whose maps are known in advance: the brightness of each place."""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from mean_network import MapNetwork, MeanNetwork
from PIL import Image

import hpc_deepfake
from hpc_deepfake import predict
from hpc_deepfake.core.errors import InputError
from hpc_deepfake.network import device, model
from hpc_deepfake.predict import maps, output
from hpc_deepfake.predict.library import Model
from hpc_deepfake.predict.where import Where, placed
from hpc_deepfake.web.overlay import enlarged, tinted
from preprocessing.ela import Parameters

CARD = model.Card("raw", Parameters(), trained_on={}, mask_threshold=150)
BRIGHT, DARK = 220, 30


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> MapNetwork:
    """The command loads this network."""
    replacement = MapNetwork()
    monkeypatch.setattr(model, "read_card", lambda _: CARD)
    monkeypatch.setattr(model, "load", lambda _: replacement)
    monkeypatch.setattr(device, "start", lambda *_, **__: None)
    return replacement


@pytest.fixture
def loaded(network: MapNetwork, tmp_path: Path) -> Model:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.keras").touch()
    return hpc_deepfake.load(tmp_path / "run")


def run(*words: str | os.PathLike[str]) -> int:
    return predict.main(["--model", "run", *map(os.fspath, words)])


def halves(height: int, width: int) -> np.ndarray:
    """A picture that is bright in its left quarter."""
    pixels = np.full((height, width, 3), DARK, np.uint8)
    pixels[:, :width // 4] = BRIGHT
    return pixels


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.asarray(image)


@pytest.mark.parametrize("size", [(300, 500), (60, 90), (40, 400), (500, 30), (1, 1), (128, 128)])
def test_a_mask_has_the_size_of_its_picture_and_its_levels(network, tmp_path, size):
    """Where the map is high, and nowhere else, whatever the proportions."""
    picture = save(tmp_path / "in" / "x.png", halves(*size))
    assert run("--mask-dir", tmp_path / "out", picture) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "00001-x.png.mask.png", "00001-x.png.overlay.png"]
    levels = read(tmp_path / "out" / "00001-x.png.mask.png")
    assert levels.shape == size
    if size[1] >= 90:
        edge, soft = size[1] // 4, max(3, size[1] // 40)
        assert np.ptp(levels[:, :edge - soft]) <= 1 and levels[0, 0] == BRIGHT
        assert np.ptp(levels[:, edge + soft:]) <= 1 and levels[-1, -1] == DARK
    with Image.open(tmp_path / "out" / "00001-x.png.mask.png") as image:
        assert "calls it changed from 150 on" in image.text["Description"]


def test_a_mask_lies_on_the_pixels_as_stored(network, tmp_path):
    """Of a picture with an orientation tag, too, as error levels and ground-truth masks do."""
    exif = Image.Exif()
    exif[274] = 6  # to be turned by a quarter
    picture = save(tmp_path / "x.jpg", halves(96, 160), exif=exif, quality=95)
    assert run("--mask-dir", tmp_path / "out", picture) == 0
    levels = read(tmp_path / "out" / "00001-x.jpg.mask.png")
    assert levels.shape == (96, 160)
    assert levels[:, :30].min() > 200 and levels[:, 60:].max() < 60


def test_binary_masks_have_two_values(network, tmp_path):
    picture = save(tmp_path / "x.png", halves(100, 200))
    assert run("--mask-dir", tmp_path / "out", "--mask-values", "binary", picture) == 0
    levels = read(tmp_path / "out" / "00001-x.png.mask.png")
    assert np.unique(levels).tolist() == [0, 255]
    assert np.mean(levels == 255) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("form", output.FORMATS)
def test_every_format_says_the_changed_area(network, tmp_path, capsys, form):
    """The table only beside masks; an unreadable file has none."""
    save(tmp_path / "in" / "a.png", halves(100, 200))
    (tmp_path / "in" / "b.png").touch()
    assert run("--format", form, "--mask-dir", tmp_path / "out", tmp_path / "in") == 2
    out = capsys.readouterr().out
    if form == "json":
        first, second = map(json.loads, out.splitlines())
        assert first["changed_area"] == pytest.approx(0.25)
        assert second["changed_area"] is None and first["mask_threshold"] == 150
    elif form == "csv":
        first, second = csv.DictReader(io.StringIO(out, newline=""))
        assert float(first["changed_area"]) == pytest.approx(0.25) and not second["changed_area"]
        assert out.startswith("path,probability,verdict,notes,changed_area\n")
    else:
        head, first, second = out.splitlines()
        assert head.split() == ["tampered", "changed", "verdict", "picture"]
        assert first.split()[1] == "25.0%"
        assert second.split()[:2] == ["–", "–"]
        assert run(tmp_path / "in" / "a.png") == 0
        assert "changed" not in capsys.readouterr().out


def test_models_without_a_map_are_as_before(network, tmp_path, capsys, monkeypatch):
    """--mask-dir is refused before anything is computed or made; CSV and JSON have no new field."""
    plain = MeanNetwork()
    monkeypatch.setattr(model, "read_card", lambda _: replace(CARD, mask_threshold=None))
    monkeypatch.setattr(model, "load", lambda _: plain)
    picture = save(tmp_path / "x.png", halves(100, 200))
    with pytest.raises(InputError, match=r"doesn't say where .* --network unet"):
        run("--mask-dir", tmp_path / "out", picture)
    assert not plain.predictions and not (tmp_path / "out").exists()
    assert run("--format", "csv", picture) == run("--format", "json", picture) == 0
    head, _, line = capsys.readouterr().out.splitlines()
    assert head == "path,probability,verdict,notes" and "changed_area" not in json.loads(line)


def test_values_of_masks_without_masks_are_refused(network, tmp_path):
    with pytest.raises(InputError, match="add --mask-dir"):
        run("--mask-values", "binary", save(tmp_path / "x.png", halves(100, 200)))


def test_names_don_t_collide_or_leave_the_folder(network, tmp_path, capsys):
    for folder in ("one", "two"):
        save(tmp_path / folder / "x.png", halves(40, 60))
    odd = save(tmp_path / "two" / "ü\n..\\y.png", halves(40, 60))
    assert run("--mask-dir", tmp_path / "out", tmp_path / "one", tmp_path / "two") == 0
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(written) == 6 and odd.name not in written
    assert written[:2] == ["00001-x.png.mask.png", "00001-x.png.overlay.png"]
    assert all(name[:6] in ("00001-", "00002-", "00003-") for name in written)
    assert not set("".join(written)) & set("/\\\nü")


def test_each_frame_of_a_video_has_a_mask(network, tmp_path, capsys):
    """Numbered, so that frames less than a hundredth of a second apart have files of their own."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for number in range(6):
        frame = np.full((48, 64, 3), DARK, np.uint8)
        frame[:, :10 * number] = BRIGHT
        writer.write(frame)
    writer.release()
    assert run("--frames", "3", "--format", "json", "--mask-dir", tmp_path / "out", path) == 0
    *frames, whole = map(json.loads, capsys.readouterr().out.splitlines())
    areas = [frame["changed_area"] for frame in frames]
    assert areas == sorted(areas) and areas[0] < areas[2]
    assert whole["changed_area"] == pytest.approx(np.mean(areas))
    names = [f"00001-clip.avi-frame{frame:04d}.{kind}.png" for frame in (1, 2, 3)
             for kind in ("mask", "overlay")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    for name, area in zip(names[::2], areas, strict=True):
        levels = read(tmp_path / "out" / name)
        assert levels.shape == (48, 64)
        assert np.mean(levels >= 150) == pytest.approx(area, abs=0.03)


def test_rows_are_sent_to_rank_0_without_their_maps(network, tmp_path):
    """A map has a hundred times the bytes of a line."""
    from hpc_deepfake.network.guard import Guard
    from hpc_deepfake.predict import _in_order
    from hpc_deepfake.predict.scoring import blocks

    options = predict.parser().parse(["x", "--mask-dir", os.fspath(tmp_path)])
    paths = [os.fsencode(save(tmp_path / name, halves(9, 9))) for name in ("a.png", "b.png")]
    guard = Guard.of(CARD, tmp_path, pictures=False)
    rows = [row for block in _in_order(None, options, CARD, network, guard, blocks(paths, 1))
            for row in block]
    assert [row.where for row in rows] == [None] * 2 and rows[0].changed_area is not None


def test_an_overlay_is_red_where_it_was_changed_with_a_line_around_it():
    pixels = np.full((300, 300, 3), 128, np.uint8)
    levels = np.zeros((300, 300), np.uint8)
    levels[100:200, 100:200] = 255
    drawn = tinted(pixels, levels, 128).astype(int)
    blue, red = drawn[..., 0], drawn[..., 2]
    assert (red - blue)[110:190, 110:190].min() > 100
    outside = np.ones((300, 300), bool)
    outside[95:205, 95:205] = False
    assert np.ptp(drawn[outside]) == 0, "pale grey, untouched"
    border = drawn[100, 120:180]
    assert not np.array_equal(border, drawn[150, 120:180]), "the line"
    with_line, without = (tinted(pixels, levels // 4, threshold) for threshold in (63, 64))
    assert not np.array_equal(with_line[100, 150], without[100, 150]), "by the threshold"
    assert np.array_equal(with_line[150, 150], without[150, 150])
    assert np.ptp(tinted(pixels, np.zeros_like(levels), 1)) == 0, "none without an area"


def test_an_overlay_says_the_area_the_threshold_and_no_number_without_a_verdict(monkeypatch):
    from PIL import ImageDraw

    written: list[str] = []
    draw = ImageDraw.ImageDraw.text
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda self, place, text, *rest, **more: (
        written.append(text), draw(self, place, text, *rest, **more)))
    where = Where(np.full((64, 64), 200, np.uint8), 153, (30, 50))
    row = output.Row(b"x.jpg", 0.9, "tampered", changed_area=where.area, where=where)
    assert maps.overlay(np.zeros((30, 50, 3), np.uint8), row, CARD).size[0] > 2 * maps.SIDE
    assert "100.0% of it from 60.0% on" in " ".join(written)
    assert "not a proof" in " ".join(written) and "50 × 30 pixels" in " ".join(written)
    written.clear()
    maps.overlay(np.zeros((30, 50, 3), np.uint8), replace(row, unlike=("small",)), CARD)
    assert "100.0% of it" not in " ".join(written)
    large = maps.overlay(np.zeros((2000, 3000, 3), np.uint8), row, CARD)
    assert large.size[0] == 2 * maps.LONGEST + 3 * maps._MARGIN


def test_a_map_of_a_part_lies_in_its_place():
    """Where the network saw a part of the picture only, even one that reaches beyond its edge."""
    levels = np.full((64, 64), 90, np.uint8)
    found = placed(levels, (100, 80), (10, 20, 40, 60))
    assert found.shape == (100, 80) and (found[10:40, 20:60] == 90).all()
    assert found.sum() == 90 * 30 * 40
    cut = placed(levels, (100, 80), (-5, 70, 5, 90))
    assert (cut[:5, 70:] == 90).all() and cut.sum() == 90 * 5 * 10
    where = Where(np.full((64, 64), 200, np.uint8), 150, (100, 80), (10, 20, 40, 60))
    assert where.area == 1, "of what the network saw"
    assert where.at_own_size()[:10].max() == 0
    row = output.Row(b"x.jpg", 0.9, "tampered", where=where)
    image = np.asarray(maps.overlay(np.full((100, 80, 3), 99, np.uint8), row, CARD)).astype(int)
    left = image.shape[1] - maps._MARGIN - 320  # of the second panel, 4 times as large
    panel = image[maps._HEAD:maps._HEAD + 400, left:left + 320]
    redness = panel[..., 0] - panel[..., 2]
    assert redness[50:150, 90:230].min() > 50 and np.abs(redness[170:]).max() < 5


def test_an_enlarged_map_stays_within_its_levels_where_it_is_even():
    levels = np.zeros((8, 8), np.uint8)
    levels[:, 4:] = 200
    large = enlarged(levels, 800, 80)
    assert large.shape == (800, 80) and (np.diff(large[400].astype(int)) >= -16).all()
    assert large[:, :20].max() == 0 and (large[:, 65:] == 200).all()
    assert np.array_equal(enlarged(levels, 8, 8), levels)


def test_maps_in_python(loaded, network, tmp_path):
    """As the network gives them, and at the picture's own size; unequal ones don't make
    predictions unequal, or comparing them an error."""
    picture = halves(100, 200)
    first, again = loaded.predict([picture, picture])
    assert first == again and first.changed_area == pytest.approx(0.25)
    assert first.map.shape == (128, 128) and first.map.dtype == np.uint8
    assert np.array_equal(first.map >= loaded.card.mask_threshold, first.map == BRIGHT)
    own = first.where.at_own_size()
    assert own.shape == (100, 200) and own[50, 10] == BRIGHT and own[50, 150] == DARK
    assert "where" not in repr(first)
    missing, = loaded.predict(tmp_path / "gone.png")
    assert missing.map is missing.where is missing.changed_area is None


def test_explanations_of_a_model_with_a_map(network, tmp_path):
    """Of its verdict, as of any other model."""
    picture = save(tmp_path / "x.png", halves(100, 200))
    assert run("--explain-dir", tmp_path / "why", picture) == 0
    assert network.predictions == 1 + 226


def test_a_folder_with_content_and_one_that_cannot_be_made(network, tmp_path, capsys):
    """What is there stays but for files of the same names, of which links aren't followed; a folder
    that can't be made is told before anything is computed."""
    picture = save(tmp_path / "x.png", halves(40, 60))
    with pytest.raises(InputError, match="cannot create --mask-dir"):
        run("--mask-dir", picture / "inside", picture)
    assert not network.predictions
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("kept")
    (tmp_path / "precious").write_text("untouched")
    (out / "00001-x.png.mask.png").symlink_to(tmp_path / "precious")
    assert run("--mask-dir", out, picture) == 0
    assert (tmp_path / "precious").read_text() == "untouched"
    assert (out / "mine.txt").read_text() == "kept"
    assert read(out / "00001-x.png.mask.png").shape == (40, 60)
