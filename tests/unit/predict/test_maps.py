"""Maps: their names, their content, and the occlusion sensitivity that they show."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from mean_network import MeanNetwork
from PIL import ImageDraw

from hpc_deepfake.network.card import Card
from hpc_deepfake.predict import explain, maps, output
from preprocessing.ela import Parameters, features_of_pixels
from preprocessing.picture import decode, read

CARD = Card("raw", Parameters(), trained_on={})


@pytest.mark.parametrize("path", [
    b"/x/../../etc/passwd", b"..", b"/a/b/..", b"a/\xff\n\x1b[31m/..\\..\\x.jpg",
    b"/x/" + b"y" * 250, "/x/ü🖼.jpg".encode(), b"/x/.htaccess", b"C:\\con.png", b"x\0y.jpg"])
def test_names_of_maps_stay_in_their_folder(path):
    """Whatever the picture's name, that of its map is a single short component of a path."""
    name = maps.file_name(7, path)
    assert Path(name).name == name and len(name) < 130
    assert name.startswith("00007-") and name.endswith(".png")
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def test_occlusion_shows_which_area_the_network_uses():
    """A network that sees one corner only, and takes bright for tampered: a bright corner is
    evidence for it, a dark one against it, and the rest has no influence."""
    for level, sign in ((220, 1), (20, -1)):
        picture = np.full((128, 128, 3), 120, np.uint8)
        picture[:32, :32] = level
        effect = explain.occlusion(MeanNetwork(corner=True), picture)
        assert effect.shape == (128, 128)
        assert (sign * effect[:32, :32] > 0.01).all()
        assert np.abs(effect[48:]).max() < 1e-12 and np.abs(effect[:, 48:]).max() < 1e-12


@pytest.mark.parametrize("size", [64, 100, 500])
def test_occlusion_at_other_sizes(size):
    """As many patches of the same share of the side cover every pixel; large rows are predicted in
    smaller batches."""
    picture = np.full((size, size, 3), 120, np.uint8)
    picture[:size // 4, :size // 4] = 220
    network = MeanNetwork(corner=True, size=size)
    effect = explain.occlusion(network, picture)
    assert effect.shape == (size, size) and network.predictions == 226
    assert network.most == (2 if size == 500 else 32)
    assert (effect[:size // 4, :size // 4] > 0.01).all()
    outside = size * 3 // 8 + 1
    assert np.abs(effect[outside:]).max() < 1e-12 and np.abs(effect[:, outside:]).max() < 1e-12
    card = Card("raw", Parameters(size=size), trained_on={})
    row = output.Row(b"x.jpg", 0.25, "authentic")
    drawn = maps.explanation(np.full((90, 90, 3), 99, np.uint8), row, card, network)
    assert drawn.size == maps.explanation(np.full((90, 90, 3), 99, np.uint8), row, CARD,
                                          MeanNetwork()).size


def test_occlusion_by_hand():
    """The first 8 × 8 pixels are covered by one patch only, the one in the corner."""
    picture = np.full((128, 128, 3), 120, np.uint8)
    picture[:32, :32] = 220
    cover = round(float(picture.mean()))
    hidden = picture.copy()
    hidden[:16, :16] = cover

    def log_odds(p):
        return np.log(p / (1 - p))

    p, q = (pixels[:32, :32].mean() / 255 for pixels in (picture, hidden))
    effect = explain.occlusion(MeanNetwork(corner=True), picture)
    assert effect[:8, :8] == pytest.approx(log_odds(p) - log_odds(q), abs=1e-9)


def test_certain_predictions_have_finite_log_odds():
    assert np.isfinite(explain.occlusion(MeanNetwork(), np.zeros((128, 128, 3), np.uint8))).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (900, 3), (200, 300)])
def test_maps_of_any_shape(size):
    """Extreme shapes can be drawn, with long and unusual names."""
    pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    for path in (b"x.jpg", "ü🖼\n.jpg".encode() * 40):
        row = output.Row(path, 0.25, "authentic")
        for image in (maps.error_levels(pixels, row, CARD),
                      maps.explanation(pixels, row, CARD, MeanNetwork())):
            assert image.size[0] > 500


def test_maps_of_error_levels_beyond_the_limit_are_reduced(monkeypatch):
    """By a whole factor, which is said; at the limit they have the picture's own size."""
    pixels = np.zeros((300, 400, 3), np.uint8)
    row = output.Row(b"x.jpg", 0.25, "authentic")
    width = {}
    for most in (300 * 400, 300 * 400 - 1, 300 * 400 // 5):
        monkeypatch.setattr(maps, "MOST", most)
        width[most] = maps.error_levels(pixels, row, CARD).size[0]
    assert [*width.values()] == [2 * 400 + 3 * maps._MARGIN] + [2 * 260 + 3 * maps._MARGIN] * 2


def test_influence_has_one_scale_for_all_pictures():
    """A network that is half as sure colours half as much; beyond the scale colours saturate."""
    pixels = np.full((128, 128, 3), 120, np.uint8)
    pixels[:32, :32] = 220
    row = output.Row(b"x.jpg", 0.9, "tampered")

    def red(network) -> int:
        image = np.asarray(maps.explanation(pixels, row, CARD, network)).astype(int)
        right = image[maps._HEAD:maps._HEAD + 400, -maps._MARGIN - 400:-maps._MARGIN]
        return int((right[..., 0] - right[..., 2]).max())

    class Surer(MeanNetwork):
        factor = 1.0

        def predict_on_batch(self, pictures):
            odds = (np.divide(*super().predict_on_batch(pictures).T) ** -self.factor)
            return np.stack([1 / (1 + odds), odds / (1 + odds)], axis=1)

    def of(factor: float) -> int:
        network = Surer(corner=True)
        network.factor = factor
        return red(network)

    assert of(1) == pytest.approx(2 * of(0.5), abs=3) and of(0.5) > 10
    assert of(20) == of(30)  # full colour


def test_a_map_says_what_the_model_is_not_for(monkeypatch):
    """The model's caveats, the reasons for no verdict, and what red means are in the picture; and
    no probability where there is no verdict."""
    written: list[str] = []
    draw = ImageDraw.ImageDraw.text
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda self, place, text, *rest, **more: (
        written.append(text), draw(self, place, text, *rest, **more)))
    card = Card("raw", Parameters(), trained_on={"sample": True})
    row = output.Row(b"x.jpg", 0.991, "unlike training", unlike=("20×20 pixels are few",))
    for image in (lambda: maps.error_levels(np.zeros((20, 20, 3), np.uint8), row, card),
                  lambda: maps.explanation(np.zeros((20, 20, 3), np.uint8), row, card,
                                           MeanNetwork())):
        written.clear()
        image()
        text = " ".join(written)
        assert "not for photographs" in text and "20×20 pixels are few" in text
        assert written[0] == "unlike training" and "99.1%" not in text
    assert "not where the picture was changed" in text


def test_the_map_shows_the_picture_and_its_error_levels(pictures):
    """The left panel is the picture; the right one is bright where the error levels are high."""
    path = sorted((pictures / "Tp").iterdir())[0]
    pixels = decode(read(os.fspath(path)))
    image = np.asarray(maps.error_levels(pixels, output.Row(b"x", 0.9, "tampered"), CARD))
    height, width = pixels.shape[:2]  # at its own size
    left = image[maps._HEAD:maps._HEAD + height, maps._MARGIN:maps._MARGIN + width]
    assert np.array_equal(left, pixels[..., ::-1])
    start = 2 * maps._MARGIN + max(width, 260)
    right = image[maps._HEAD:maps._HEAD + height, start:start + width].astype(float)
    levels = features_of_pixels(pixels, ("ela",), Parameters())[0].astype(float)
    shrunk = cv2.resize(right, (128, 128), interpolation=cv2.INTER_AREA)
    assert np.corrcoef(shrunk.ravel(), levels.ravel())[0, 1] > 0.9
